"""The fleet's decisions over daemons that live, fall silent, die and do not die; told as histories."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.model import WorkstationFile
from agent_daemon.protocol.paths import Root
from supervisor.core.chores import Chore
from supervisor.core.settings import Config
from supervisor.errors import CloudCodeError
from supervisor.fleet import Fleet, FleetNews
from supervisor.ports import DaemonHandle
from supervisor.stations import load_station, station_path

NAME = "backend-1"


class Daemons:
    """A driver whose daemons are numbers: they live until the test says otherwise."""

    def __init__(self) -> None:
        self.living: list[int] = []
        self.environments: list[Mapping[str, str]] = []
        self.gone: CloudCodeError | None = None

    def start(self, name: str, kind: str, environment: Mapping[str, str]) -> DaemonHandle:
        self.environments.append(environment)
        self.living.append(len(self.environments))
        return DaemonHandle(pid=self.living[-1], start_ticks=1, boot_id="boot")

    def find(self, name: str) -> DaemonHandle | None:
        return DaemonHandle(pid=self.living[0], start_ticks=1, boot_id="boot") if self.living else None

    def away(self) -> CloudCodeError | None:
        return self.gone

    def alive(self, handle: DaemonHandle) -> bool:
        return handle.pid in self.living

    def stop(self, handle: DaemonHandle) -> None:
        self.living.remove(handle.pid)


class History:
    """A fleet of one workstation, looked at once a second."""

    def __init__(self, root: Root, config: Config) -> None:
        self.daemons, self.now, self.beats = Daemons(), 0.0, 0
        self.fleet = Fleet(root, config, {"local": self.daemons})
        self.fleet.adopt(0.0)
        self.news: list[FleetNews] = []

    def pass_by(self, seconds: int, *, beating: bool, busy: bool = True) -> list[str]:
        """So many seconds; returns what happened meanwhile."""
        heard = []
        for _ in range(seconds):
            self.now += 1
            if beating:
                self.beats += 1
                sign = WorkstationFile(revision=1, agent_id=NAME, agent_type="backend", heartbeat=self.beats)
                if self.fleet.heard(NAME, sign, self.now):
                    heard.append("recovered")
            self.news = self.fleet.check(NAME, self.now, [NAME] if busy else [])
            heard += [news.event.removeprefix("workstation.") for news in self.news]
        return heard

    @property
    def lost(self) -> bool:
        return any(news.lost for news in self.news)


@pytest.fixture
def history(tmp_path: Path, config: Config) -> History:
    root = Root(tmp_path)
    make_folder(root.workstations)
    only = config.model_copy(update={"workstations": {"backend": config.workstations["backend"]}})
    return History(root, only)


def test_suspect_at_30_seconds_restarted_at_120_and_recovered_between(history: History) -> None:
    assert history.pass_by(100, beating=True) == ["started"]
    assert history.pass_by(29, beating=False) == []
    assert history.pass_by(1, beating=False) == ["suspect"]
    assert not history.fleet.usable(NAME)
    assert history.pass_by(80, beating=False) == []
    assert history.pass_by(1, beating=True) == ["recovered"]
    assert history.pass_by(119, beating=False) == ["suspect"]
    assert history.pass_by(1, beating=False) == ["silent"]
    assert history.news[0].stop is not None and not history.lost


def test_a_daemon_that_falls_silent_again_loses_its_attempt_only_when_it_is_dead(history: History) -> None:
    history.pass_by(10, beating=True)
    assert history.pass_by(120, beating=False) == ["suspect", "silent"]
    history.daemons.living.clear()
    history.fleet.stopped(NAME)
    assert history.pass_by(1, beating=False) == ["started"]
    assert history.pass_by(120, beating=False) == ["suspect", "silent"]
    assert not history.lost
    history.fleet.stopped(NAME)  # the kernel does not let it go
    assert history.pass_by(29, beating=False) == []
    assert history.pass_by(1, beating=False) == ["silent"], "tried again, and not with every look"
    assert not history.lost, "another workstation must not get the work while this one may still do it"
    assert history.daemons.living, "nor is a second daemon started beside it"
    history.daemons.living.clear()
    history.fleet.stopped(NAME)
    assert history.pass_by(1, beating=False) == ["lost"]
    assert history.lost
    assert history.fleet.lacks_daemon(NAME), "others may bundle what it holds"
    assert history.pass_by(30, beating=False, busy=False) == ["started"]


def test_one_that_was_idle_has_no_attempt_to_lose(history: History) -> None:
    for _ in range(3):
        history.pass_by(121, beating=False, busy=False)
        history.daemons.living.clear()
        history.fleet.stopped(NAME)
        assert "lost" not in history.pass_by(1, beating=False, busy=False)


def test_a_dead_daemon_is_noticed_at_the_next_look_and_started_again(history: History) -> None:
    history.pass_by(10, beating=True)
    history.daemons.living.clear()
    assert history.pass_by(1, beating=False) == ["died"]
    assert history.pass_by(1, beating=False) == ["started"]


def test_one_that_keeps_dying_is_started_again_later_each_time_until_its_attempt_is_given_up(
    tmp_path: Path, config: Config
) -> None:
    timing = config.timing.model_copy(update={"revive_after_seconds": (0, 4, 20)})
    root = Root(tmp_path)
    make_folder(root.workstations)
    history = History(root, config.model_copy(update={"timing": timing}))
    history.pass_by(1, beating=False)
    for wait in (0, 4, 20):
        history.daemons.living.clear()
        history.pass_by(1, beating=False)
        assert history.lost is (wait == 20)
        if wait:
            assert "started" not in history.pass_by(wait - 1, beating=False)
        assert "started" in history.pass_by(1, beating=False)


def test_a_daemon_beats_at_least_three_times_before_it_is_suspect(tmp_path: Path, config: Config) -> None:
    beats = []
    for number, suspect in enumerate((30, 6)):
        timing = config.timing.model_copy(update={"suspect_after_seconds": suspect})
        root = Root(tmp_path / str(number))
        make_folder(root.workstations)
        history = History(root, config.model_copy(update={"timing": timing}))
        history.pass_by(1, beating=False)
        beats.append(history.daemons.environments[0]["CLOUD_CODE_HEARTBEAT_SECONDS"])
    assert beats == ["5", "2"]


def test_while_its_engine_is_away_nobody_is_judged_started_or_given_work(history: History) -> None:
    history.pass_by(10, beating=True)
    history.daemons.gone = CloudCodeError("E_ENGINE_AWAY", "It does not answer.")
    history.daemons.living.clear()
    assert history.pass_by(1000, beating=False) == []
    assert not history.fleet.usable(NAME)
    history.daemons.gone = None
    assert history.pass_by(1, beating=False) == ["died"]


def test_time_in_which_the_engine_was_away_is_no_silence(history: History) -> None:
    history.pass_by(10, beating=True)
    history.daemons.gone = CloudCodeError("E_ENGINE_AWAY", "It does not answer.")
    history.pass_by(1000, beating=False)
    history.daemons.gone = None
    assert history.pass_by(29, beating=False) == []


def test_another_driver_takes_over_when_the_daemon_of_the_former_one_has_ended(
    history: History, tmp_path: Path, config: Config
) -> None:
    history.pass_by(10, beating=True)
    former, other = history.daemons, Daemons()
    settings = config.workstations["backend"].model_copy(update={"driver": "docker"})
    changed = config.model_copy(update={"workstations": {"backend": settings}})
    history.fleet = Fleet(Root(tmp_path), changed, {"local": former, "docker": other})
    history.fleet.adopt(0.0)
    assert not history.fleet.usable(NAME)
    assert history.pass_by(1, beating=True) == ["stopping"]
    assert not other.living, "not two at a time"
    former.living.clear()
    history.fleet.stopped(NAME)
    assert history.pass_by(2, beating=True) == ["started"]
    assert other.living and history.fleet.stations[NAME].file.driver == "docker" and history.fleet.usable(NAME)


def test_who_is_made_anew_after_each_task_is_known_to_have_worked_over_restarts(
    history: History, tmp_path: Path, config: Config
) -> None:
    settings = config.workstations["backend"].model_copy(update={"driver": "docker", "recreate": "per_task"})
    untrusted = config.model_copy(update={"workstations": {"backend": settings}})
    drivers = {"docker": history.daemons}

    def restart() -> Fleet:
        history.fleet = Fleet(Root(tmp_path), untrusted, drivers)
        history.fleet.adopt(0.0)
        return history.fleet

    restart()
    history.pass_by(2, beating=True, busy=False)
    assert restart().usable(NAME), "nobody has worked there"
    history.fleet.note_work([NAME])
    assert not restart().usable(NAME)
    station_path(Root(tmp_path), NAME).unlink()
    assert not restart().usable(NAME), "nor where nobody knows"
    history.daemons.living.clear()
    history.pass_by(3, beating=True, busy=False)
    assert restart().usable(NAME)


@pytest.fixture
def disk(history: History, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Takes the folder away in which the fleet writes, and at the next call gives it back."""
    folder, aside = Root(tmp_path).workstations, tmp_path / "aside"

    def switch() -> None:
        folder.rename(aside) if folder.exists() else aside.rename(folder)

    yield switch


def test_a_disk_that_refuses_leaves_no_daemon_half_stopped(history: History, disk: Callable[[], None]) -> None:
    history.pass_by(10, beating=True)
    history.pass_by(119, beating=False)
    disk()
    for _ in range(3):
        with pytest.raises(OSError, match="No such file"):
            history.pass_by(1, beating=False)
    disk()
    assert history.pass_by(1, beating=False) == ["silent"]
    assert history.news[0].stop is not None
    history.daemons.living.clear()
    history.fleet.stopped(NAME)
    assert history.pass_by(1, beating=False) == ["started"]
    disk()
    with pytest.raises(OSError, match="No such file"):
        history.fleet.stop(NAME)
    disk()
    assert history.fleet.stop(NAME) is not None


def test_a_disk_that_refuses_begins_no_chore_and_loses_none(history: History, disk: Callable[[], None]) -> None:
    history.fleet.ask(NAME, Chore(kind="recreate"))
    disk()
    with pytest.raises(OSError, match="No such file"):
        history.pass_by(1, beating=False, busy=False)
    disk()
    history.pass_by(1, beating=False, busy=False)
    assert history.news[0].chore is not None


def test_a_disk_that_fills_up_during_a_start_has_no_second_daemon_started(
    history: History, disk: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = history.daemons.start

    def fill(*arguments: Any) -> DaemonHandle:
        disk()
        return start(*arguments)

    monkeypatch.setattr(history.daemons, "start", fill)
    with pytest.raises(OSError, match="No such file"):
        history.pass_by(1, beating=False, busy=False)
    assert history.pass_by(1, beating=False, busy=False) == []
    with pytest.raises(OSError, match="No such file"):
        history.pass_by(1, beating=True, busy=False)
    disk()
    history.pass_by(1, beating=True, busy=False)
    assert history.daemons.living == [1]
    known = load_station(Root(tmp_path), NAME)
    assert known is not None and known.handle is not None
