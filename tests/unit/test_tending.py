"""Looking after idle workstations: which caches go, when a container is made anew, when the hour has come."""

import itertools
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.tending import CACHES, Cache, find_caches, to_remove, trim, update, updaters
from supervisor.calendars import maintenance_trigger
from supervisor.config import parse_config
from supervisor.core.chores import Chore, Condition, recreation_due, refusal
from supervisor.core.settings import MaintenanceSettings
from supervisor.errors import CloudCodeError
from supervisor.workstations.tending import tended

CONFIG = "projects: {a: {repository: /srv/a.git}}\n"


@given(st.lists(st.integers(0, 10**6), max_size=8), st.integers(0, 2 * 10**6))
def test_what_is_left_is_within_the_limit_and_nothing_goes_in_vain(sizes: list[int], limit: int) -> None:
    caches = [Cache(path=Path(f"/{n}"), bytes=size) for n, size in enumerate(sizes)]
    going = to_remove(caches, limit)
    left = sum(sizes) - sum(cache.bytes for cache in going)
    assert left <= limit
    assert not going or left + going[-1].bytes > limit
    assert all(a.bytes >= b.bytes for a, b in itertools.pairwise(going))


def test_the_largest_cache_goes_whole_and_nothing_is_followed_out_of_a_home(tmp_path: Path) -> None:
    outside, home = tmp_path / "outside", tmp_path / "home"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x" * 5000)
    for name, size in ((CACHES[0], 100), (CACHES[1], 3000)):
        (home / name / "deep").mkdir(parents=True)
        (home / name / "deep/file").write_bytes(b"x" * size)
        (home / name / "link").symlink_to(outside)
    (home / ".npm").mkdir()
    (home / ".npm/_cacache").symlink_to(outside)
    (home / "notes").write_text("mine")
    assert len(find_caches([home])) == 2
    done = trim([home], 1000)
    assert done["removed"] == [".cache/uv"]
    assert (home / CACHES[0] / "deep/file").exists() and not (home / CACHES[1]).exists()
    assert (home / "notes").exists() and (outside / "precious").exists()


def test_only_what_agents_installed_with_is_brought_up_to_date_and_a_failure_is_told(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, script in (("uv", "echo no network >&2; exit 2"), ("npm", "exit 0"), ("pipx", "exit 0")):
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    for folder in ("uv/ruff", "lib/node_modules/eslint"):
        (tmp_path / folder).mkdir(parents=True)
    environment = {"UV_TOOL_DIR": str(tmp_path / "uv"), "NPM_CONFIG_PREFIX": str(tmp_path), "PIPX_HOME": ""}
    before = os.environ["PATH"]
    try:
        os.environ["PATH"] = f"{tmp_path}/bin:{before}"
        assert [tool for tool, _ in updaters(environment)] == ["uv", "npm"]
        assert [(one.tool, one.error) for one in update(environment)] == [("uv", "no network"), ("npm", "")]
    finally:
        os.environ["PATH"] = before


def test_an_answer_that_is_none_is_told_as_such() -> None:
    caches = {"bytes_before": 3, "bytes_after": 1, "removed": []}
    line = json.dumps({"caches": caches, "updated": [{"tool": "uv", "error": ""}]})
    assert tended(f"noise\n{line}\n")["updated"] == ["uv"]
    endless = line.replace("3", "1e999", 1)
    for wrong in ("", "[]", '{"caches": 1, "updated": []}', line[:-3], endless, "[" * 100_000):
        with pytest.raises(CloudCodeError, match="E_NOT_TENDED"):
            tended(wrong)


OLD, NEW = Condition(image_changed=True), Condition()


@pytest.mark.parametrize(
    ("policy", "condition", "worked", "why"),
    [
        ("never", NEW, True, None),
        (None, NEW, True, None),
        ("per_task", NEW, True, "task"),
        ("per_task", NEW, False, None),
        ("weekly", Condition(age_seconds=604_799), True, None),
        ("weekly", Condition(age_seconds=604_800), False, "age"),
        ("never", OLD, False, "image"),
        ("per_task", OLD, True, "image"),
        ("weekly", None, True, None),
    ],
)
def test_when_a_container_is_made_anew(
    policy: str | None, condition: Condition | None, worked: bool, why: str | None
) -> None:
    found = recreation_due(policy, condition, worked=worked)
    assert (found.why if found else None) == why and (found is None or found.kind == "recreate")


def test_a_process_of_this_machine_has_caches_and_nothing_else_of_its_own() -> None:
    assert not refusal(Chore(kind="maintain"), "local")
    for chore in (Chore(kind="snapshot"), Chore(kind="restore"), Chore(kind="recreate")):
        assert "the driver local" in refusal(chore, "local") and not refusal(chore, "docker")


def test_the_hour_is_that_of_the_time_zone() -> None:
    settings = MaintenanceSettings(schedule="30 3 * * sun", timezone="Europe/Berlin")
    trigger = maintenance_trigger(settings)
    assert trigger is not None
    due = trigger.get_next_fire_time(None, datetime(2026, 7, 1, tzinfo=UTC))
    assert due.astimezone(UTC) == datetime(2026, 7, 5, 1, 30, tzinfo=UTC)
    assert maintenance_trigger(MaintenanceSettings(schedule=None)) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("schedule: every day", "maintenance.schedule"),
        ("schedule: 30 3 * * 0", "name the day"),
        ("timezone: Mars/Olympus", "no time zone"),
        ("timezone: ../../etc/passwd", "no time zone"),
    ],
)
def test_a_line_that_no_calendar_has_is_told_with_its_place(line: str, said: str) -> None:
    with pytest.raises(CloudCodeError) as raised:
        parse_config(f"{CONFIG}maintenance:\n  {line}\n".encode(), file="config.yaml")
    (problem,) = raised.value.problems
    assert problem.code == "E_SCHEDULE" and problem.line == 3 and said in str(problem)
