"""What the listings show of workstations: from their files and the process table, as of now."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from agent_daemon.processes import ProcessIdentity, is_alive
from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.model import Activity, DiskUse, WorkstationFile
from supervisor.core.life import StationState
from supervisor.core.record import TaskRecord
from supervisor.core.settings import Config, TimingSettings
from supervisor.core.speech import Speech
from supervisor.core.states import ACTIVE
from supervisor.core.words import size
from supervisor.reader import Reader, Report
from supervisor.stations import StationFile, configured_stations, with_room

_WITHOUT_DAEMON = frozenset(
    {StationState.STOPPING, StationState.MAINTENANCE, StationState.RECREATING, StationState.RESTARTING}
)
_NOT_UP = frozenset({StationState.PROVISIONING, StationState.RESTARTING, StationState.DOWN})
_STARTS = frozenset({"workstation.not_started", "workstation.started", "workstation.adopted"})


@dataclass(frozen=True, kw_only=True)
class StationRow:
    """A workstation as a list shows it; `silent_seconds` is the age of its last sign of life.

    `activity` is what that sign said of the coding CLI under way.
    """

    name: str
    type: str
    driver: str
    state: StationState
    task: str | None
    doing: str
    clis: Mapping[str, str]
    pid: int | None
    starts: int
    silent_seconds: float | None
    note: str
    activity: Activity | None = None
    disk: DiskUse | None = None


def known_stations(reader: Reader, config: Config | None) -> list[tuple[StationFile, bool]]:
    """Every workstation that matters, and whether it is configured: all that are, and others that still live.

    Without a configuration: every one that has a file.
    """
    found: dict[str, tuple[StationFile, bool]] = {}
    if config is not None:
        for name, kind in configured_stations(config):
            settings, known = config.workstations[kind], reader.station(name)
            file = known or StationFile(name=name, type=kind, driver=settings.driver)
            found[name] = (with_room(file, settings, known is not None), True)
    for file in reader.station_files():
        if file.name not in found and (config is None or _has_process(file)):
            found[file.name] = (file, False)
    return list(found.values())


def read_stations(
    reader: Reader,
    config: Config | None,
    tasks: Mapping[str, TaskRecord],
    reports: Mapping[str, Report],
    running: bool,
    now: datetime,
) -> list[StationRow]:
    """A row for each workstation that matters, from its files and the process table."""
    occupants = {t.live.workstation: t for t in tasks.values() if t.live is not None and t.state in ACTIVE}
    timing = config.timing if config else TimingSettings()
    rows, events = [], None
    for file, configured in known_stations(reader, config):
        found = reader.sign(file.name)
        sign = None if isinstance(found, Problem) else found
        silent = (now - sign[1]).total_seconds() if sign else None
        occupant = occupants.get(file.name)
        state = station_state(file, silent, timing.suspect_after_seconds, running, occupant is not None)
        note = "" if configured or config is None else "it is not configured any more"
        if file.chores:
            note = f"to be done: {', '.join(chore.kind for chore in file.chores)}"
        elif state in _NOT_UP and not _has_process(file):
            events = reader.recent_events() if events is None else events
            note = last_refusal(events, file.name)
        elif sign is not None and not (speech := Speech(found=sign[0].protocol)).understood:
            note = f"its daemon speaks protocol {speech.words}: it gets no task"
        elif sign is not None and (full := _disk_note(config, file, sign[0].disk)):
            note = full
        elif isinstance(found, Problem):
            note = f"its sign of life is not taken: {found}"
        rows.append(_station_row(file, state, sign[0] if sign else None, silent, occupant, reports, note))
    return rows


def _disk_note(config: Config | None, file: StationFile, disk: DiskUse | None) -> str:
    """Said of one that takes more of the disk than it may."""
    settings = config.workstations.get(file.type) if config is not None else None
    limit = settings.disk_limit_bytes if settings is not None else None
    if disk is None or limit is None or disk.total_bytes <= limit:
        return ""
    return (
        f"E_DISK_LIMIT: it takes {size(disk.total_bytes)} of the disk, and may take {size(limit)}: it gets no task"
    )


def station_state(
    file: StationFile,
    silent_seconds: float | None,
    suspect_after_seconds: float,
    running: bool,
    occupied: bool = False,
) -> StationState:
    """The state that a workstation is in, as far as its files and the process table tell; `running`: a supervisor.

    What only the supervisor knows it wrote down.
    """
    if not _has_process(file):
        if running and file.state in _WITHOUT_DAEMON:
            return file.state
        if file.wanted != "running":
            return StationState.STOPPED if file.wanted == "stopped" else StationState.REMOVED
        return StationState.PROVISIONING if running else StationState.DOWN
    if file.wanted != "running" or (running and file.state is StationState.STOPPING):
        return StationState.STOPPING
    if silent_seconds is None or (running and file.state is StationState.PROVISIONING):
        return StationState.PROVISIONING
    if silent_seconds > suspect_after_seconds:
        return StationState.UNHEALTHY
    if running and file.chores:
        return StationState.DRAINING
    return StationState.WORKING if occupied else StationState.IDLE


def _has_process(file: StationFile) -> bool:
    """Whether its daemon runs. What is in a container only the supervisor sees: it wrote down what it saw last."""
    if file.run is not None:
        return True
    if file.pid is None or file.start_ticks is None or file.boot_id is None:
        return False
    return is_alive(ProcessIdentity(pid=file.pid, start_ticks=file.start_ticks, boot_id=file.boot_id))


def _station_row(
    file: StationFile,
    state: StationState,
    sign: WorkstationFile | None,
    silent_seconds: float | None,
    occupant: TaskRecord | None,
    reports: Mapping[str, Report],
    note: str,
) -> StationRow:
    report = reports.get(occupant.id) if occupant else None
    alive = _has_process(file)
    return StationRow(
        name=file.name,
        type=file.type,
        driver=file.driver,
        state=state,
        task=occupant.id if occupant else None,
        doing="" if report is None or isinstance(report, Problem) else report.current_step,
        clis=dict(sign.clis) if sign else {},
        pid=file.pid if alive else None,
        starts=file.restarts,
        silent_seconds=round(silent_seconds, 1) if silent_seconds is not None and alive else None,
        activity=sign.activity if sign is not None and alive else None,
        disk=sign.disk if sign is not None else None,
        note=note,
    )


def away_problems(events: Iterable[Mapping[str, object]]) -> Iterator[Problem]:
    """What the supervisor said last of the engine, and of the egress proxy, where that was away then."""
    newest = list(reversed(list(events)))
    for what in ("engine", "egress"):
        for event in newest:
            details = event.get("details")
            if event.get("event") in (f"{what}.back", "supervisor.started"):
                break
            if event.get("event") == f"{what}.away" and isinstance(details, dict):
                code, message, mend = (str(details.get(key, "")) for key in ("code", "message", "mend"))
                yield Problem(code=code, message=message, mend=mend)
                break


def last_refusal(events: Iterable[Mapping[str, object]], name: str) -> str:
    """Why a workstation was not started the last time, from the newest events; empty when it was."""
    for event in reversed(list(events)):
        if event.get("workstation") != name or event.get("event") not in _STARTS:
            continue
        details = event.get("details")
        refused = event.get("event") == "workstation.not_started" and isinstance(details, dict)
        return str(details.get("message", "")) if refused and isinstance(details, dict) else ""
    return ""
