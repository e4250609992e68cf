"""The socket of a Docker engine that is a stand-in: what it answers, its test says."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class EngineSocket(socketserver.ThreadingUnixStreamServer):
    """Listens where it is told; serves while `served`."""

    daemon_threads = True
    request_queue_size = 128  # (who finds the queue of a unix socket full, and waits with a limit, is refused)

    def get_request(self) -> tuple[socket.socket, Any]:
        return super().get_request()[0], ("local", 0)

    @contextmanager
    def served(self) -> Iterator[None]:
        with self:
            threading.Thread(target=self.serve_forever, daemon=True).start()
            try:
                yield
            finally:
                self.shutdown()
