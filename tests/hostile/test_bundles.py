"""Bundles that were made to do harm, handed in to the running supervisor: the rows of *Git*."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.core.states import State
from tests import reliability
from tests.fakes import bundles
from tests.fakes.bundles import FILE, Made, Pack, Scene, make_scene
from tests.fakes.hostile_daemon import BUNDLES
from tests.fakes.repositories import clone, git, make_upstream
from tests.hostile import audit
from tests.hostile.ground import Ground, check_audit, check_supervisor

pytestmark = pytest.mark.timeout(450)  # beyond what is waited for within
SECTION = "hostile-bundles"

# Of the cases that the import is tested with one by one: those that are also tried on the whole.
REFUSED = (
    "two refs", "pin ref", "many prerequisites", "endless header", "head mismatch", "foreign prerequisite",
    "foreign blob", "foreign delta base", "merged branch of people", "dropped base", "broken pack", "delta bomb",
    "tree bomb", "290,000 files in 3 KB",
    "git folder in capitals", "git folder by short name", "reserved folder", "reserved in history",
    "case collision", "absolute link", "bidirectional name",
)  # fmt: skip
HELD = ("workflow", "workflow in history", "attributes", "submodule", "agents' instructions")
FILES = {
    "bundle with another sha256": "E_DIGEST",
    "bundle that is not there": "E_NO_BUNDLE",
    "bundle that is a link": "E_SYMLINK",
    "bundle that is a hard link": "E_HARD_LINK",
    "bundle that is a FIFO": "E_NOT_REGULAR",
    "bundle of 10 GB, sparse": "E_TOO_BIG",
    "bundle in the supervisor's folder": "E_UNREADABLE",
    "a document for commits": "E_WRONG_RESULT",
}
SWAPPED = "bundle swapped while it is copied"
CASES = {case.name: case for case in bundles.CASES}
CODES = {name: CASES[name].code or "" for name in REFUSED} | {"a thousand refs": "E_BUNDLE_REFS"} | FILES
ACCEPTED = {
    "honest work": "its branch is pushed",
    "refs/heads/main": "pushed to the task's own branch; main stays as it is",
}
SCENARIOS = reliability.declare(SECTION, [*CODES, *HELD, *ACCEPTED, SWAPPED])


def a_thousand_refs(scene: Scene) -> Made:
    pack = Pack()
    tip = pack.commit(scene.tree_with(pack, (FILE, b"a", pack.blob(b"a"))), [scene.base])
    refs = [(tip, f"refs/heads/b{number}") for number in range(1_000)]
    return Made(bundles.bundle(pack.data(), refs, [scene.base]), tip)


def one_file(scene: Scene, content: bytes, branch: str = "refs/heads/work") -> Made:
    pack = Pack()
    tip = pack.commit(scene.tree_with(pack, (FILE, b"new.txt", pack.blob(content))), [scene.base])
    return Made(pack.bundle(tip, [scene.base], branch), tip)


def make(scene: Scene, name: str) -> Made:
    if name in CASES:
        return CASES[name].make(scene)
    if name == "a thousand refs":
        return a_thousand_refs(scene)
    return one_file(scene, b"good\n", "refs/heads/main" if name == "refs/heads/main" else "refs/heads/work")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    upstream, _ = make_upstream(tmp_path)
    agent = clone(upstream, tmp_path / "agent", "Agent", "agent@example.org")
    foreign = clone(upstream, tmp_path / "foreign", "Other", "other@example.org")
    people = agent.git("rev-parse", "origin/people")
    return make_scene(agent, agent.head(), tmp_path, foreign, people)


@pytest.fixture
def ground(tmp_path: Path, scene: Scene) -> Iterator[Ground]:
    made = Ground(tmp_path, polite_tasks=14)
    made.site.remote = tmp_path / "upstream.git"
    made.site.config["projects"]["demo"]["repository"] = str(made.site.remote)
    yield made
    made.close()


def lay_ready(ground: Ground, scene: Scene, name: str) -> None:
    """The bundle and the claim of a scenario's task."""
    wares = ground.marks / "wares" / ground.tasks[name]
    wares.mkdir(parents=True)
    made = make(scene, name)
    (wares / "result.bundle").write_bytes(made.data)
    (wares / "other.bundle").write_bytes(one_file(scene, b"evil\n").data)
    claim = {"sha256": hashlib.sha256(made.data).hexdigest(), "head": made.head, "base": scene.base}
    (wares / "claim.json").write_text(json.dumps(claim))


def check_refused(ground: Ground, name: str, code: str) -> None:
    """Blocked after its one attempt, with code, file and mend in record, event and listing."""
    task = ground.record(name)
    message = task.waits_for[0].message
    assert (task.state, task.attempts[0].verdict) == (State.BLOCKED, "claim refused"), (name, message)
    assert code in [item.code for item in task.feedback], (name, message)
    assert task.delivery is None and task.request is None
    (event,) = ground.events(name, "claim.refused")
    problem = next(p for p in event["details"]["problems"] if p["code"] == code)
    assert problem["message"] and (problem["file"] or problem["place"] or problem["expected"]), problem
    first = event["details"]["problems"][0]
    assert all(words in message for words in (first["code"], first["file"], first["mend"])), (name, message)
    assert str(ground.root) not in message


def check_held(ground: Ground, name: str) -> None:
    task, path = ground.record(name), CASES[name].held or ""
    assert (task.state, task.waits_for[0].reason.value) == (State.BLOCKED, "approval"), name
    assert path in task.waits_for[0].message
    assert ground.site.root.held_bundle(task.id, 1).exists()


def check_remote(ground: Ground, scene: Scene, before: str) -> None:
    """Only accepted work has arrived, on its own branches; nobody's else content with it."""
    remote = ground.site.remote
    own = {f"refs/heads/{ground.record(name).branch}" for name in ACCEPTED}
    swapped = f"refs/heads/{ground.record(SWAPPED).branch}"
    refs = set(git(remote, "for-each-ref", "--format=%(refname)").split())
    assert refs - {swapped} == {"refs/heads/main", "refs/heads/people"} | own
    assert git(remote, "rev-parse", "main") == before
    objects = git(remote, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    evil = bundles.sha_of("blob", b"evil\n")
    assert not {scene.foreign_blob, scene.foreign_commit, evil} & set(objects)


def test_hostile_bundles(ground: Ground, scene: Scene) -> None:
    ground.add(SCENARIOS)
    for name in SCENARIOS:
        lay_ready(ground, scene, name)
    assert set(BUNDLES) == {*FILES, SWAPPED}
    before = git(ground.site.remote, "rev-parse", "main")
    ground.open()
    ground.wait_until_over()
    waiting = {row["task"]: row for row in ground.status()["waiting"]}
    for name, code in CODES.items():
        check_refused(ground, name, code)
        assert code in waiting[ground.tasks[name]]["message"]
    for name in HELD:
        check_held(ground, name)
    for name in ACCEPTED:
        assert ground.record(name).state is State.REVIEW, ground.record(name).waits_for
    assert ground.record(SWAPPED).state in (State.REVIEW, State.BLOCKED)
    explained = " ".join(ground.site.cli("task", "explain", ground.tasks["git folder in capitals"]).stdout.split())
    assert "E_PATH_GIT" in explained and "(tree " in explained and "Rename it: `git ls-tree " in explained
    figures = check_supervisor(ground)
    check_remote(ground, scene, before)
    assert not list(ground.site.root.quarantine.iterdir()), "nothing is left of what was refused"
    if audit.why_not():
        pytest.skip(f"all but the audit of files and programs: {audit.why_not()}")
    check_audit(ground)
    for name, code in CODES.items():
        reliability.record(SECTION, name, "refused; told with its place; blocked", code=code, **figures)
    for name in HELD:
        reliability.record(SECTION, name, "held until a person approves", **figures)
    for name in ACCEPTED:
        reliability.record(SECTION, name, ACCEPTED[name], **figures)
    outcome = "refused, or the one that was claimed is taken; the other never arrives"
    reliability.record(SECTION, SWAPPED, outcome, code="E_DIGEST", **ground.figures(SWAPPED), **figures)
