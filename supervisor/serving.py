"""A supervisor in the foreground, from start to end: signals, systemd, another configuration meanwhile."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from loguru import logger

from agent_daemon.protocol.paths import Root
from supervisor.app import Supervisor
from supervisor.config import load_config
from supervisor.core.config_changes import config_changes, told
from supervisor.core.decision import Event, problem_details
from supervisor.core.settings import Config
from supervisor.core.standing import standing
from supervisor.errors import CloudCodeError
from supervisor.running import note_start, running_supervisor
from supervisor.service.notify import Notifier

# Beyond what closing waits for.
JOBS_SECONDS = 60.0
STANDARD_ERROR = 2

Begun = Callable[[Supervisor], None]


@dataclass
class Serving:
    """Runs the supervisor of one root, with the lock held, until a signal ends it or `is_over` says so.

    SIGHUP takes up `config.yaml` as it is now: a configuration that cannot be used is refused, and the former one
    stays in force; with another one the supervisor is closed and built anew in this process, as a restart would.
    """

    root: Root
    config: Config
    notifier: Notifier
    is_over: Callable[[Supervisor], bool] = lambda _: False
    received: list[int] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _asked: threading.Event = field(default_factory=threading.Event, init=False)
    _next: Config | None = field(default=None, init=False)
    _supervisor: Supervisor | None = field(default=None, init=False)
    _terminal: bool = field(default=False, init=False)

    def run(self, began: Begun) -> Supervisor:
        """Serve to the end; `began` is called as soon as the first supervisor works. Returns the last one."""
        self._heed_hangups()
        supervisor = Supervisor(self.root, self.config)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        while True:
            self._serve(supervisor, began)
            if self._next is None:
                return supervisor
            self._await_jobs(supervisor)
            supervisor, began = self._built_anew(self._next), lambda _: None
            self._next = None
            self._stop.clear()

    def _serve(self, supervisor: Supervisor, began: Begun) -> None:
        self._supervisor = supervisor
        supervisor.loop.on_beat = partial(self._beat, supervisor)
        supervisor.loop.on_pass = self.notifier.sign
        if self.received:  # a signal came while it was built
            self._stop.set()

        def ready() -> None:
            self.notifier.ready()
            began(supervisor)

        supervisor.run(self._stop, ready=ready)

    def _heed_hangups(self) -> None:
        """SIGHUP ends it when its terminal is closed; else that means the file, also during a start."""
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            self._terminal = os.isatty(STANDARD_ERROR)
            signal.signal(signal.SIGHUP, self._ask)

    def _end(self, number: int, _frame: object) -> None:
        self.received.append(number)
        self._next = None
        self._stop.set()
        self.notifier.stopping()
        if self._supervisor is not None:
            self._supervisor.inbox.put(("stop",))

    def _ask(self, number: int, frame: object) -> None:
        if self._terminal and not os.isatty(STANDARD_ERROR):  # (what is hung up is no terminal any more)
            self._end(number, frame)
        else:
            self._asked.set()

    def _beat(self, supervisor: Supervisor) -> None:
        """Once a second, in the loop's thread."""
        if self._asked.is_set():
            self._asked.clear()
            self._take_up(supervisor)
        if self.is_over(supervisor):
            self._stop.set()
        if self.notifier.wants_status():
            there = [s for s in supervisor.fleet.stations.values() if s.wanted != "removed"]
            running = sum(station.file.handle is not None for station in there)
            away = any(supervisor.fleet.driver_of(station.file.name).away() for station in there)
            tasks, drained = supervisor.ledger.tasks.values(), supervisor.draining.drained
            self.notifier.status(standing(tasks, running, len(there), drained=drained, engine_away=away))

    def _take_up(self, supervisor: Supervisor) -> None:
        """Look at the file; with another configuration in it this supervisor ends, and a next one follows."""
        self.notifier.reloading()
        try:
            self._read_again(supervisor)
        except CloudCodeError as error:
            self._refuse(supervisor, error)
        finally:
            if self._next is None:
                self.notifier.ready()

    def _read_again(self, supervisor: Supervisor) -> None:
        config, running = load_config(self.root), running_supervisor(self.root)
        changes = config_changes(supervisor.config, config)
        if changes and not self.received:
            self._next = config
            self._stop.set()
        elif running is not None:  # what is in force may have been written in other words
            note_start(self.root, config, running.started_at)
        details = {"changes": list(changes), "message": told(changes) or "it says what it said before"}
        supervisor.ledger.log(Event(name="config.reloaded", details=details, actor="operator"))

    def _await_jobs(self, supervisor: Supervisor) -> None:
        """What is still sent by the former supervisor must not be sent by the next one, too. E_JOBS_LEFT."""
        deadline = time.monotonic() + JOBS_SECONDS
        while supervisor.working:
            if time.monotonic() > deadline:
                raise CloudCodeError(
                    "E_JOBS_LEFT",
                    f"Slow work did not end within {JOBS_SECONDS:.0f} s: the configuration is not taken up.",
                    "Start the supervisor again; as a service it is started by systemd.",
                )
            self.notifier.sign()
            time.sleep(0.05)

    def _built_anew(self, config: Config) -> Supervisor:
        """A supervisor with this configuration, or where it cannot be built, with the former one."""
        try:
            found = Supervisor(self.root, config)
            self.config = config
        except CloudCodeError as error:
            found = Supervisor(self.root, self.config)
            self._refuse(found, error)
        return found

    def _refuse(self, supervisor: Supervisor, error: CloudCodeError) -> None:
        first = problem_details(error.problems[0]) if error.problems else {}
        details = {"code": error.code, "message": str(error), "place": first.get("place"), "mend": error.mend}
        supervisor.ledger.log(Event(name="config.refused", details=details, actor="operator"))
        logger.debug("{}", error)
