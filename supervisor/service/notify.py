"""Telling systemd how this process does (sd_notify(3)): a few datagrams, and nothing where nobody listens."""

import os
import socket
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field

# So many signs of life are sent in the time after which systemd takes the process for hung.
SIGNS_PER_INTERVAL = 4
STATUS_SECONDS = 5.0
# A start that goes on may take so much longer from each sign on (`TimeoutStartSec` of the unit).
BEGINNING_SECONDS = 120.0


@dataclass
class Notifier:
    """Who listens: `address` is empty where nobody does; without `watchdog_seconds` no sign of life is awaited."""

    address: str = ""
    watchdog_seconds: float | None = None
    _begins: bool = field(default=True, init=False)
    _signed_at: float = field(default=-1e9, init=False)
    _status: str = field(default="", init=False)
    _status_at: float = field(default=-1e9, init=False)

    @classmethod
    def taken_from(cls, environment: MutableMapping[str, str]) -> "Notifier":
        """Who the environment names; the names are taken out of it, for this process alone is meant."""
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        meant = microseconds.isdecimal() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
        return cls(address=address, watchdog_seconds=int(microseconds) / 1e6 if meant else None)

    def ready(self) -> None:
        """The start, or the taking up of another configuration, is over."""
        self._begins = False
        self._send("READY=1")

    def reloading(self) -> None:
        self._begins = True
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=finishing what is under way; agents go on working")

    def sign(self) -> None:
        """The work goes on, or the start, which may take its time then. Call it wherever, as often as it does."""
        now = time.monotonic()
        wait = self.watchdog_seconds / SIGNS_PER_INTERVAL if self.watchdog_seconds else STATUS_SECONDS
        if (self.watchdog_seconds or self._begins) and now - self._signed_at >= wait:
            self._signed_at = now
            longer = [f"EXTEND_TIMEOUT_USEC={int(BEGINNING_SECONDS * 1e6)}"] if self._begins else []
            self._send("WATCHDOG=1", *longer)

    def status(self, text: str) -> None:
        """One line for `systemctl status`, sent when it has changed, and not more often than every few seconds."""
        now = time.monotonic()
        if text != self._status and now - self._status_at >= STATUS_SECONDS:
            self._status, self._status_at = text, now
            self._send(f"STATUS={text}")

    def wants_status(self) -> bool:
        """Whether one would be sent now: it is worth computing."""
        return bool(self.address) and time.monotonic() - self._status_at >= STATUS_SECONDS

    def _send(self, *lines: str) -> None:
        if not self.address.startswith(("/", "@")):
            return
        place = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(1)
                sender.connect(place)
                sender.send("\n".join(lines).encode())
        except OSError:
            return  # whoever listened has gone: nobody is to be told
