"""The nightly work on a mirror: pins of tasks that are over go, objects stay."""

from pathlib import Path

from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.paths import Root
from supervisor.core.states import State
from supervisor.git.mirror import Mirror, fetch_mirror, pin, pins, resolve
from supervisor.jobs.maintenance import maintain_mirror
from supervisor.records import RecordStore
from tests.fakes.repositories import git, make_upstream
from tests.unit.conftest import NOW, make_attempt, make_task


def test_only_tasks_that_may_still_borrow_keep_their_pins(tmp_path: Path) -> None:
    upstream, person = make_upstream(tmp_path)
    mirror, root = Mirror(tmp_path / "mirrors" / "app.git"), Root(tmp_path / "root")
    fetch_mirror(mirror, str(upstream))
    for folder in (root.records, root.archive, root.quarantine):
        make_folder(folder)
    store = RecordStore(root)
    ended = make_attempt(ended_at=NOW, verdict="completed", saved=True)
    tasks = {
        "acme.live": make_task(id="acme.live"),
        "acme.over": make_task(id="acme.over", state=State.COMPLETED, attempts=(ended.evolve(released=True),)),
        "acme.left": make_task(id="acme.left", state=State.CANCELLED, attempts=(ended.evolve(abandoned=True),)),
        "acme.damaged": make_task(id="acme.damaged"),
        "acme.gone": make_task(id="acme.gone"),
    }
    base = person.head()
    for task_id, task in tasks.items():
        pin(mirror, task_id, base)
        saved = store.save(task)
        if task.ended:
            store.archive(saved)
    (root.records / "acme.gone.yaml").unlink()
    (root.records / "acme.damaged.yaml").rename(root.quarantine / "record-acme.damaged.yaml")
    person.git("checkout", "--quiet", "-B", "main", "HEAD~1")
    person.git("push", "--quiet", "--force", "origin", "main")
    fetch_mirror(mirror, str(upstream))
    maintain_mirror(store, mirror)
    assert set(pins(mirror)) == {"acme.live", "acme.left", "acme.damaged"}
    for task_id in pins(mirror):
        git(mirror.path, "update-ref", "-d", f"refs/pins/{task_id}")
    maintain_mirror(store, mirror)
    assert resolve(mirror, base) == base, "nothing is pruned"


def test_a_project_that_has_not_been_fetched_needs_nothing(tmp_path: Path) -> None:
    maintain_mirror(RecordStore(Root(tmp_path)), Mirror(tmp_path / "none.git"))
