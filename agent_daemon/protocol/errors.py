"""What went wrong with something that was read: one value, shown to people and sent back to the writer."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that could not be accepted, in the form that every surface shows.

    `code` is stable (``E_…``); `message` is one sentence; `line` counts from 1; `place` is a path
    inside the document such as ``tasks.acme.42.status``; `mend` says what the writer should do.
    """

    code: str
    message: str
    file: str = ""
    line: int | None = None
    place: str = ""
    expected: str = ""
    mend: str = ""

    def __str__(self) -> str:
        where = self.file + (f":{self.line}" if self.line else "")
        at = f" ({self.place})" if self.place else ""
        parts = [f"{where + ': ' if where else ''}{self.code}: {self.message}{at}"]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.mend:
            parts.append(self.mend)
        return "; ".join(parts)


class ProtocolError(Exception):
    """A file of the protocol could not be read or accepted; `problems` says why, never empty."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))

    @property
    def problem(self) -> Problem:
        return self.problems[0]
