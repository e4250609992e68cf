"""The egress proxy kept running by the driver, and found again by the next supervisor."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from loguru import logger

from agent_daemon.clis.base import CliSettings, bare_environment
from agent_daemon.egress import VARIABLE, proxy_variables
from agent_daemon.protocol.paths import Root
from supervisor.cli.workstation_refused import refused_rows
from supervisor.core.refusals import Refusal, Told
from supervisor.core.settings import Config, MaintenanceSettings
from supervisor.core.unit import marked
from supervisor.egress.files import (
    ROTATE_BYTES,
    PolicyFile,
    RefusalLog,
    policy_names,
    read_refusals,
    refused_names,
    running_proxy,
    write_policy,
)
from supervisor.egress.news import RefusedNews
from supervisor.egress.process import Egress
from supervisor.egress.program import installed_program, own_program
from supervisor.errors import CloudCodeError
from supervisor.service.proxy import egress_step
from supervisor.service.steps import carry_out
from supervisor.workstations.egress import EgressProxy
from supervisor.workstations.engine import Engine
from supervisor.workstations.examination import check_egress
from supervisor.workstations.ground import Ground
from supervisor.workstations.stand_ins import tend
from tests.janitor import processes_of
from tests.site import wait_for

NOW = datetime(2026, 1, 7, tzinfo=UTC)


def config_with(**station: object) -> Config:
    settings = {"driver": "docker", "clis": ["codex"], **station}
    return Config.model_validate(
        {"projects": {"demo": {"repository": "/r"}}, "workstations": {"backend": settings}}
    )


KEEPERS: list[EgressProxy] = []


def keep(root: Root, config: Config | None, *, in_service: bool = False, retry_seconds: float = 0) -> EgressProxy:
    KEEPERS.append(EgressProxy(root, config, in_service=in_service, retry_seconds=retry_seconds))
    return KEEPERS[-1]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    made = Root(tmp_path / "root")
    made.path.mkdir()
    yield made
    for pid in processes_of(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for keeper in KEEPERS:
        if keeper._child is not None:
            keeper._child.wait()
    KEEPERS.clear()


def pid_of(root: Root) -> int:
    running = running_proxy(root)
    return running.pid if running else 0


def test_it_is_started_found_again_started_anew_and_ends_with_the_last(root: Root) -> None:
    keeper = keep(root, config_with(egress=["pypi"]))
    assert keeper.look() is None and not root.egress.exists()  # (nobody needs it)
    assert keeper.open("backend-1", "backend") == root.gate("backend-1")
    assert root.gate("backend-1").stat().st_mode & 0o777 == 0o700
    first = wait_for(lambda: pid_of(root), what="it runs")
    gate = root.gate("backend-1") / "proxy"
    wait_for(lambda: _listens(gate), what="the gate is open")
    assert [check.status for check in check_egress(root, config_with(egress=["pypi"]), "backend")] == [
        "ok",
        "warning",
    ]

    later = keep(root, config_with(egress=["npm"]))
    assert later.look() is None and pid_of(root) == first
    assert (
        "registry.npmjs.org:443" in root.egress_policy("backend-1").read_text()
    )  # (a changed list counts at once)

    os.kill(first, signal.SIGKILL)
    wait_for(lambda: later.look() is None and pid_of(root) not in (0, first), what="another one runs")
    later.shut("backend-1")
    wait_for(lambda: not _listens(gate), what="its gate is shut")


def _listens(path: Path) -> bool:
    """Whether somebody does, however long the path is."""
    try:
        folder = os.open(path.parent, os.O_PATH)
    except FileNotFoundError:
        return False
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/self/fd/{folder}/{path.name}")
    except OSError:
        return False
    finally:
        os.close(folder)
    return True


def test_under_systemd_it_is_not_ours_to_start_and_that_is_told_once(root: Root) -> None:
    keeper = keep(root, config_with(), in_service=True)
    keeper.open("backend-1", "backend")
    told = keeper.look()
    assert told is not None and told.name == "egress.away" and told.details["code"] == "E_EGRESS_AWAY"
    assert "systemctl start cloud-code-egress" in told.details["mend"]
    assert keeper.look() is None and policy_names(root) == ["backend-1"] and not pid_of(root)
    checks = list(check_egress(root, config_with(), "backend"))
    assert checks[0].status == "error" and "E_EGRESS_AWAY" in checks[0].detail
    assert list(check_egress(root, config_with(network="open"), "backend")) == []


def test_one_that_ends_at_once_is_told_and_tried_again(root: Root) -> None:
    root.egress.mkdir(parents=True)
    (root.egress / "lock").mkdir()  # (which cannot be locked)
    write_policy(root, "backend-1", PolicyFile())
    keeper = keep(root, None, retry_seconds=1000)
    assert keeper.look() is None
    told = wait_for(keeper.look, what="it has ended")
    assert told.name == "egress.away" and "proxy.log" in told.details["mend"]
    assert "Error" in (root.egress / "proxy.log").read_text()


def test_programs_in_a_workstation_are_told_of_the_way_out(tmp_path: Path) -> None:
    settings = CliSettings(name="codex", adapter="codex", home=tmp_path)
    image = {"NODE_EXTRA_CA_CERTS": "/etc/ssl/all.crt", "NPM_CONFIG_PREFIX": "/tools", "OTHER": "1"}
    inside = bare_environment(settings, {VARIABLE: "/run/cloud-code-egress/proxy", "PATH": "/bin", **image})
    assert inside.items() >= {"NODE_EXTRA_CA_CERTS": "/etc/ssl/all.crt", "NPM_CONFIG_PREFIX": "/tools"}.items()
    assert "OTHER" not in inside
    assert inside["HTTPS_PROXY"] == inside["http_proxy"] == "http://127.0.0.1:3128"
    assert "127.0.0.1" in inside["NO_PROXY"]
    outside = bare_environment(settings, {"HTTPS_PROXY": "http://elsewhere", "PATH": "/bin"})
    assert not {name.upper() for name in outside} & {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
    assert proxy_variables({}) == {}


def test_what_was_refused_is_listed_by_host_and_kept_within_bounds(root: Root) -> None:
    log = RefusalLog(root.egress_refused("backend-1"))
    root.egress.mkdir(parents=True)
    evil = Refusal("E_EGRESS_NOT_ALLOWED", "evil.example.org", 443, "it is not listed")
    for count in (1, 41):
        log.write(Told(evil, count), NOW)
    log.write(Told(evil, 900, kinds=2), NOW)
    [last, others] = sorted(refused_rows(root, refused_names(root)), key=lambda row: row.code, reverse=True)
    assert (last.host, last.port, last.count, last.code) == ("evil.example.org", 443, 42, "E_EGRESS_NOT_ALLOWED")
    assert (others.host, others.count) == ("", 900)

    news = RefusedNews(root)
    assert [event.details["count"] for event in news.take()] == [1, 41, 900]
    for _ in range(3000):
        log.write(Told(evil, 1), NOW)
    files = [path for path in root.egress.iterdir() if "refused" in path.name]
    assert len(files) == 2 and sum(path.stat().st_size for path in files) < 2.1 * ROTATE_BYTES
    assert len({entry["id"] for entry in read_refusals(root, "backend-1")}) > 1000
    assert RefusalLog(root.egress_refused("backend-1"))._last == log._last


def test_a_refusal_that_could_not_be_told_is_told_again(root: Root) -> None:
    root.egress.mkdir(parents=True)
    log = RefusalLog(root.egress_refused("backend-1"))
    for count in (1, 2, 3):
        log.write(Told(Refusal("E_EGRESS_NOT_ALLOWED", "evil.example.org", 443, "not listed"), count), NOW)
    news = RefusedNews(root)
    taking = news.take()
    assert next(taking).details["count"] == 1 and next(taking).details["count"] == 2
    taking.close()  # as where the second cannot be written down
    assert [event.details["count"] for event in news.take()] == [2, 3]
    assert list(news.take()) == []


def test_what_lasts_is_told_once_by_the_proxy(root: Root) -> None:
    write_policy(root, "backend-1", PolicyFile())
    root.gates.parent.mkdir(exist_ok=True)
    root.gates.write_text("no folder")
    said: list[str] = []

    async def look_thrice(egress: Egress) -> None:
        for _ in range(3):
            await egress.look()

    async def look_on() -> None:
        egress = Egress(root)
        await look_thrice(egress)
        root.gates.unlink()
        await look_thrice(egress)
        root.egress_policy("backend-1").unlink()
        await egress.look()

    sink = logger.add(said.append, level="ERROR", format="{message}")
    try:
        asyncio.run(look_on())
    finally:
        logger.remove(sink)
    assert len(said) == 1 and "the gate of backend-1" in said[0]


def test_the_gate_of_a_maintenance_is_shut_after_it_however_it_ended(root: Root) -> None:
    root.state.mkdir()
    root.root_id.write_text("id: abc\nepoch: 1\n")
    ground = Ground(root, config_with(), Engine(root.path / "no-engine"))
    KEEPERS.append(ground.egress)
    with pytest.raises(CloudCodeError, match="E_ENGINE_AWAY"):
        tend(ground, ground.station("backend-1", "backend"), MaintenanceSettings(update_tools=True))
    assert (root.gate("backend-1").is_dir(), policy_names(root)) == (True, [])


def test_which_program_runs_is_known_and_it_is_replaced_only_when_no_agent_works(root: Root) -> None:
    keep(root, config_with(egress=["pypi"])).open("backend-1", "backend")
    wait_for(lambda: pid_of(root), what="it runs")
    running = running_proxy(root)
    assert running is not None and running.program == installed_program(), "the one is what the other would be"
    assert egress_step(root, ()).is_done()

    note = root.egress / "proxy.yml"
    note.write_text(note.read_text().replace(running.program, "0123456789abcdef") + "of_a_later_version: 1\n")
    assert pid_of(root) == running.pid, "of whichever version it is"
    step = egress_step(root, ["demo.a", "demo.b"])
    (told,) = carry_out([step], dry_run=False)
    assert told.outcome == "kept" and "demo.a, demo.b" in told.note and "--egress" in told.note
    assert pid_of(root) == running.pid
    (told,) = carry_out([egress_step(root, ())], dry_run=True)
    assert (told.outcome, told.note) == ("would", "systemctl restart cloud-code-egress.service")
    (check, *_) = check_egress(root, config_with(egress=["pypi"]), "backend")
    assert check.status == "warning" and "another program" in check.detail and "upgrade" in check.mend


def test_another_unit_is_another_program_whoever_wrote_it(tmp_path: Path) -> None:
    without, unit = own_program(tmp_path / "none"), tmp_path / "unit"
    unit.write_text(marked("[Service]\n", "1"))
    first = own_program(unit)
    unit.write_text(marked("[Service]\n", "2"))
    assert own_program(unit) == first != without
    unit.write_text(marked("[Service]\nUMask=0077\n", "2"))
    assert own_program(unit) != first
