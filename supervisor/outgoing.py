"""The one exit: everything that leaves the supervisor is searched for secrets that it knows, and for tokens.

What is pushed or told in a request is held where one stands in it; in comments, events and the log it is hidden.
"""

import bisect
import itertools
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ahocorasick_rs import BytesAhoCorasick

from agent_daemon.hiding import HIDDEN, forms_of
from agent_daemon.protocol.errors import Problem
from supervisor.packed import Packed

CODE = "E_SECRET_IN_OUTPUT"

# Tokens as their makers document them, long enough to be no words: GitHub, GitLab, Anthropic, OpenAI, AWS, Slack,
# npm, PyPI, age, Vault, Stripe, Google, Hugging Face.
_TOKENS = re.compile(
    rb"\bgh[pousr]_[A-Za-z0-9_.-]{36,}|\bgithub_pat_[A-Za-z0-9_]{50,}"
    rb"|\bgl(?:pat|oas|dt|rtr?|cbt|ptt|ft|imt|agent|soat|ffct|wt)-[A-Za-z0-9_.-]{20,}"
    rb"|\bsk-ant-[A-Za-z0-9_-]{32,}|\bsk-(?:proj|svcacct)-[A-Za-z0-9_-]{32,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    rb"|\bxox[abprs]-[A-Za-z0-9-]{20,}|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"
    rb"|\bAGE-SECRET-KEY-1[A-Z0-9]{50,}|\bhv[sbr]\.[A-Za-z0-9_-]{24,}|\bsk_live_[A-Za-z0-9]{20,}"
    rb"|\bAIza[A-Za-z0-9_-]{35}\b|\bhf_[A-Za-z0-9]{34}\b"
)
# The beginning of a token is enough to find it: so much is looked at again with the next chunk.
_TOKEN_BYTES = 128
# Left out before a value is looked for: what breaks a long text over lines, quotes it for a shell or within other
# quotes, and the halves of UTF-16 that hold nothing.
_FOLDED = b" \t\r\n\\\"'\0"
# What is shorter than this without them is looked for as it is.
_LEAST_FOLDED = 8
_BLOCK_BYTES = 4096


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
        known = self._now()
        outside, inside = (_Search(known, self._hold_tokens) for _ in range(2))
        packed = Packed()
        for chunk in content:
            found = outside.find(chunk) or next(filter(None, map(inside.find, packed.feed(chunk))), None)
            if found is not None:
                return found
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


class _Search:
    """One text, looked through chunk by chunk."""

    def __init__(self, known: "_Known", hold_tokens: bool) -> None:
        self._known, self._hold_tokens = known, hold_tokens
        self._rest = self._folded = b""

    def find(self, chunk: bytes) -> Problem | None:
        data, folded = self._rest + chunk, self._folded + _fold(chunk)
        name = self._known.first(data, folded)
        if name is not None:
            return _problem(f"The value of {name} would leave.", "look whether it has to be revoked")
        if self._hold_tokens and _TOKENS.search(data):
            return _problem("Something that looks like a token would leave.", "see `secrets.hold_tokens`")
        self._rest, self._folded = data[-_TOKEN_BYTES:], folded[-max(self._known.longest, 1) :]
        return None


class _Known:
    """The forms of some values, made to be searched for all at once (Aho and Corasick), in folded text."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)
        named = {form: name for name, value in self.values.items() for form in forms_of(value)}
        folded = {_fold(form): name for form, name in named.items()}
        self._folded = _Forms({form: name for form, name in folded.items() if len(form) >= _LEAST_FOLDED})
        self._plain = _Forms({form: name for form, name in named.items() if len(_fold(form)) < _LEAST_FOLDED})
        self.longest = self._folded.longest

    def first(self, data: bytes, folded: bytes) -> str | None:
        """The name of a value that stands in the data."""
        return self._folded.first(folded) or self._plain.first(data)

    def without(self, data: bytes) -> bytes:
        places = self._plain.places(data)
        found = self._folded.places(_fold(data))
        if found:
            before = _Unfolded(data)
            places = sorted([*places, *((before.at(start), before.at(stop - 1) + 1) for start, stop in found)])
        parts, done = list[bytes](), 0
        for start, stop in places:
            if start >= done:
                parts += [data[done:start], HIDDEN]
            done = max(done, stop)
        return b"".join([*parts, data[done:]]) if places else data


class _Forms:
    """Texts with the names of the values that they stand for."""

    def __init__(self, named: Mapping[bytes, str]) -> None:
        self._names = list(named.values())
        self._automaton = BytesAhoCorasick(list(named)) if named else None
        self.longest = max(map(len, named), default=0)

    def first(self, data: bytes) -> str | None:
        found = self._automaton.find_matches_as_indexes(data) if self._automaton is not None else ()
        return self._names[found[0][0]] if found else None

    def places(self, data: bytes) -> list[tuple[int, int]]:
        """Where they stand, in order, overlapping."""
        if self._automaton is None:
            return []
        found = self._automaton.find_matches_as_indexes(data, overlapping=True)
        return sorted((start, stop) for _, start, stop in found)


class _Unfolded:
    """Where the bytes of a folded text are in the text itself."""

    def __init__(self, data: bytes) -> None:
        self._blocks = [data[at : at + _BLOCK_BYTES] for at in range(0, len(data), _BLOCK_BYTES)]
        self._starts = [0, *itertools.accumulate(len(_fold(block)) for block in self._blocks)]

    def at(self, place: int) -> int:
        number = bisect.bisect_right(self._starts, place) - 1
        kept = (at for at, byte in enumerate(self._blocks[number]) if byte not in _FOLDED)
        inside = next(itertools.islice(kept, place - self._starts[number], None))
        return number * _BLOCK_BYTES + inside


def _fold(data: bytes) -> bytes:
    return data.translate(None, _FOLDED)


def _problem(message: str, hint: str) -> Problem:
    mend = f"Take it out of every commit and of the report; {hint}."
    return Problem(code=CODE, message=message, expected="no secret in what is handed in", mend=mend)
