"""Errors that reach a person: one sentence, and what to do next."""

from agent_daemon.protocol.errors import Problem


class CloudCodeError(Exception):
    """A mistake or lack that a person can mend; `code` is stable, `mend` says how. Exit code 1."""

    def __init__(self, code: str, message: str, mend: str = "", problems: tuple[Problem, ...] = ()) -> None:
        self.code, self.message, self.mend, self.problems = code, message, mend, problems
        super().__init__(f"{code}: {message}" + (f" {mend}" if mend else ""))
