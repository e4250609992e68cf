"""Traps in a workstation's clone and worktree: the host never steps in, for it never runs git there."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.core.states import State
from tests import reliability
from tests.fakes import bundles
from tests.fakes.bundles import FILE, Pack
from tests.fakes.hostile_daemon import REPOSITORIES
from tests.hostile import audit
from tests.hostile.ground import Ground, check_audit, check_supervisor
from tests.site import git

pytestmark = pytest.mark.timeout(450)  # beyond what is waited for within
SECTION = "hostile-bundles"
CLI = "coding CLI that rewrites .git under the daemon"
SCENARIOS = reliability.declare(SECTION, [*REPOSITORIES, CLI])
SCRIPT = (
    "cat > /dev/null",
    "common=$(git rev-parse --git-common-dir)",
    "printf '#!/bin/sh\\necho caught >> {marks}/caught-by-the-daemon\\n' > ../trap; chmod +x ../trap",
    "mkdir -p $common/hooks; for hook in pre-commit post-checkout reference-transaction post-commit; do",
    "  cp ../trap $common/hooks/$hook; done",
    "git config core.fsmonitor $PWD/../trap",
    "echo new > new.txt",
    "git init --quiet --bare ../evil.git; git -C ../evil.git config core.fsmonitor $PWD/../trap",
    'echo "gitdir: $PWD/../evil.git" > .git',
)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path, hostile=len(REPOSITORIES), polite_tasks=8)
    yield made
    made.close()


def lay_ready(ground: Ground) -> None:
    """Honest work for each task: what is handed in is fine, where it was made is not."""
    remote = ground.site.remote
    base = git("rev-parse", "main", cwd=remote)
    calc = git("rev-parse", "main:calc.py", cwd=remote)
    for name, task in ground.tasks.items():
        pack = Pack()
        tree = pack.tree([(FILE, b"calc.py", calc), (FILE, b"new.txt", pack.blob(name.encode()))])
        tip = pack.commit(tree, [base])
        data = pack.bundle(tip, [base])
        wares = ground.marks / "wares" / task
        wares.mkdir(parents=True)
        (wares / "result.bundle").write_bytes(data)
        claim = {"sha256": hashlib.sha256(data).hexdigest(), "head": tip, "base": base}
        (wares / "claim.json").write_text(json.dumps(claim))


def test_traps_in_the_workspace(ground: Ground) -> None:
    ground.add(REPOSITORIES)
    lay_ready(ground)
    ground.use_real_daemon(CLI, *(line.format(marks=ground.marks) for line in SCRIPT))
    ground.open()
    ground.wait_until_over()
    for name in REPOSITORIES:
        record = ground.record(name)
        assert record.state is State.REVIEW, (name, record.waits_for)
        pushed = git("rev-parse", f"{record.branch}:new.txt", cwd=ground.site.remote)
        assert pushed == bundles.sha_of("blob", name.encode())
    honest = ground.record(CLI)
    assert honest.state is State.REVIEW, honest.waits_for
    assert git("show", f"{honest.branch}:new.txt", cwd=ground.site.remote) == "new"
    one = ground.tasks["rewritten .git"]
    for verb in ("show", "diff", "logs", "explain"):  # what a person looks at them with
        ground.site.cli("task", verb, one, check=False)
    ground.site.cli("workstation", "list")
    figures = check_supervisor(ground)
    caught = {path.name: path.read_text() for path in ground.marks.glob("caught*")}
    assert caught == {}
    if audit.why_not():
        pytest.skip(f"all but the audit of files and programs: {audit.why_not()}")
    found = check_audit(ground)
    assert not [program for program in found.executed if "trap" in program.argv[0]]
    for name in REPOSITORIES:
        reliability.record(SECTION, name, "not stepped into; the work is taken from its bundle", **figures)
    reliability.record(
        SECTION, CLI, "the daemon puts .git right and runs none of it; the work is taken", **figures
    )
