"""The name that a TLS client says it wants to talk to: from the first bytes that it sends (RFC 8446, 6066)."""

from typing import Final

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_RECORD_BYTES: Final = 2**14
# Clients cut a hello into a handful. Each look begins anew: thousands of tiny ones would keep everybody waiting.
_MOST_RECORDS: Final = 64


class TlsError(Exception):
    """This does not begin as TLS does, or names no host."""


class _ShortError(Exception):
    """More bytes are needed."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise _ShortError
        taken, self._at = self._data[self._at : end], end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size: int) -> "_Reader":
        """What follows its own length, of so many bytes."""
        return _Reader(self.take(self.number(size)))

    def take_all(self) -> bytes:
        return self.take(len(self._data) - self._at)

    @property
    def ended(self) -> bool:
        return self._at >= len(self._data)


def server_name(data: bytes) -> str | None:
    """The host in small letters that this ClientHello names; None while more bytes are needed. TlsError.

    A hello may be cut into several records. One without a name is refused: what it reaches is anybody's guess.
    """
    try:
        hello = _Reader(_handshake(data))
    except _ShortError:
        return None
    try:
        return _name_in(hello)
    except _ShortError:
        raise TlsError("its lengths do not fit") from None


def _handshake(data: bytes) -> bytes:
    """The whole ClientHello, out of as many records as it takes; _ShortError."""
    records, message, count = _Reader(data), b"", 0
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        if records.number(1) != _HANDSHAKE or records.number(1) != 3:
            raise TlsError("it is not TLS")
        records.take(1)
        length = records.number(2)
        if not 0 < length <= _RECORD_BYTES:
            raise TlsError("its lengths do not fit")
        message, count = message + records.take(length), count + 1
        if count > _MOST_RECORDS:
            raise TlsError("it is cut into too many records")
        if message[0] != _CLIENT_HELLO:
            raise TlsError("it is not TLS")
    return message[4 : 4 + int.from_bytes(message[1:4], "big")]


def _name_in(hello: _Reader) -> str:
    hello.take(2 + 32)  # version, random
    hello.block(1)  # session id
    hello.block(2)  # cipher suites
    hello.block(1)  # compression
    if hello.ended:
        raise TlsError("it names no host")
    extensions, found = hello.block(2), list[str]()
    while not extensions.ended:
        kind, content = extensions.number(2), extensions.block(2)
        if kind == _SERVER_NAME:
            names = content.block(2)
            while not names.ended:
                if names.number(1) != 0:
                    raise TlsError("it names something else than a host")
                found.append(names.block(2).take_all().decode("latin-1"))
    if len(found) != 1:
        raise TlsError("it names several hosts" if found else "it names no host")
    return found[0].lower()
