"""Wake-ups from the file system. They are hints: the sweep is the truth, and a lost one costs one interval."""

import os
import queue
from pathlib import Path

from loguru import logger
from watchdog.events import (
    FileAttribEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from agent_daemon.protocol.paths import WORKSTATION
from supervisor.pool import Message

# Opening a folder to read it is an event too: the supervisor must not wake itself.
_KINDS: list[type[FileSystemEvent]] = [
    FileAttribEvent,
    FileModifiedEvent,
    FileCreatedEvent,
    FileMovedEvent,
]
# What need not be noticed sooner than by the sweep: files under their temporary names, and the heartbeat.
_QUIET = (".", WORKSTATION)


class _Poster(FileSystemEventHandler):
    """Posts one message for any event in a folder but those of the files in `_QUIET`."""

    def __init__(self, inbox: "queue.SimpleQueue[Message]", message: Message) -> None:
        self._inbox, self._message = inbox, message

    def on_any_event(self, event: FileSystemEvent) -> None:
        path = os.fsdecode(event.dest_path or event.src_path)
        if not path.rpartition("/")[2].startswith(_QUIET):
            self._inbox.put(self._message)


class Watcher:
    """Watches folders, none of them recursively. Where the system cannot watch, the sweep alone carries on."""

    def __init__(self, inbox: "queue.SimpleQueue[Message]") -> None:
        self._inbox = inbox
        self._observer = Observer()
        self._started = False

    def start(self) -> None:
        try:
            self._observer.start()
            self._started = True
        except OSError as error:
            logger.warning("no file events ({}): changes are noticed by the sweep, within about a second", error)

    def watch(self, folder: Path, message: Message) -> None:
        """Post `message` on any change in `folder`."""
        try:
            self._observer.schedule(_Poster(self._inbox, message), str(folder), event_filter=_KINDS)
        except OSError as error:
            logger.warning("{} cannot be watched ({}): the sweep looks after it", folder, error)

    def stop(self) -> None:
        if self._started:
            self._observer.stop()
            self._observer.join(timeout=5)
