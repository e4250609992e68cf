"""A daemon that misbehaves in its own folder, against the running supervisor: the rows of *Files*."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import reliability
from tests.fakes import hostile_daemon
from tests.hostile import audit
from tests.hostile.ground import Ground, check_audit, check_supervisor

pytestmark = pytest.mark.timeout(450)  # beyond what is waited for within
SECTION = "hostile-workstation"

# What stands in the report's place for good: the code that must come of it.
PLACES = {
    "link to a file of the supervisor": "E_SYMLINK",
    "attempt's folder is a link": "E_SYMLINK",
    "task's folder is a link": "E_SYMLINK",
    "link that leads nowhere": "E_SYMLINK",
    "file in a folder's place": "E_NOT_REGULAR",
    "FIFO": "E_NOT_REGULAR",
    "device": "E_NOT_REGULAR",
    "socket": "E_NOT_REGULAR",
    "folder": "E_NOT_REGULAR",
    "hard link to a file of the supervisor": "E_HARD_LINK",
    "sparse file of 10 GB": "E_TOO_BIG",
}
CONTENTS = {
    "scalar of 10 MB": "E_TOO_BIG",
    "scalar of 20 KB": "E_TOO_LONG",
    "a million keys": "E_TOO_BIG",
    "15,000 keys": "E_TOO_MANY",
    "alias bomb": "E_ANCHOR",
    "merge bomb": "E_ANCHOR",
    "25,000 lists in each other": "E_TOO_DEEP",
    "10,000 mappings in each other": "E_TOO_DEEP",
    "25,000 lists that are never closed": "E_TOO_DEEP",
    "key twice": "E_DUPLICATE_KEY",
    "tag": "E_TAG",
    "two documents": "E_MANY_DOCUMENTS",
    "bad UTF-8": "E_ENCODING",
    "NUL": "E_CONTROL",
    "escape sequence": "E_CONTROL",
    "`no` for a number": "E_SCHEMA",
    "`1:30` for a number": "E_SCHEMA",
    "`.nan` for an amount": "E_SCHEMA",
    "`017` for an attempt": "E_WRONG_TASK",
    "impossible date": "E_SCHEMA",
    "empty file": "E_UNFINISHED",
    "cut short": "E_UNFINISHED",
    "a list": "E_YAML",
    "another task's id": "E_WRONG_TASK",
    "two tasks": "E_SCHEMA",
    "attempt of the future": "E_WRONG_TASK",
    "newer version": "E_VERSION",
}
# What passes: the task goes on by its good reports, to the end that its daemon tells. The codes that may be told.
PASSING = {
    "link and file in turns": ("E_SYMLINK", "nothing of the link's target is read"),
    "folder and link in turns": ("E_SYMLINK", "nothing of the link's target is read"),
    "hard link and file in turns": ("E_HARD_LINK", "nothing of the linked file is read"),
    "written in place, cut short each time": ("E_CHANGING", "no torn report is taken"),
    "a million events": ("", "they are a few messages; nobody waits"),
    "the dearest reports, one after the other": ("", "each has its turn; nobody waits"),
    "revision that goes back": ("", "told once as `report.revision_fell`; the report is taken"),
    "report in the folder of a future attempt": ("", "nobody looks there"),
    "planted links beside what is written": ("E_TAG", "what they lead to is untouched; feedback is written"),
}
# Each on a workstation of its own: what is told of its sign of life meanwhile.
SIGNS = {
    "sign of life in another's name": "E_WRONG_WORKSTATION",
    "thousands of tasks in the sign of life": "E_TOO_MANY",
    "sign of life without an end": "E_UNFINISHED",
    "heartbeat that leaps and goes back": "",
}
FORK = "a fork that lives on after its attempt"
SCENARIOS = reliability.declare(SECTION, [*PLACES, *CONTENTS, *PASSING, *SIGNS, FORK])


def test_each_scenario_is_expected() -> None:
    assert {*PLACES, *CONTENTS, *PASSING, FORK} == set(hostile_daemon.SCENARIOS)
    assert set(SIGNS) == set(hostile_daemon.SIGNS)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.close()


def check_refused(ground: Ground, name: str, code: str) -> None:
    """Blocked, with code, file, place and mend wherever people look; the last good report stayed in force."""
    task = ground.record(name)
    events = ground.events(name, "report.refused")
    assert [event["details"]["code"] for event in events] == [code], name
    details, message = events[0]["details"], task.waits_for[0].message
    file = f"mail/{task.attempts[0].workstation}/out/{task.id}/1/reporting.yaml"
    assert details["file"] == file and details["message"] and details["mend"]
    assert (task.state.value, task.attempts[0].verdict) == ("blocked", "unreadable report")
    assert all(word in message for word in (code, file, details["mend"], details["place"] or code)), message
    refused = next(n for n, event in enumerate(ground.events(name)) if event["event"] == "report.refused")
    assert "task.started" in [event["event"] for event in ground.events(name)[:refused]], "a good one came first"


def check_shown(ground: Ground, expected: dict[str, str]) -> None:
    """`status --json` and `task explain` name code, file, place and mend."""
    shown = ground.status()
    problems = {problem["file"]: problem for problem in shown["problems"]}
    waiting = {row["task"]: row for row in shown["waiting"]}
    for name, code in expected.items():
        task = ground.record(name)
        problem = problems[f"mail/{task.attempts[0].workstation}/out/{task.id}/1/reporting.yaml"]
        assert problem["code"] == code and problem["mend"], name
        assert code in waiting[task.id]["message"]
    name = next(iter(expected))
    explained = ground.site.cli("task", "explain", ground.tasks[name]).stdout
    words = " ".join(explained.split())
    assert expected[name] in words and "reporting.yaml" in words and "retry" in words, explained


def check_passed(ground: Ground, name: str) -> None:
    """It goes on by its last good report: the end is the one that its daemon tells, not the planted one."""
    task, code = ground.record(name), PASSING[name][0]
    assert task.waits_for[0].message == "the attack is over", name
    assert {event["details"]["code"] for event in ground.events(name, "report.refused")} <= {code}, name
    assert len(ground.events(name)) < 20, "it does not fill the log"


def test_something_else_in_the_reports_place(ground: Ground) -> None:
    ground.add(PLACES)
    run(ground, PLACES)


def test_what_stands_in_a_report(ground: Ground) -> None:
    ground.add(CONTENTS)
    run(ground, CONTENTS)


def test_races_and_storms(ground: Ground) -> None:
    ground.site.config["timing"]["problem_grace_seconds"] = 60
    ground.add(PASSING)
    run(ground, {})
    assert len(ground.events("revision that goes back", "report.revision_fell")) == 1


def test_signs_of_life_and_forks(ground: Ground) -> None:
    ground.add(SIGNS)
    ground.add([FORK], max_failures=2)
    ground.open()
    ground.wait_until_over()
    for name, code in SIGNS.items():
        task = ground.record(name)
        assert task.waits_for[0].message == "the attack is over", name
        station = task.attempts[0].workstation
        told = [e for e in ground.site.events("workstation.refused") if e["workstation"] == station]
        assert [event["details"]["code"] for event in told] == [code] * bool(code), name
        assert all(e["details"]["file"] == f"mail/{station}/out/workstation.yaml" for e in told)
        assert all(event["details"]["mend"] for event in told)
    forked = ground.record(FORK)
    assert [attempt.verdict for attempt in forked.attempts] == ["failed", "blocked"]
    assert forked.waits_for[0].message == "the attack is over"
    assert "LEAKED" not in ground.everything_written()
    assert not ground.site.events("workstation.suspect", "workstation.silent", "workstation.died")
    figures = check_supervisor(ground)
    if audit.why_not():
        pytest.skip(f"all but the audit of files and programs: {audit.why_not()}")
    check_audit(ground)
    for name, code in SIGNS.items():
        outcome = "told; counts as no sign of life" if code else "each change is a sign of life, nothing more"
        reliability.record(SECTION, name, outcome, code=code, **figures)
    reliability.record(SECTION, FORK, "what it writes for the ended attempt decides nothing", **figures)


def run(ground: Ground, refused: dict[str, str]) -> None:
    ground.open()
    ground.wait_until_over()
    if refused:
        check_shown(ground, refused)
    figures = check_supervisor(ground)
    for name in ground.tasks:
        if name in refused:
            check_refused(ground, name, refused[name])
        else:
            check_passed(ground, name)
    if audit.why_not():
        pytest.skip(f"all but the audit of files and programs: {audit.why_not()}")
    check_audit(ground)
    for name in ground.tasks:
        outcome = "told, blocked with the reason" if name in refused else PASSING[name][1]
        code = refused.get(name) or PASSING[name][0]
        own = {"told_after_ms": 1000 * ground.told_seconds(name)} if name in refused else ground.figures(name)
        reliability.record(SECTION, name, outcome, code=code, **own, **figures)
