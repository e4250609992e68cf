"""What is packed in a file as gzip and zip do it (`.tgz`, `.whl`, `.jar`, `.docx`), piece by piece. Pure.

One level deep, and no more than a bomb is worth: what is beyond is not looked at.
"""

import struct
import zlib
from collections.abc import Iterator

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
# Of so many bytes, and so many times what was read, at most is told what they hold.
_LEAST_BYTES, _TIMES = 1024 * 1024, 10
_PIECE_BYTES = 64 * 1024
# So many parts, and damaged ones, are looked at of a file that may be made to cost time.
_MOST_PARTS, _MOST_DAMAGED = 5000, 8
# A member's header (APPNOTE.TXT 4.3.7): its method, and how long its name and what else it carries are.
_HEADER = struct.Struct("<4s4xH16xHH")
_DEFLATED = 8


class Packed:
    """Fed with the chunks of a file, tells what is packed in them; nothing for a file that is no archive."""

    def __init__(self) -> None:
        self._held, self._kind = b"", b""
        self._inside: zlib._Decompress | None = None
        self._read = self._told = self._parts = self._damaged = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What is in this chunk, and what was before it, as far as it can be told by now."""
        self._read += len(chunk)
        self._held += chunk
        if not self._kind and len(self._held) >= len(_ZIP):
            self._kind = next((kind for kind in (_GZIP, _ZIP) if self._held.startswith(kind)), b"-")
        if self._kind in (b"", b"-"):
            self._held = self._held[: len(_ZIP)] if self._kind else self._held
            return
        while self._inside is not None or self._begin():
            yield from self._unpack()
            if self._inside is not None:
                return

    def _begin(self) -> bool:
        """Whether another part of the archive begins in what is held; that is held from its content on."""
        while (at := self._held.find(self._kind)) >= 0:
            self._held = self._held[at:]
            self._parts += 1
            if self._parts > _MOST_PARTS or self._damaged > _MOST_DAMAGED:
                self._kind, self._held = b"-", b""
                return False
            if self._kind == _GZIP:
                self._inside = zlib.decompressobj(31)
                return True
            if len(self._held) < _HEADER.size:
                return False
            _, method, name, more = _HEADER.unpack_from(self._held)
            if len(self._held) < _HEADER.size + name + more:
                return False
            self._held = self._held[_HEADER.size + name + more :]
            if method == _DEFLATED:  # (else it stands there as it is)
                self._inside = zlib.decompressobj(-zlib.MAX_WBITS)
                return True
        self._held = self._held[1 - len(self._kind) :]
        return False

    def _unpack(self) -> Iterator[bytes]:
        """Some pieces of this part; it is over where it ends, is damaged, or too much was told."""
        inside = self._inside
        while inside is not None and self._held:
            try:
                piece = inside.decompress(self._held, _PIECE_BYTES)
            except zlib.error:
                self._held, self._inside = self._held[1:], None
                self._damaged += 1
                return
            self._held, self._told = inside.unconsumed_tail, self._told + len(piece)
            yield piece
            if inside.eof:
                self._held, self._inside = inside.unused_data, None
                return
            if self._told > _LEAST_BYTES + _TIMES * self._read:
                self._kind, self._held, self._inside = b"-", b"", None
                return
            if not piece and not self._held:
                return
