"""Where a workstation may connect to: hosts by name with their ports, as configured and as asked for."""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from supervisor.core.addresses import Network
from supervisor.core.egress_sets import CLIS, SETS

NOT_ALLOWED: Final = "E_EGRESS_NOT_ALLOWED"
ADDRESS: Final = "E_EGRESS_ADDRESS"
REQUEST: Final = "E_EGRESS_REQUEST"
BUSY: Final = "E_EGRESS_BUSY"

MAX_HOST_CHARACTERS: Final = 253
_LABEL: Final = re.compile("[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# Resolvers take names that end like this for addresses, in octal and hexadecimal, too.
_NUMBER: Final = re.compile("[0-9]+|0x[0-9a-f]*")
_COLONS: Final = re.compile(r"\[.*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%.*)?")
_PORT: Final = re.compile("[1-9][0-9]{0,4}")


class RefusedError(Exception):
    """Something is not connected to; `code` is stable, the message one sentence for whoever asked."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(f"{code}: {message}")


@dataclass(frozen=True, order=True)
class Target:
    """A host by its name, in small letters and without the dot at its end, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Policy:
    """What one workstation may reach: `host:port`, where a host `*.x.y` is everything below x.y (and not that).

    `networks` are those beyond the public internet to which allowed names may lead.
    """

    allow: frozenset[Target] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, allow: Iterable[str], networks: Iterable[str] = ()) -> "Policy":
        """From what `entry` and `network` take; ValueError for others."""
        return cls(frozenset(entry(text) for text in allow), tuple(ipaddress.ip_network(n) for n in networks))

    def allows(self, target: Target) -> bool:
        """Whether this host and port are on the list, by themselves or by one that stands for all below it."""
        if target in self.allow:
            return True
        labels = target.host.split(".")
        return any(
            Target(f"*.{'.'.join(labels[place:])}", target.port) in self.allow for place in range(1, len(labels))
        )

    def check(self, target: Target) -> None:
        """RefusedError E_EGRESS_NOT_ALLOWED where it is not."""
        if not self.allows(target):
            raise RefusedError(NOT_ALLOWED, f"{target} is not among what this workstation may connect to")


# --- what a program asks for ----------------------------------------------------------------------------


def authority(text: str, usual_port: int | None = None) -> Target:
    """Read ``host:port`` as a request names it; without a port the usual one, if there is one.

    RefusedError: E_EGRESS_ADDRESS for an address in whatever notation, E_EGRESS_REQUEST for what is no host.
    """
    host, colon, port = text.rpartition(":")
    if text.startswith("["):
        raise _address(text)
    if not colon and usual_port is not None:
        host, port = text, str(usual_port)
    if not _PORT.fullmatch(port) or int(port) > 65_535:
        raise RefusedError(REQUEST, f"{shown(text)} is not a host and a port")
    return Target(host_name(host), int(port))


def host_name(text: str) -> str:
    """The name of a host as it is compared: ASCII, in small letters, no dot at its end. RefusedError."""
    name = text.lower().removesuffix(".") if text.isascii() else ""
    labels = name.split(".")
    if _COLONS.fullmatch(text) or _NUMBER.fullmatch(labels[-1]):
        raise _address(text)
    if len(labels) < 2 or len(name) > MAX_HOST_CHARACTERS or not all(map(_LABEL.fullmatch, labels)):
        raise RefusedError(REQUEST, f"{shown(text)} is not the whole name of a host")
    return name


def _address(text: str) -> RefusedError:
    return RefusedError(ADDRESS, f"{shown(text)} is an address: hosts are reached by their names only")


def shown(text: str, longest: int = 80) -> str:
    """A text from outside in printable ASCII, cut to a length."""
    plain = "".join(c if " " <= c < "\x7f" else "?" for c in text[: longest + 1])
    return plain if len(plain) <= longest else plain[: longest - 1] + "~"


# --- what a person configures ---------------------------------------------------------------------------


def entry(text: str) -> Target:
    """Read ``host:port`` or ``*.host:port`` of a configuration; ValueError with what to do."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"'{shown(text)}' needs a port: {shown(text)}:443")
    if not _PORT.fullmatch(port) or int(port) > 65_535:
        raise ValueError(f"'{shown(text)}' needs a port from 1 to 65535 behind its last colon")
    base = host.removeprefix("*.")
    if not base.isascii():
        raise ValueError(f"'{base}' must be written as resolvers know it: {_punycode(base)}:{port}")
    try:
        name = host_name(base)
    except RefusedError as error:
        raise ValueError(f"{error.message}; write host:port, *.host:port, or the name of a set") from None
    return Target(f"*.{name}" if base != host else name, int(port))


def _punycode(host: str) -> str:
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return "xn--…"


def word(text: str) -> str:
    """An item of `egress` unchanged: the name of a set, or an entry; ValueError for others."""
    if text in SETS or text == CLIS:
        return text
    if re.fullmatch("[A-Za-z0-9_-]+", text):
        near = get_close_matches(text.lower(), [*SETS, CLIS], n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted([*SETS, CLIS]))}"
        raise ValueError(f"there is no set '{text}': {hint}")
    entry(text)
    return text


def expand(words: Sequence[str], of_clis: Iterable[str] = ()) -> tuple[str, ...]:
    """The entries that these items of `egress` mean, sorted, each once; `of_clis` are those of the set `clis`."""
    return tuple(sorted({str(entry(text)) for text in _entries(words, of_clis)}))


def _entries(words: Sequence[str], of_clis: Iterable[str]) -> Iterator[str]:
    for text in words:
        if text == CLIS:
            yield from of_clis
        else:
            yield from SETS.get(text, (text,))
