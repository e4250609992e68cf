"""What people do with a delivered branch on the remote: merge it in every way there is, or throw it away."""

from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.core.record import TaskRecord
from tests.site import Site, git, wait_for


def deliver(site: Site) -> TaskRecord:
    """A task in review whose branch has two commits."""
    site.use_script(
        "cat > /dev/null",
        "echo one > one.txt; git add one.txt; git commit -qm One || true; echo two > two.txt",
        "sed -i 's/a - b/a + b/' calc.py",
    )
    site.write_config()
    site.start()
    site.write_task("fix-add")
    return site.wait_state("demo.fix-add", "review")


def colleague(site: Site) -> Path:
    folder = site.folder / "colleague"
    if not folder.exists():
        git("clone", "-q", str(site.remote), str(folder), cwd=site.folder)
    git("fetch", "-q", "--prune", "origin", cwd=folder)
    git("checkout", "-q", "-B", "main", "origin/main", cwd=folder)
    return folder


def squash(folder: Path, branch: str) -> None:
    git("merge", "-q", "--squash", f"origin/{branch}", cwd=folder)
    git("commit", "-qm", "Squashed", cwd=folder)


def rebase(folder: Path, branch: str) -> None:
    (folder / "else.txt").write_text("else")
    git("add", "--all", cwd=folder)
    git("commit", "-qm", "Something else", cwd=folder)
    git("cherry-pick", f"main..origin/{branch}", cwd=folder)


def merge(folder: Path, branch: str) -> None:
    git("merge", "-q", "--no-ff", "--no-edit", f"origin/{branch}", cwd=folder)


@pytest.mark.parametrize("way", [merge, squash, rebase])
@pytest.mark.parametrize("deleted", [False, True])
def test_a_merge_is_noticed_in_whatever_way(site: Site, way: Callable[[Path, str], None], deleted: bool) -> None:
    task = deliver(site)
    folder = colleague(site)
    way(folder, task.branch)
    (folder / "later.txt").write_text("later")
    git("add", "--all", cwd=folder)
    git("commit", "-qm", "Later", cwd=folder)
    refs = ["main", *([f":{task.branch}"] if deleted else [])]
    git("push", "-q", "--atomic", "origin", *refs, cwd=folder)
    done = site.wait_state("demo.fix-add", "completed", "blocked", "cancelled")
    assert done.state == "completed", site.story("demo.fix-add")
    said = "merged into main" if way is merge else "its changes are in main"
    assert done.history[-1].reason == said and done.request is not None and done.request.state == "merged"


def test_a_delivery_that_changes_nothing_is_merged_only_by_its_commits(site: Site) -> None:
    site.use_script("cat > /dev/null", "git commit -q --allow-empty --message='Nothing to do'")
    site.write_config()
    site.start()
    site.write_task("fix-add", allow_empty=True)
    task = site.wait_state("demo.fix-add", "review", "completed")
    folder = colleague(site)
    for number in (1, 2):  # two looks at it, for the second one begins only after the first
        (folder / "else.txt").write_text(str(number))
        git("add", "--all", cwd=folder)
        git("commit", "-qm", "Something else", cwd=folder)
        git("push", "-q", "origin", "main", cwd=folder)
        tip, mirror = git("rev-parse", "main", cwd=folder), site.root.mirror("default", "demo")
        wait_for(lambda tip=tip, mirror=mirror: git("rev-parse", "main", cwd=mirror) == tip)  # type: ignore[misc]
    assert site.record("demo.fix-add").state == "review"  # type: ignore[union-attr]
    merge(folder, task.branch)
    git("push", "-q", "origin", "main", cwd=folder)
    assert site.wait_state("demo.fix-add", "completed").history[-1].reason == "merged into main"


def test_a_branch_that_is_deleted_unmerged_asks_a_person_who_can_go_on_with_its_work(site: Site) -> None:
    task = deliver(site)
    git("branch", "-D", task.branch, cwd=site.remote)
    blocked = site.wait_state("demo.fix-add", "blocked", "cancelled", "completed")
    assert blocked.state == "blocked" and "closed unmerged" in blocked.waits_for[0].message
    assert blocked.request is not None and blocked.request.state == "closed"
    saved = site.root.salvaged("demo.fix-add", 1)
    wait_for(saved.exists)
    assert "task retry demo.fix-add" in site.cli("task", "explain", "fix-add").stdout
    site.cli("task", "retry", "fix-add", "--note", "once more")
    again = site.wait_state("demo.fix-add", "review")
    assert again.attempt == 2 and again.branch == task.branch
    assert git("show", f"{task.branch}:two.txt", cwd=site.remote) == "two"


def test_a_deleted_branch_can_be_put_back_before_the_task_goes_on(site: Site) -> None:
    task = deliver(site)
    head = git("rev-parse", task.branch, cwd=site.remote)
    git("branch", "-D", task.branch, cwd=site.remote)
    site.wait_state("demo.fix-add", "blocked")
    git("branch", task.branch, head, cwd=site.remote)
    site.use_script("cat > /dev/null", "echo three > three.txt")
    site.cli("task", "retry", "fix-add")
    again = site.wait_state("demo.fix-add", "review")
    assert again.attempt == 2
    git("merge-base", "--is-ancestor", head, again.branch, cwd=site.remote)


def test_a_task_that_builds_on_squashed_work_starts_from_the_base(site: Site) -> None:
    task = deliver(site)
    folder = colleague(site)
    squash(folder, task.branch)
    git("push", "-q", "--atomic", "origin", "main", f":{task.branch}", cwd=folder)
    site.wait_state("demo.fix-add", "completed")
    site.use_script("cat > /dev/null", "echo next > next.txt")
    site.write_task("next", depends_on=["fix-add"])
    second = site.wait_state("demo.next", "review", "blocked")
    assert second.state == "review" and second.delivery is not None
    assert [file.path for file in second.delivery.files] == ["next.txt"]


@pytest.mark.parametrize("way", [merge, squash])
def test_a_branch_that_the_remote_cannot_read_keeps_no_other_merge_from_being_noticed(
    site: Site, way: Callable[[Path, str], None]
) -> None:
    site.use_script("cat > /dev/null", "basename $PWD > $(basename $PWD).txt")
    site.config["projects"]["demo"]["poll_interval_seconds"] = 2
    site.write_config()
    site.start()
    for stem in ("first", "second"):
        site.write_task(stem)
        site.wait_state(f"demo.{stem}", "review")
    first, second = site.record("demo.first"), site.record("demo.second")
    assert first is not None and second is not None
    folder = colleague(site)
    tree = git("rev-parse", f"{first.branch}^{{tree}}", cwd=site.remote)
    damaged = site.remote / "objects" / tree[:2] / tree[2:]
    damaged.chmod(0o644)
    damaged.write_bytes(b"garbage")
    way(folder, second.branch)
    git("push", "-q", "origin", "main", cwd=folder)
    site.wait_state("demo.second", "completed")
    wait_for(lambda: site.events("poll.failed"), what="the branch that cannot be read is told of")
    assert site.record("demo.first").state == "review"  # type: ignore[union-attr]


def test_what_a_disk_refused_to_keep_of_a_look_is_found_by_the_next_one(site: Site) -> None:
    site.use_script("cat > /dev/null", "echo $(basename $PWD) > shared.txt")
    site.write_config()
    site.start()
    for stem in ("first", "second"):
        site.write_task(stem)
        site.wait_state(f"demo.{stem}", "review")
    record = site.root.record("demo.first")
    kept, log = record.with_suffix(".kept"), site.folder / "supervisor.log"
    record.rename(kept)
    record.mkdir()  # no file takes its place
    folder = colleague(site)
    (folder / "shared.txt").write_text("a person's")
    git("add", "--all", cwd=folder)
    git("commit", "-qm", "Shared", cwd=folder)
    git("push", "-q", "origin", "main", cwd=folder)
    wait_for(lambda: "E_STATE_DISK: settling Poll:demo" in log.read_text())
    record.rmdir()
    kept.rename(record)
    wait_for(lambda: {e["task"] for e in site.events("request.conflicts")} == {"demo.first", "demo.second"})


@pytest.mark.parametrize("way", [merge, squash])
@pytest.mark.parametrize("how", ["leaves it", "goes to main", "branch is deleted"])
def test_a_merge_while_a_later_attempt_works_completes_the_task_when_that_has_nothing_to_add(
    site: Site, way: Callable[[Path, str], None], how: str
) -> None:
    task = retry_meanwhile(site, "git fetch -q origin; git merge -q origin/main" if how == "goes to main" else ":")
    folder = colleague(site)
    way(folder, task.branch)
    refs = ["main", *([f":{task.branch}"] if how == "branch is deleted" else [])]
    git("push", "-q", "--atomic", "origin", *refs, cwd=folder)
    (site.folder / "go").touch()
    done = site.wait_state("demo.fix-add", "completed", "blocked")
    assert done.state == "completed" and done.attempt == 2, site.story("demo.fix-add")
    assert done.request is not None and done.request.state == "merged"
    assert "in main" in done.history[-1].reason or "merged into main" in done.history[-1].reason


def test_what_an_attempt_adds_to_a_branch_that_was_merged_meanwhile_is_delivered(site: Site) -> None:
    task = retry_meanwhile(site, "echo three > three.txt")
    folder = colleague(site)
    merge(folder, task.branch)
    git("push", "-q", "origin", "main", cwd=folder)
    (site.folder / "go").touch()
    wait_for(lambda: (found := site.record("demo.fix-add")) is not None and found.attempts[-1].pushed_head)
    done = site.wait_state("demo.fix-add", "review")
    assert done.delivery is not None and [file.path for file in done.delivery.files] == ["three.txt"]


def test_an_attempt_that_adds_nothing_to_a_branch_that_nobody_merged_has_not_completed_the_task(
    site: Site,
) -> None:
    retry_meanwhile(site, "rm -f two.txt")
    (site.folder / "go").touch()
    blocked = site.wait_state("demo.fix-add", "completed", "blocked")
    assert blocked.state == "blocked" and "E_EMPTY_RESULT" in blocked.waits_for[0].message


def retry_meanwhile(site: Site, step: str) -> TaskRecord:
    """A task in review whose second attempt is at work; it does this step once `go` is there."""
    second = f"touch {site.folder}/second; while [ ! -e {site.folder}/go ]; do sleep 0.05; done; {step}; exit"
    first = f"if [ ! -e {site.folder}/first ]; then touch {site.folder}/first; echo two > two.txt; exit; fi"
    site.use_script("cat > /dev/null", first, second)
    site.write_config()
    site.start()
    site.write_task("fix-add")
    task = site.wait_state("demo.fix-add", "review")
    site.cli("task", "retry", "fix-add")
    wait_for((site.folder / "second").exists)
    return task
