"""Counts what the Docker engine is asked: a socket in front of the engine's own, which passes everything on."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

_REQUEST = re.compile(rb"^(?:GET|HEAD|POST|PUT|DELETE) (/\S*) HTTP/1\.1\r$", re.MULTILINE)
_CHUNK = 65_536


class EngineCalls:
    """The paths that were asked for so far, in order."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def since(self, before: int) -> list[str]:
        return self.paths[before:]


@contextlib.contextmanager
def counted(engine: Path, path: Path) -> Iterator[EngineCalls]:
    """Listen on `path` for the time of the block."""
    calls = EngineCalls()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen(64)
        threading.Thread(target=_serve, args=(listening, engine, calls), daemon=True).start()
        try:
            yield calls
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            path.unlink()


def _serve(listening: socket.socket, engine: Path, calls: EngineCalls) -> None:
    with contextlib.suppress(OSError):
        while True:
            asking, _ = listening.accept()
            threading.Thread(target=_serve_one, args=(asking, engine, calls), daemon=True).start()


def _serve_one(asking: socket.socket, engine: Path, calls: EngineCalls) -> None:
    with asking, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as answering:
        answering.connect(str(engine))
        back = threading.Thread(target=_pass_on, args=(answering, asking, None), daemon=True)
        back.start()
        _pass_on(asking, answering, calls.paths)
        back.join()


def _pass_on(source: socket.socket, target: socket.socket, note: list[str] | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            if note is not None:
                note += [path.decode() for path in _REQUEST.findall(data)]
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
