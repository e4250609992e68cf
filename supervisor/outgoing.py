"""The one exit: everything that leaves the supervisor is searched for secrets that it knows, and for tokens.

What is pushed or told in a request is held where one stands in it; in comments, events and the log it is hidden.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ahocorasick_rs import BytesAhoCorasick

from agent_daemon.hiding import HIDDEN, forms_of
from agent_daemon.protocol.errors import Problem

CODE = "E_SECRET_IN_OUTPUT"

# Tokens as their makers document them, long enough to be no words: GitHub, GitLab, Anthropic, OpenAI, AWS, Slack,
# npm, PyPI, age.
_TOKENS = re.compile(
    rb"\bgh[pousr]_[A-Za-z0-9_.-]{36,}|\bgithub_pat_[A-Za-z0-9_]{50,}|\bgl(?:pat|dt|rt|ptt|cbt)-[A-Za-z0-9_.-]{20,}"
    rb"|\bsk-ant-[A-Za-z0-9_-]{32,}|\bsk-(?:proj|svcacct)-[A-Za-z0-9_-]{32,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    rb"|\bxox[abprs]-[A-Za-z0-9-]{20,}|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"
    rb"|\bAGE-SECRET-KEY-1[A-Z0-9]{50,}"
)
# The beginning of a token is enough to find it: so much is looked at again with the next chunk.
_TOKEN_BYTES = 128


class Outgoing:
    """Searches what leaves. `read_values` tells the secrets that are known now by the names that people know.

    `learn` makes sure that it can tell all of them before something is pushed; CloudCodeError where it cannot.
    `hold_tokens`: what looks like a token is held from being pushed although it is none of ours.
    """

    def __init__(
        self,
        read_values: Callable[[], Mapping[str, str]],
        *,
        hold_tokens: bool = True,
        learn: Callable[[], None] = lambda: None,
    ) -> None:
        self._read_values, self._hold_tokens, self._learn = read_values, hold_tokens, learn
        self._lock = threading.Lock()
        self._known = _Known({})

    def scan(self, content: Iterator[bytes]) -> Problem | None:
        """What must not leave in this content, or None; see `ports.Scan`."""
        self._learn()
        known, rest = self._now(), b""
        for chunk in content:
            data = rest + chunk
            name = known.first(data)
            if name is not None:
                return _problem(f"The value of {name} would leave.", "look whether it has to be revoked")
            if self._hold_tokens and _TOKENS.search(data):
                return _problem("Something that looks like a token would leave.", "see `secrets.hold_tokens`")
            rest = data[-max(known.longest, _TOKEN_BYTES) :]
        return None

    def hide(self, text: str) -> str:
        """The text without the values and the tokens in it."""
        data = text.encode("utf-8", "surrogatepass")
        hidden = _TOKENS.sub(HIDDEN, self._now().without(data))
        return text if hidden == data else hidden.decode("utf-8", "surrogatepass")

    def hide_in(self, value: Any) -> Any:
        """JSON data without them: in every text, names of keys apart."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping):
            return {key: self.hide_in(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide_in(item) for item in value]
        return value

    def _now(self) -> "_Known":
        values = self._read_values()
        with self._lock:
            if values != self._known.values:
                self._known = _Known(values)
            return self._known


class _Known:
    """The forms of some values, made to be searched for all at once (Aho and Corasick)."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)
        named = {form: name for name, value in self.values.items() for form in forms_of(value)}
        self._forms, self._names = list(named), list(named.values())
        self._automaton = BytesAhoCorasick(self._forms) if named else None
        self.longest = max(map(len, self._forms), default=0)

    def first(self, data: bytes) -> str | None:
        """The name of a value that stands in the data."""
        if self._automaton is None:
            return None
        found = self._automaton.find_matches_as_indexes(data)
        return self._names[found[0][0]] if found else None

    def without(self, data: bytes) -> bytes:
        if self._automaton is None:
            return data
        parts, done = list[bytes](), 0
        for _, start, end in sorted(
            self._automaton.find_matches_as_indexes(data, overlapping=True), key=_by_place
        ):
            if start >= done:
                parts += [data[done:start], HIDDEN]
            done = max(done, end)
        return b"".join([*parts, data[done:]])


def _by_place(match: tuple[int, int, int]) -> int:
    return match[1]


def _problem(message: str, hint: str) -> Problem:
    mend = f"Take it out of every commit and of the report; {hint}."
    return Problem(code=CODE, message=message, expected="no secret in what is handed in", mend=mend)
