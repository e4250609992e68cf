"""What stand-ins for servers share: HTTP on a free port of this machine while a context lasts."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # where more wait to be taken in than this, the kernel drops them, and they try again


class Served:
    """Use as a context manager. The requests' handler finds what it belongs to as `served`."""

    tls: ssl.SSLContext | None = None

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """What answers."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        bound = type("Handler", (self.handler(),), {"served": self})
        self._server = _Server(("127.0.0.1", 0), bound)
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls is not None else 'http'}://127.0.0.1:{self._server.server_port}"
