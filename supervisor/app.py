"""Wires the supervisor of one root: the only place that knows all adapters."""

import contextlib
import os
import queue
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from loguru import logger

from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.paths import Root
from supervisor import __version__, log, spool
from supervisor.cleaning import Cleaning
from supervisor.clearing import Clearing
from supervisor.clock import Clock
from supervisor.config import load_config
from supervisor.config_watch import ConfigWatch
from supervisor.core.decision import Event
from supervisor.core.record import TaskRecord
from supervisor.core.settings import Config
from supervisor.desks import open_desks
from supervisor.disk import DiskWatch
from supervisor.draining import Draining
from supervisor.edits import Edits
from supervisor.egress.news import RefusedNews
from supervisor.errors import CloudCodeError, refuse_root_in, writing
from supervisor.events import EventLog
from supervisor.fleet import Fleet
from supervisor.forges.opening import Forges
from supervisor.forges.task_folder import TaskFolder
from supervisor.forges.tokens import ReadSecret
from supervisor.git.command import end_leftovers
from supervisor.git.mirror import Mirror
from supervisor.issues import Issues
from supervisor.jobs.maintenance import maintain_mirror
from supervisor.jobs.project import Project
from supervisor.ledger import Ledger
from supervisor.lending import Lending
from supervisor.loop import Loop
from supervisor.mail import Mail
from supervisor.outgoing import Outgoing
from supervisor.people import People
from supervisor.pool import JobPool, Lanes, Message
from supervisor.pools import Pools
from supervisor.ports import Minter, Workstations
from supervisor.reader import is_locked
from supervisor.records import RecordStore
from supervisor.recovery import recover
from supervisor.renewal import Renewal
from supervisor.replies import Replies
from supervisor.reports import Reports
from supervisor.root_identity import next_epoch
from supervisor.rounds import Rounds
from supervisor.running import note_start, running_supervisor
from supervisor.runs import RunLog
from supervisor.schemas import write_schemas
from supervisor.secrets.granting import Granting
from supervisor.secrets.live import LiveSecrets
from supervisor.secrets.sources import SecretReader, open_leases, open_minting, values_of
from supervisor.spending import Money
from supervisor.storyteller import Storyteller
from supervisor.timetable import Timetable
from supervisor.upkeep import Upkeep
from supervisor.vigil import Vigil
from supervisor.watch import Watcher
from supervisor.work import Work
from supervisor.workstations.docker import DockerWorkstations
from supervisor.workstations.local import LocalWorkstations

if TYPE_CHECKING:
    from supervisor.forges.webhooks import Webhooks

CLOSE_SECONDS = 25
GROUP_FOLDER = 0o2770
# Of each forge, which may let everybody wait; creates there wait for each other anyway.
TELLERS, READERS = 4, 8
# What is done to idle workstations may take an hour: it takes no thread from the work on tasks.
KEEPERS = 8


def _local(root: Root, _config: Config | None) -> Workstations:
    return LocalWorkstations(root)


DRIVERS: dict[str, Callable[[Root, Config | None], Workstations]] = {"local": _local, "docker": DockerWorkstations}


def open_root(root: Root) -> None:
    """Make the folders of a root that are missing.

    Not `tasks/` where there are live tasks: that it is gone must be seen, and an empty one means deleted files.
    """
    for folder in (
        *(() if root.records.is_dir() and any(root.records.iterdir()) else (root.tasks,)),
        root.records,
        root.archive,
        root.projects,
        root.workstations,
        root.requests,
        root.commands,
        root.salvage,
        root.held,
        root.quarantine,
        root.temporary,
        root.schemas,
        root.egress,
        root.gates,
    ):
        make_folder(folder)
    _open_to_group(root.commands)
    write_schemas(root.schemas)


def _open_to_group(commands: Path) -> None:
    """Whoever is in the group of the root may give commands: what is written there is of that group."""
    if stat.S_IMODE(commands.stat().st_mode) == GROUP_FOLDER:
        return
    try:
        commands.chmod(GROUP_FOLDER)
    except PermissionError:  # a service may not set that bit (RestrictSUIDSGID); `install` does
        commands.chmod(GROUP_FOLDER & 0o777)


@contextlib.contextmanager
def locked(root: Root, timeout_seconds: float = 0) -> Iterator[None]:
    """Hold the supervisor's lock; raises CloudCodeError E_LOCKED when another one has it."""
    if not is_locked(root):
        refuse_root_in(root.path)
    with writing(root.state):
        make_folder(root.state)
    lock = FileLock(root.lock, timeout=timeout_seconds)
    try:
        with writing(root.lock):
            lock.acquire()
    except Timeout:
        other = running_supervisor(root)
        who = f" (process {other.pid}, since {other.started_at:%Y-%m-%d %H:%M:%S} UTC)" if other else ""
        raise CloudCodeError(
            "E_LOCKED",
            f"Another supervisor works on {root.path}{who}.",
            "`cloud-code status` shows what it does; stop it first, or use another root.",
        ) from None
    try:
        yield
    finally:
        lock.release()


class Supervisor:
    """A wired supervisor. Use as: `with locked(root): Supervisor(root).run()`."""

    def __init__(self, root: Root, config: Config | None = None) -> None:
        self.root = root
        self.config = config or load_config(root)
        secrets = SecretReader.of(root, self.config.secrets)
        leases = open_leases(root, self.config.secrets, secrets.store)
        minting = open_minting(root, self.config.secrets, self._minter)
        live = LiveSecrets(self.config, secrets, partial(values_of, minting, leases))
        outgoing = Outgoing(live.values, hold_tokens=self.config.secrets.hold_tokens, learn=live.learn)
        self._scan, self._hide = outgoing.scan, outgoing.hide
        log.hide_with(outgoing.hide)
        open_root(root)
        self.clock = Clock()
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.store = RecordStore(root)
        self.events = EventLog(root.events, outgoing.hide_in)
        self.mail = Mail(root)
        self.ledger = Ledger(
            root, self.config, self.store, self.mail, self.events, self.clock, next_epoch(root, self.config.id)
        )
        self.drivers: dict[str, Workstations] = {
            name: driver(root, self.config) for name, driver in DRIVERS.items()
        }
        self.fleet = Fleet(root, self.config, self.drivers)
        self.pool = JobPool(self.inbox)
        self._forges = Forges(root, secrets.read, outgoing.hide_in)
        self.projects = {name: self._project(name) for name in self.config.projects}
        granting = Granting(self.config, secrets, minting, leases)
        self.work = Work(root, self.clock, self.pool, self.fleet, self.drivers, self.projects, granting)
        self.lending = Lending(self.clock, self.ledger, self.pool, granting)
        self.tasks = TaskFolder(root.tasks, self.config, self.clock)
        self.people = People(root, self.clock, self.store, self.fleet, self.work, self.tasks.offer)
        edits = Edits(self.clock, self.mail)
        self.disk = DiskWatch(root, self.config.disk, self.clock, self._filled_places)
        self.draining = Draining(root, self.clock)
        self.people.draining, self.work.may_begin = self.draining, self.draining.may_begin
        self.clearing = Clearing(root, self.store, self.mail, self.ledger)
        self.runs = RunLog(root, self.clock)
        self.cleaning = Cleaning(root, self.clock, self.ledger, self.store, self.mail, self.pool, self.runs)
        self.people.clean = self.cleaning.start
        if self.config.cleanup.enabled:
            self.clearing.clean = self.cleaning.start
        self.money = Money(root, self.clock, self.ledger, self._preparing)
        self.ledger.on_record, self.ledger.settle = self.money.note, self.money.settle
        self.people.money, self.work.purse = self.money, self.money.purse
        desks = open_desks(root, self.projects)
        keepers = JobPool(self.inbox, threads=KEEPERS)
        tellers = Lanes(self.inbox, self._forge_of, threads=TELLERS)
        readers = Lanes(self.inbox, self._forge_of, threads=READERS)
        self._pools, self._readers = (self.pool, keepers, tellers), readers
        self.issues = Issues(self.clock, self.ledger, readers, desks)
        rounds = Rounds(root, self.config.maintenance)
        self.upkeep = Upkeep(self.ledger, self.fleet, self.drivers, keepers, rounds, self.cleaning.start)
        self.storyteller = Storyteller(root, self.clock, self.ledger, tellers, self.projects, self.money.purse)
        self.ledger.on_apply = self.storyteller.touch
        maintain = {name: self._maintenance_of(name) for name in self.projects}
        begin = self.upkeep.begin_maintenance
        self.timetable = Timetable(self.config, self.clock, self.inbox, maintain, begin)
        self.webhooks = _webhooks(self.config, secrets.read, self.inbox)
        self.loop = Loop(
            self.inbox,
            self.clock,
            self.ledger,
            self.mail,
            Reports(self.clock, self.ledger, self.mail, edits),
            self.fleet,
            self.people,
            edits,
            Vigil(self.clock, self.ledger, self.mail, self.fleet, self.work),
            self.work,
            self.upkeep,
            Pools(self.clock, self.ledger, self.fleet, self.money.purse),
            Renewal(self.fleet, self.ledger, self.work),
            self.issues,
            self.storyteller,
            Replies(self.clock, self.ledger, tellers, desks),
            self.pool,
            trackers=(self.tasks,),
            looks=(
                self._look_at_disk,
                *(driver.look for driver in self.drivers.values()),
                ConfigWatch(root).look,
                partial(spool.remove_forgotten, root.commands),
                self.clearing.look,
                self.runs.look,
                self.cleaning.look,
                self.lending.look,
                self.timetable.look,
                *([self.webhooks.look] if self.webhooks else []),
                self.money.look,
            ),
            purse=self.money.purse,
            may_begin=lambda: self.disk.has_room() and self.draining.may_begin(),
            refused=RefusedNews(root).take,
            clean=self.cleaning.start,
            settle_cleaning=self.cleaning.settle,
            settle_lending=self.lending.settle,
        )

    def _preparing(self) -> list[TaskRecord]:
        """The tasks whose next attempt is being made ready."""
        return [task for task in self.ledger.tasks.values() if self.work.preparing(task.id)]

    def _maintenance_of(self, project: str) -> Callable[[], object]:
        work = partial(maintain_mirror, self.store, self.projects[project].mirror)
        return partial(self.pool.submit, f"Maintain:{project}", work)

    def _filled_places(self) -> list[Path]:
        return [place for driver in self.drivers.values() if (place := driver.place()) is not None]

    def _look_at_disk(self) -> Event | None:
        """Where room becomes scarce, clean-up does not wait for its hour."""
        event = self.disk.look()
        if self.disk.low and event is not None and self.config.cleanup.enabled:
            self.cleaning.start()
        return event

    def _minter(self, project: str, api: bool) -> Minter:
        if project not in self.config.projects:
            message = f"There is no project {project} any more, whose forge would be asked."
            raise CloudCodeError("E_CREDENTIAL_DENIED", message, "Its tokens end by themselves.")
        return self._forges.minter(self.config.projects[project], api=api)

    def _project(self, name: str) -> Project:
        settings = self.config.projects[name]
        mirror = Mirror(self.root.mirror(settings.trust_domain, name))
        forge, host = self._forges.open(settings)
        return Project(settings=settings, host=host, forge=forge, mirror=mirror, scan=self._scan, hide=self._hide)

    def recover(self) -> None:
        """What a restart must do before the first decision (docs/protocol.md, "Restart")."""
        recover(
            self.root,
            self.config,
            self.clock,
            self.store,
            self.ledger,
            self.fleet,
            self.mail,
            self.projects,
            lambda: self.loop.on_pass(),
        )
        self.tasks.remember(self.ledger.sources())
        self.clearing.note_leftovers()
        self.upkeep.rounds.take_up()

    def run(self, stop: threading.Event | None = None, ready: Callable[[], None] = lambda: None) -> None:
        """Work until `stop` is set; SIGTERM and SIGINT set it when it is not given."""
        stop = stop or _stop_on_signals(self.inbox)
        note_start(self.root, self.config, self.clock.now())
        self.runs.begin()
        self.ledger.log(Event(name="supervisor.started", details={"version": __version__, "pid": os.getpid()}))
        self.recover()
        if self.webhooks:
            self.webhooks.start()
        watcher = Watcher(self.inbox)
        watcher.start()
        for name in self.fleet.stations:
            watcher.watch(self.root.mail_out(name), ("bell", name))
        watcher.watch(self.root.commands, ("commands",))
        watcher.watch(self.root.tasks, ("sources",))
        self.timetable.start()
        try:
            ready()
            self.loop.run(stop)
        finally:
            self.timetable.stop()
            watcher.stop()
            self.close()

    def _forge_of(self, key: str) -> str:
        """The address of the forge that a job is about: ``Read:PROJECT``, ``Tell:PROJECT.7``."""
        project = key.partition(":")[2].partition(".")[0]
        return self.config.projects[project].web_address

    @property
    def working(self) -> bool:
        """Whether a thread is at slow work; one that only reads is waited for by nobody."""
        return any(pool.running for pool in self._pools)

    def close(self) -> None:
        """End what slow work is left; it is begun anew after the next start."""
        if self.webhooks:
            self.webhooks.stop()
        for pool in (*self._pools, self._readers):
            pool.close()
        deadline = self.clock.monotonic() + CLOSE_SECONDS
        while self.working and self.clock.monotonic() < deadline:
            end_leftovers(self.root.path, timeout_seconds=1)  # jobs wait for git, and some for each other
            for driver in self.drivers.values():
                driver.interrupt()
            self.loop.on_pass()
            time.sleep(0.05)
        for driver in self.drivers.values():
            driver.close()
        with contextlib.suppress(OSError):
            self.runs.note()
        with contextlib.suppress(OSError):  # (a full disk makes no crash of an end that was asked for)
            self.ledger.log(Event(name="supervisor.stopped"))
        with contextlib.suppress(OSError):
            self.events.close()


def _webhooks(config: Config, read_secret: ReadSecret, inbox: "queue.SimpleQueue[Message]") -> "Webhooks | None":
    """What hears webhooks, where they are wanted: only then is an HTTP server imported."""
    if config.webhooks is None:
        return None
    from supervisor.forges.webhooks import Webhooks

    return Webhooks(config, read_secret, inbox)


def _stop_on_signals(inbox: "queue.SimpleQueue[Message]") -> threading.Event:
    stop = threading.Event()

    def ask(number: int, _frame: object) -> None:
        logger.info("signal {}: finishing what is under way; workstations go on working", number)
        stop.set()
        inbox.put(("stop",))

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return stop
