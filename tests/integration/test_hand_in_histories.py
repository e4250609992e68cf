"""Whatever an agent and the others do: what is handed in is what the agent did, or a conflict is told.

The whole way: the daemon's hand-in on one side, the supervisor's import on the other, real repositories between.
"""

import itertools
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from agent_daemon import handing_in, workplace
from agent_daemon.attempt import Attempt
from agent_daemon.places import attempt_places
from agent_daemon.protocol.model import (
    AgentConfig,
    CliConfig,
    ReportStatus,
    SupervisorIdentity,
    Tasking,
    TaskReport,
    WorkspaceMode,
    utc,
)
from agent_daemon.protocol.paths import Root
from supervisor.clock import Clock
from supervisor.git.merging import try_merge
from supervisor.git.mirror import Mirror, fetch_mirror
from supervisor.git.quarantine import SALVAGE_LIMITS, Identity, Imported, ImportRequest, import_bundle
from tests.fakes.repositories import Clone, clone, git
from tests.thorough import examples
from tests.unit.conftest import make_tasking

TEXT = "".join(f"line {number}\n" for number in range(10))
NAMES = ("a.txt", "b.txt", "dir/c.txt", "new.txt", "dir/new.txt")
CHANGE = st.one_of(
    st.tuples(st.just("line"), st.sampled_from(NAMES), st.integers(0, 9), st.sampled_from("xyz")),
    st.tuples(st.just("whole"), st.sampled_from(NAMES), st.integers(1, 12), st.sampled_from("xyz")),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.just(0), st.just("")),
)
STEP = st.tuples(st.lists(CHANGE, min_size=1, max_size=3), st.booleans())
STEPS = st.lists(STEP, max_size=3)
MEANWHILE = st.sampled_from(["nothing", "merge", "rebase"])
counter = itertools.count()


class Place:
    """An upstream, its mirror, a person, and an attempt whose worktree is ready."""

    def __init__(self, folder: Path, mode: WorkspaceMode) -> None:
        git(folder, "init", "--quiet", "--bare", "--initial-branch=main", "upstream.git")
        self.upstream, self.quarantine = folder / "upstream.git", folder / "quarantine"
        self.person = clone(self.upstream, folder / "person", "Paula Person", "paula@example.org")
        self.person.git("checkout", "--quiet", "-b", "main")
        self.base = self.person.commit("Begin", {"a.txt": TEXT, "b.txt": TEXT, "dir/c.txt": TEXT})
        self.root = Root(folder / "root")
        self.mirror = Mirror(self.root.mirror("default", "demo"))
        self.push()
        self.attempt = self._attempt(mode)
        workplace.prepare(self.attempt)
        self.worktree = self.attempt.places.worktree
        self.agent = Clone(self.worktree, "Agent", "agent@example.org")

    def _attempt(self, mode: WorkspaceMode) -> Attempt:
        task = make_tasking(
            id="demo.fix",
            workspace_mode=mode,
            workspace_source=str(self.mirror.path),
            branch="cloud-code/fix",
            base_commit=self.base,
            rebase="before_result",
        )
        tasking = Tasking(
            revision=1,
            updated_at=utc(Clock().now()),
            supervisor=SupervisorIdentity(id="test", epoch=1),
            workspace=str(self.root.task_workspace("backend-1", "demo.fix", mode).worktree),
            tasks=(task,),
        )
        places = attempt_places(self.root, "backend-1", tasking)
        places.logs.mkdir(parents=True)
        return Attempt(
            task=task,
            config=AgentConfig(revision=1, cli=CliConfig(name="scripted", adapter="command")),
            places=places,
            agent_type="backend",
            known=TaskReport(attempt=1, status=ReportStatus.IN_PROGRESS),
            tell=lambda _fields, _text: None,
            latest=lambda: task,
        )

    def push(self) -> None:
        self.person.git("push", "--quiet", "origin", "main")
        fetch_mirror(self.mirror, str(self.upstream))

    def play(self, who: Clone, steps: list[tuple[list[tuple[str, str, int, str]], bool]], *, commit: bool) -> None:
        for number, (changes, is_committed) in enumerate(steps):
            for change in changes:
                _apply(who.path, *change)
            if commit or is_committed:
                commit_all(who, f"Step {number}")

    def catch_up(self, how: str) -> None:
        """The agent itself takes in what came to the base branch, in whatever way goes through."""
        workplace.refresh_branches(self.attempt)
        commit_all(self.agent, "Before")
        words = {
            "merge": ("merge", "--quiet", "-X", "ours", "--no-edit", "origin/main"),
            "rebase": ("rebase", "--quiet", "--empty=keep", "-X", "theirs", "origin/main"),
        }
        if how in words:
            try:
                self.agent.git(*words[how])
            except AssertionError:  # a file that one side removed and the other changed
                self.agent.git(how, "--abort")

    def take(self, fields: dict[str, Any], purpose: str) -> Imported:
        """Import what was handed in, as the supervisor does."""
        handed_in = fields["result"] if purpose == "result" else fields["salvage"]
        more = {"limits": SALVAGE_LIMITS} if purpose == "salvage" else {}
        request = ImportRequest(
            quarantine=self.quarantine,
            bundle=self.attempt.places.outbox / handed_in.bundle,
            mirror=self.mirror.path,
            base_branch="main",
            base_commit=self.base,
            claimed_head=handed_in.head,
            claimed_base=handed_in.base,
            identity=Identity(bot_name="Cloud Code", bot_email="bot@example.org"),
            purpose=purpose,  # type: ignore[arg-type]
            **more,  # type: ignore[arg-type]
        )
        return import_bundle(request)


def commit_all(who: Clone, message: str) -> None:
    who.git("add", "--all")
    who.git("commit", "--quiet", "--allow-empty", "--message", message)


def _apply(folder: Path, kind: str, name: str, position: int, text: str) -> None:
    path = folder / name
    if kind == "whole":
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{text}\n" * position)
    elif not path.exists():
        return
    elif kind == "remove":
        path.unlink()
    else:
        lines = path.read_text().splitlines(keepends=True)
        if position < len(lines):
            lines[position] = f"{text}\n"
            path.write_text("".join(lines))


def tree(folder: Path, commit: str) -> str:
    return git(folder, "rev-parse", f"{commit}^{{tree}}")


@pytest.mark.timeout(600)
@given(
    first=STEPS,
    early=STEPS,
    meanwhile=MEANWHILE,
    then=STEPS,
    late=STEPS,
    mode=st.sampled_from(list(WorkspaceMode)),
)
@settings(
    max_examples=examples(10),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # each takes a second: nothing is made smaller
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_work_arrives_whole_or_a_conflict_is_told(
    tmp_path: Path, first: Any, early: Any, meanwhile: str, then: Any, late: Any, mode: WorkspaceMode
) -> None:
    folder = tmp_path / str(next(counter))
    folder.mkdir()
    place = Place(folder, mode)
    place.play(place.agent, first, commit=False)
    place.play(place.person, early, commit=True)
    place.push()
    place.catch_up(meanwhile)
    place.play(place.agent, then, commit=False)
    place.play(place.person, late, commit=True)
    place.push()
    # What the agent has made, as a commit that nobody but this test knows.
    whole = snapshot(place.agent, folder / "index")

    fields = handing_in.hand_in(place.attempt)
    assert fields is not None
    onto = place.person.head()
    # The mirror's objects are borrowed by the quarantine, the snapshot lies in the clone: bring both together.
    git(place.worktree, "fetch", "--quiet", str(place.upstream), "main")
    expected = try_merge(place.attempt.places.clone / ".git", onto, whole)
    rebase = fields["rebase"]
    event(f"{fields['status']} {rebase.outcome if rebase else 'as it was'}")
    if fields["status"] is ReportStatus.FAILED:
        assert fields["error"].code == "E_BASE_CONFLICT" and not expected.clean
        saved = place.take(fields, "salvage")
        assert tree(place.quarantine, saved.head) == tree(place.worktree, whole), "the work as it was"
        return
    assert fields["status"] is ReportStatus.COMPLETED
    if fields["result"] is None:
        base = handing_in.handover.result_base(place.worktree, "main", place.base)
        assert tree(place.worktree, whole) == tree(place.worktree, base), "nothing to hand in"
        return
    assert expected.clean
    if tree(place.worktree, fields["result"].head) == tree(place.worktree, fields["result"].base):
        return  # steps that come to nothing: a claim that the supervisor refuses as empty
    taken = place.take(fields, "result")
    merged = try_merge(place.quarantine, onto, taken.pushed_head)
    assert merged.clean and merged.tree == expected.tree, "all of the task's changes, and nobody else's undone"
    assert git(place.mirror.path, "merge-base", "main", taken.base) == taken.base
    log = git(place.quarantine, "log", "--format=%ae", f"{onto}..{taken.pushed_head}").split()
    assert set(log) == {"bot@example.org"}, "no commit of others comes along"


def snapshot(who: Clone, index: Path) -> str:
    """A commit on HEAD of all that is not ignored, made with an index of its own."""
    environment = {**os.environ, "GIT_INDEX_FILE": str(index)}
    printed = ""
    for words in (("read-tree", "HEAD"), ("add", "--all"), ("write-tree",)):
        command = ["git", *words]
        printed = subprocess.check_output(command, cwd=who.path, env=environment, text=True, timeout=60)
    return who.git("commit-tree", "-p", "HEAD", "-m", "All of it", printed.strip())
