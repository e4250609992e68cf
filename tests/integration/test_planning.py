"""An attempt that only plans: real git undoes what was changed, real CLIs refuse to change anything."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_daemon import handing_in, planning, run
from agent_daemon.attempt import Attempt
from agent_daemon.checkout import head
from agent_daemon.clis.base import Verdict
from agent_daemon.ownership import Owner, _write_owner
from agent_daemon.places import AttemptPlaces
from agent_daemon.protocol.model import (
    MAX_PLAN_BYTES,
    AgentConfig,
    CliConfig,
    ReportStatus,
    TaskReport,
    WaitReason,
)
from agent_daemon.stage import read_stage
from tests.fakes.scripted_model import FINAL_TEXT, ScriptedModel
from tests.integration.test_ownership import STATES, Owned, place  # noqa: F401
from tests.integration.test_worktree import BRANCH, git
from tests.real_clis import PATCH, Driver, settings_of
from tests.unit.conftest import make_tasking


class Planner:
    """An attempt with phase `plan` in a worktree where work lies that is to stay."""

    def __init__(self, owned: Owned) -> None:
        self.place, self.said = owned, list[str]()
        self.worktree, self.outbox = owned.worktree, owned.worktree.parents[1] / "out"
        self.outbox.mkdir()
        (self.worktree / ".cloud-code").mkdir(exist_ok=True)
        (self.worktree / ".cloud-code" / "plan.md").write_text("that of an earlier attempt")
        self.before, self.files = head(self.worktree), self.content()
        self.attempt = self.started()
        planning.remember(self.attempt)

    def started(self) -> Attempt:
        request = self.place.request
        return Attempt(
            task=make_tasking(
                id="acme-app.1",
                phase="plan",
                workspace_source=str(self.place.mirror),
                branch=BRANCH,
                base_commit=request.base_commit,
            ),
            config=AgentConfig(revision=1, cli=CliConfig(name="x", adapter="command")),
            places=AttemptPlaces(
                inbox=self.outbox,
                outbox=self.outbox,
                clone=self.place.clone,
                worktree=self.worktree,
                homes=self.outbox,
            ),
            agent_type="backend",
            known=TaskReport(attempt=1, status=ReportStatus.PLANNING),
            tell=lambda fields, message: self.said.append(message or ""),
            latest=lambda: self.attempt.task,
            stage=read_stage(self.outbox),
        )

    def content(self) -> dict[str, bytes]:
        paths = (p for p in self.worktree.rglob("*") if p.is_file() and ".cloud-code" not in p.parts)
        return {str(p.relative_to(self.worktree)): p.read_bytes() for p in paths if ".git" not in p.parts}

    def closing(self, message: str) -> dict[str, Any]:
        self.attempt.advance(finished=True, message=message)
        return planning.hand_in(self.attempt)


@pytest.fixture
def planner(place: Owned) -> Planner:  # noqa: F811
    return Planner(place)


def make_a_mess(place: Owned) -> None:  # noqa: F811
    (place.worktree / "precious.txt").unlink()
    (place.worktree / "new").mkdir()
    (place.worktree / "new" / "file.txt").write_text("new\n")
    git(place.worktree, "init", "-q", "new/nested")
    git(place.worktree, "add", "new/file.txt")


@pytest.mark.parametrize("meddle", [*STATES, make_a_mess])
def test_what_was_changed_is_undone_and_kept_aside(planner: Planner, meddle: Callable[[Owned], None]) -> None:
    meddle(planner.place)
    (planner.worktree / "precious.txt").write_text("theirs\n")
    closing = planner.closing("1. Do it.")
    assert (closing["status"], closing["plan"]) == (ReportStatus.BLOCKED, "1. Do it.")
    assert closing["blocked_reason"].reason is WaitReason.APPROVAL and closing["salvage"] is None
    assert head(planner.worktree) == planner.before and planner.content() == planner.files
    assert git(planner.worktree, "symbolic-ref", "--short", "HEAD") == BRANCH
    assert planner.said == [
        "It was to plan only, and changed files: that is undone: they are kept in plan-edits.bundle"
    ]
    assert (planner.outbox / "plan-edits.bundle").exists()
    assert (planner.outbox / "plan.md").read_text() == "1. Do it."


def files_of(planner: Planner, commit: str) -> list[str]:
    return git(planner.worktree, "ls-tree", "-r", "--name-only", commit).split()


@pytest.mark.parametrize("end", [run.cancel, handing_in.interrupted, lambda a: run.give_up(a, OSError("disk"))])
def test_however_it_is_ended_its_edits_are_no_work(
    planner: Planner, end: Callable[[Attempt], dict[str, Any]]
) -> None:
    make_a_mess(planner.place)
    made = end(planner.attempt)["salvage"]
    assert planner.content() == planner.files and (planner.outbox / "plan-edits.bundle").exists()
    assert made is None or "new/file.txt" not in files_of(planner, made.head)
    assert len(planner.said) == 1 and "changed files: that is undone" in planner.said[0]


def test_the_edits_of_another_attempt_that_has_gone_on_there_are_left_alone(planner: Planner) -> None:
    (planner.worktree / "new.txt").write_text("of the next attempt\n")
    _write_owner(planner.worktree, Owner(task="acme-app.1", attempt=2, branch=BRANCH))
    assert run.cancel(planner.attempt)["salvage"] is None
    assert (planner.worktree / "new.txt").exists() and planner.said == []


def test_nothing_is_told_where_nothing_was_changed(planner: Planner) -> None:
    assert planner.closing("1. Do it.")["plan"] == "1. Do it."
    assert planner.said == [] and not (planner.outbox / "plan-edits.bundle").exists()


def test_what_was_there_before_is_known_after_a_restart(planner: Planner) -> None:
    (planner.worktree / "precious.txt").write_text("theirs\n")
    planner.attempt = planner.started()
    planning.remember(planner.attempt)
    planner.closing("1. Do it.")
    assert planner.content() == planner.files


def test_a_plan_in_a_file_counts_more_than_the_last_words(planner: Planner) -> None:
    (planner.worktree / ".cloud-code" / "plan.md").write_text("ü" * MAX_PLAN_BYTES)
    plan = planner.closing("Done.")["plan"]
    assert plan.startswith("üü") and plan.endswith("does not count]") and len(plan.encode()) <= MAX_PLAN_BYTES


def test_a_link_is_no_plan_and_no_plan_is_a_failure(planner: Planner) -> None:
    (planner.worktree / ".cloud-code" / "plan.md").symlink_to("/etc/passwd")
    closing = planner.closing("")
    assert (closing["status"], closing["error"].code) == (ReportStatus.FAILED, "E_NO_PLAN")


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_a_real_cli_in_its_planning_mode_reads_and_changes_nothing(name: str, tmp_path: Path) -> None:
    driver = Driver.in_repository(tmp_path)
    steps = [{"shell": "cat calc.py"}, {"shell": "sed -i s/-/+/ calc.py"}, {"patch": PATCH}]
    with ScriptedModel(steps=steps) as model:
        settings = settings_of(name, driver.home, model)
        verdict = driver.run(settings, prompt="Plan it.\n", plan=True)
        said = next(event.message for event in reversed(driver.events) if event.kind == "message")
        verdict = planning.judge(verdict, said)
        assert (verdict.outcome, verdict.message) == ("completed", FINAL_TEXT)
        assert "return a - b" in (driver.tree / "calc.py").read_text()
        assert "return a - b" in str(model.requests[-1].body)  # it could read
        second = driver.run(settings, prompt="Go on.\n", session_id=verdict.session_id, previous=verdict.usage)
        assert second.outcome == "completed" and "Plan it." in str(model.requests[-1].body)


def test_only_a_refusal_with_words_becomes_a_plan() -> None:
    refused = Verdict(outcome="refused", message="not permitted: Edit; it said: 1. Do it.")
    assert planning.judge(refused, "1. Do it.").message == "1. Do it."
    assert planning.judge(refused, "") == refused
    crashed = Verdict(outcome="crashed", message="")
    assert planning.judge(crashed, "1. Do it.") == crashed
