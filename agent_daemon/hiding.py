"""Values that were handed over in secret, taken out of what a program prints before anything of it is kept.

A value is found as it is, as JSON and HTML write it, in base64 at any place of a longer text, percent-encoded and
in hexadecimal digits, wherever the chunks of a stream are cut; of what holds others (an address, JSON, several
lines) so are the secret parts. What a program encodes in another way, breaks over lines or cuts short is not
found.
"""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

HIDDEN = b"[hidden]"
# Shorter values would be found in harmless words.
_LEAST_BYTES = 8
# Digits alone are a number, a time or a port, unless there are many.
_LEAST_DIGITS = 12
# Parts of a value, such as a token inside JSON, must be longer to count.
_LEAST_PART_BYTES = 16
# The password in an address, and what a connection string or a settings file calls one.
_PASSWORDS = re.compile(
    r"[a-z][a-z0-9+.-]*://[^\s/:@]*:(?P<address>[^\s/@]+)@"
    r"|(?:passw(?:or)?d|pwd|token|secret)[\"']?\s*=\s*[\"']?(?P<said>[^\s;&\"']+)",
    re.IGNORECASE,
)
# What the browsers' and Node's encodeURIComponent leaves as it is, and Python's `quote` does not.
_LEFT_BY_SCRIPTS = "!'()*"
_LOOKS_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH(?!OR)", re.IGNORECASE)
_PLAIN_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^@?]*", re.IGNORECASE)


class Mask:
    """The forms of some secret values; `hide` takes them out of a whole text, `stream` out of a stream."""

    def __init__(self, values: Iterable[str]) -> None:
        self._forms: list[bytes] = []
        self.changes = 0  # how often something was added
        self.add(values)

    def add(self, values: Iterable[str]) -> None:
        """More values, which are hidden from now on, in streams under way, too."""
        self._take(form for value in values for form in forms_of(value))

    def add_all(self, other: "Mask") -> None:
        """Hide what the other mask hides now."""
        self._take(other._forms)

    def _take(self, forms: Iterable[bytes]) -> None:
        self._forms = sorted({*forms, *self._forms}, key=len, reverse=True)
        self.changes += 1
        self._over_lines = any(b"\n" in form for form in self._forms)

    def __bool__(self) -> bool:
        return bool(self._forms)

    def hide(self, text: str) -> str:
        """The text without the values."""
        data = text.encode("utf-8", "surrogateescape")
        return self.hide_bytes(data).decode("utf-8", "surrogateescape")

    def hide_bytes(self, data: bytes) -> bytes:
        return _without(data, self._places(data))

    def hides(self, data: bytes) -> bool:
        """Whether a value stands in the data."""
        return any(form in data for form in self._forms)

    def blank(self, data: bytes) -> bytes:
        """The data with stars in place of the values: as long as before, for files that count their bytes."""
        blanked = bytearray(data)
        for start, stop in self._places(data):
            blanked[start:stop] = b"*" * (stop - start)
        return bytes(blanked)

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
    """A mask of the secrets in an environment: what was `handed_over` by name, and what `secrets_in` it finds."""
    passed = {name: environment[name] for name in handed_over if name in environment}
    secret = secrets_in(environment) | {n: value for n, value in passed.items() if not _is_harmless(value)}
    return Mask(secret.values())


def secrets_in(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that hold secrets: by their names, or as an address with a password in it.

    A path or an address without a user in it is none, whatever its name.
    """
    return {
        name: value
        for name, value in environment.items()
        if (looks_secret(name) or _PASSWORDS.match(value)) and not _is_harmless(value)
    }


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


def is_searched_for(value: str) -> bool:
    """Whether a value is long enough to be told from harmless text."""
    return len(value.encode("utf-8", "surrogateescape")) >= _LEAST_BYTES and not (
        value.isdigit() and len(value) < _LEAST_DIGITS
    )


def forms_of(value: str) -> Iterator[bytes]:
    """How a value, or a part of it that counts, may be written. A short number is too like others to be one."""
    for text in (value, *_parts(value)):
        if not is_searched_for(text):
            continue
        data = text.encode("utf-8", "surrogateescape")
        yield data
        yield data.hex().encode()
        yield data.hex().upper().encode()
        yield from _percent_encoded(data)
        yield from _in_base64(data)
        yield from _over_lines(data)
        yield html.escape(text).encode("utf-8", "surrogateescape")
        yield html.escape(text, quote=False).encode("utf-8", "surrogateescape")
        for ascii_only in (True, False):
            yield json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogatepass")


def _percent_encoded(data: bytes) -> Iterator[bytes]:
    """As the usual libraries do it, with large digits and with small ones."""
    for text in (quote(data, safe=""), quote(data), quote_plus(data), quote(data, safe=_LEFT_BY_SCRIPTS)):
        yield text.encode()
        yield re.sub("%..", lambda escape: escape[0].lower(), text).encode()


def _parts(value: str) -> Iterator[str]:
    """Long lines of a value that has several, long texts in one that is JSON, and passwords."""
    try:
        known = json.loads(value) if value.startswith("{") else {}
    except (ValueError, RecursionError):
        known = {}
    texts = [value, *_texts_in(known)]
    pieces = [*texts[1:], *(line for text in texts if "\n" in text for line in text.splitlines())]
    yield from (piece for piece in pieces if len(piece) >= _LEAST_PART_BYTES and not _is_harmless(piece))
    for match in _PASSWORDS.finditer(value):
        found = match["address"] or match["said"]
        if len(found) >= _LEAST_PART_BYTES or not found.isalpha():  # (`postgres` is no secret to anybody)
            yield found
            yield unquote(found)


def _texts_in(known: Any) -> Iterator[str]:
    if isinstance(known, str):
        yield known
    elif isinstance(known, dict | list):
        for item in known.values() if isinstance(known, dict) else known:
            yield from _texts_in(item)


def _in_base64(data: bytes) -> Iterator[bytes]:
    """The characters that stand for the data alone, at each of three places within a longer text."""
    for before in range(3):
        first = (before * 8 + 5) // 6  # characters that also hold bits of what comes before
        last = (before + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(before) + data)[first:last]


def _over_lines(data: bytes) -> Iterator[bytes]:
    """The lines as `base64`, `openssl base64` and `xxd -p` write what is longer than one."""
    for text, widths in ((base64.b64encode(data), (76, 64)), (data.hex().encode(), (60,))):
        for width in widths:
            lines = [text[at : at + width] for at in range(0, len(text), width)]
            yield from (line for line in lines if len(line) >= _LEAST_PART_BYTES and len(lines) > 1)
