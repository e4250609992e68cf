"""Values that were handed over in secret, taken out of what a program prints before anything of it is kept.

A value is found as it is, as JSON writes it, in base64 at any place of a longer text, percent-encoded and in
hexadecimal digits, wherever the chunks of a stream are cut. What a program encodes in another way, breaks over
lines or cuts short is not found.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus

HIDDEN = b"[hidden]"
# Shorter values would be found in harmless words.
_LEAST_BYTES = 8
# Parts of a value, such as a token inside JSON, must be longer to count.
_LEAST_PART_BYTES = 16
_LOOKS_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH(?!OR)", re.IGNORECASE)
_PLAIN_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^@?]*", re.IGNORECASE)


class Mask:
    """The forms of some secret values; `hide` takes them out of a whole text, `stream` out of a stream."""

    def __init__(self, values: Iterable[str]) -> None:
        self._forms: list[bytes] = []
        self.add(values)

    def add(self, values: Iterable[str]) -> None:
        """More values, which are hidden from now on, in streams under way, too."""
        found = {form for value in values for form in forms_of(value)} | {*self._forms}
        self._forms = sorted(found, key=len, reverse=True)
        self._over_lines = any(b"\n" in form for form in self._forms)

    def __bool__(self) -> bool:
        return bool(self._forms)

    def hide(self, text: str) -> str:
        """The text without the values."""
        data = text.encode("utf-8", "surrogateescape")
        return self.hide_bytes(data).decode("utf-8", "surrogateescape")

    def hide_bytes(self, data: bytes) -> bytes:
        return _without(data, self._places(data))

    def stream(self) -> "MaskedStream":
        return MaskedStream(self)

    def cut(self, data: bytes) -> tuple[bytes, bytes]:
        """What can be told of the data, without the values, and the end that may be the beginning of one."""
        places = self._places(data)
        end = len(data) - self._begun(data)
        # A value that lies across the cut is kept whole for the next time.
        end = next((start for start, stop in places if start < end < stop), end)
        return _without(data[:end], [place for place in places if place[1] <= end]), data[end:]

    def _begun(self, data: bytes) -> int:
        """How many bytes at the end are the beginning of a value, at most."""
        if not self._over_lines and data.endswith(b"\n"):
            return 0
        return max((_begun(data, form) for form in self._forms), default=0)

    def _places(self, data: bytes) -> list[tuple[int, int]]:
        """Where values are, in order; those that overlap are one."""
        found = sorted((at, at + len(form)) for form in self._forms for at in _occurrences(data, form))
        places: list[tuple[int, int]] = []
        for start, stop in found:
            if places and start < places[-1][1]:
                places[-1] = (places[-1][0], max(stop, places[-1][1]))
            else:
                places.append((start, stop))
        return places


class MaskedStream:
    """A stream without the values, however its chunks are cut: what is fed comes out at once or a little later."""

    def __init__(self, mask: Mask) -> None:
        self._mask, self._held = mask, b""

    def feed(self, chunk: bytes) -> bytes:
        if not self._mask:
            return chunk
        told, self._held = self._mask.cut(self._held + chunk)
        return told

    def finish(self) -> bytes:
        """What was kept back until now."""
        rest, self._held = self._held, b""
        return self._mask.hide_bytes(rest)


def mask_of(environment: Mapping[str, str], handed_over: Iterable[str]) -> Mask:
    """A mask of the secrets in an environment: what was `handed_over` by name, and what has a telling name.

    A path or an address without a user in it is none, whatever hands it over.
    """
    passed = {name: environment[name] for name in handed_over if name in environment}
    secret = {name: value for name, value in environment.items() if looks_secret(name)}
    return Mask(value for value in (passed | secret).values() if not _is_harmless(value))


def looks_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret, by its name."""
    # (git's own variables for the names of settings)
    return _LOOKS_SECRET.search(name) is not None and not name.startswith("GIT_CONFIG_KEY_")


def _is_harmless(value: str) -> bool:
    return value.startswith("/") or _PLAIN_ADDRESS.fullmatch(value) is not None


def _occurrences(data: bytes, form: bytes) -> Iterator[int]:
    at = data.find(form)
    while at >= 0:
        yield at
        at = data.find(form, at + 1)


def _begun(data: bytes, form: bytes) -> int:
    """How many bytes at the end are the beginning of the form, and not all of it, at most."""
    tail = data[1 - len(form) :]
    return next((len(tail) - at for at in _occurrences(tail, form[:1]) if form.startswith(tail[at:])), 0)


def _without(data: bytes, places: list[tuple[int, int]]) -> bytes:
    if not places:
        return data
    parts, done = list[bytes](), 0
    for start, stop in places:
        parts += [data[done:start], HIDDEN]
        done = stop
    return b"".join([*parts, data[done:]])


def forms_of(value: str) -> Iterator[bytes]:
    """How a value may be written. One of digits alone is too like a number to be searched for."""
    for text in (value, *_parts(value)):
        data = text.encode("utf-8", "surrogateescape")
        if len(data) < _LEAST_BYTES or text.isdigit():
            continue
        yield data
        yield data.hex().encode()
        yield data.hex().upper().encode()
        yield quote(data, safe="").encode()
        yield quote(data).encode()
        yield quote_plus(data).encode()
        yield from _in_base64(data)
        for ascii_only in (True, False):
            yield json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogatepass")


def _parts(value: str) -> Iterator[str]:
    """Long lines of a value that has several, and long texts in one that is JSON."""
    pieces = value.splitlines() if "\n" in value else []
    try:
        known = json.loads(value) if value.startswith("{") else {}
    except ValueError:
        known = {}
    pieces += [text for text in known.values() if isinstance(text, str)]
    yield from (piece for piece in pieces if len(piece) >= _LEAST_PART_BYTES and not _is_harmless(piece))


def _in_base64(data: bytes) -> Iterator[bytes]:
    """The characters that stand for the data alone, at each of three places within a longer text."""
    for before in range(3):
        first = (before * 8 + 5) // 6  # characters that also hold bits of what comes before
        last = (before + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(before) + data)[first:last]
