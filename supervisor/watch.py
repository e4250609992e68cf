"""Wake-ups from the file system. They are hints: the sweep is the truth, and a lost one costs one interval.

Straight from inotify, each folder with a kernel queue of its own: a workstation that makes a million events
fills its own queue, costs a few readings a second, and delays nobody else's bell.
"""

import ctypes
import os
import queue
import select
import struct
import threading
import time
from pathlib import Path

from loguru import logger

from agent_daemon.protocol.paths import WORKSTATION
from supervisor.pool import Message

# Opening a folder to read it could be an event too: the supervisor must not wake itself. (Numbers: inotify(7).)
_MODIFY, _ATTRIB, _MOVED_TO, _CREATE = 0x2, 0x4, 0x80, 0x100
_MASK = _MODIFY | _ATTRIB | _MOVED_TO | _CREATE
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
# What need not be noticed sooner than by the sweep: files under their temporary names, and the heartbeat.
_QUIET = (b".", os.fsencode(WORKSTATION))
_READ_BYTES = 16 * 1024
_STORM_BYTES = 15 * 1024  # some 450 events since the last look
_REST_SECONDS = 0.1


class Watcher:
    """Watches folders, none of them recursively. Where the system cannot watch, the sweep alone carries on."""

    def __init__(self, inbox: "queue.SimpleQueue[Message]") -> None:
        self._inbox = inbox
        self._messages: dict[int, Message] = {}
        self._poll = select.epoll()
        self._ending, self._end = os.pipe()
        self._poll.register(self._ending, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def watch(self, folder: Path, message: Message) -> None:
        """Post `message` on any change in `folder`."""
        try:
            descriptor = _open(folder)
        except OSError as error:
            logger.warning("{} cannot be watched ({}): the sweep looks after it", folder, error.strerror)
            return
        self._messages[descriptor] = message
        self._poll.register(descriptor, select.EPOLLIN)

    def stop(self) -> None:
        os.write(self._end, b".")
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._poll.close()
        for descriptor in (*self._messages, self._ending, self._end):
            os.close(descriptor)

    def _run(self) -> None:
        resting: dict[int, float] = {}
        while True:
            for descriptor, _ in self._poll.poll(_REST_SECONDS if resting else None):
                if descriptor == self._ending:
                    return
                found = os.read(descriptor, _READ_BYTES)
                if _is_news(found):
                    self._inbox.put(self._messages[descriptor])
                if len(found) > _STORM_BYTES:
                    self._poll.modify(descriptor, 0)
                    resting[descriptor] = time.monotonic() + _REST_SECONDS
            for descriptor in [one for one, until in resting.items() if until <= time.monotonic()]:
                del resting[descriptor]
                self._poll.modify(descriptor, select.EPOLLIN)


def _open(folder: Path) -> int:
    """A descriptor that tells of changes in the folder; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(number := ctypes.get_errno(), os.strerror(number))
    if libc.inotify_add_watch(descriptor, os.fsencode(folder), _MASK) < 0:
        number = ctypes.get_errno()
        os.close(descriptor)
        raise OSError(number, os.strerror(number))
    return int(descriptor)


def _is_news(events: bytes) -> bool:
    """Whether one of the events is of a file that matters; a queue that ran over (no name) does."""
    position = 0
    while position < len(events):
        *_, length = _EVENT.unpack_from(events, position)
        position += _EVENT.size + length
        if not events[position - length : position].startswith(_QUIET):
            return True
    return False
