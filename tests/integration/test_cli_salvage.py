"""`cloud-code task salvage`: saved work is listed, looked at, and given back in every way there is."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.site import Site, git

WORK = (
    "n=$(ls {0}/tries | wc -l); touch {0}/tries/$n",
    "echo committed $n > one.txt; git add one.txt; git -c user.name=A -c user.email=a@b commit -qm 'One, two'",
    "echo loose > two.txt; echo '# changed' >> calc.py; printf '\\000\\001' > binary.dat",
    "if [ -e {0}/good ]; then exit 0; fi; exit 1",
)


@pytest.fixture
def blocked(site: Site) -> Site:
    """A task with two failed attempts, whose work is saved; its supervisor has been stopped."""
    (site.folder / "tries").mkdir()
    site.use_script("cat > /dev/null", *(line.format(site.folder) for line in WORK))
    site.write_config()
    site.start()
    site.write_task("odd")
    site.wait_state("demo.odd", "blocked")
    site.stop_supervisors()
    return site


def clone_of(site: Site) -> Path:
    clone = site.folder / "person"
    git("clone", "--quiet", str(site.remote), str(clone), cwd=site.folder)
    return clone


def test_it_is_listed_and_shown(blocked: Site) -> None:
    listed = json.loads(blocked.cli("task", "salvage", "list", "--json").stdout)
    assert [(row["task"], row["attempt"], row["verdict"], row["state"]) for row in listed] == [
        ("demo.odd", 1, "failed", "blocked"),
        ("demo.odd", 2, "failed", "blocked"),
    ]
    assert all(Path(row["path"]).stat().st_size == row["size_bytes"] for row in listed)
    table = blocked.cli("task", "salvage", "list", "odd").stdout
    assert "demo.odd" in table and "Task odd" in table
    shown = json.loads(blocked.cli("task", "salvage", "show", "odd", "--attempt", "1", "--json").stdout)
    assert [subject for _, subject in shown["commits"]] == ["One, two"] and shown["uncommitted"]
    files = {file["path"]: file for file in shown["files"]}
    assert set(files) == {"one.txt", "two.txt", "calc.py", "binary.dat"}
    assert files["two.txt"]["uncommitted"] and not files["one.txt"]["uncommitted"]
    assert files["calc.py"]["change_type"] == "modified" and files["calc.py"]["lines_added"] == 1
    assert files["binary.dat"]["lines_added"] is None
    text = blocked.cli("task", "salvage", "show", "odd").stdout
    assert "attempt 2" in text and "were uncommitted" in text and "two.txt" in text


def test_it_comes_into_a_branch_of_a_clone(blocked: Site) -> None:
    clone = clone_of(blocked)
    (clone / "mine.txt").write_text("not to be touched")
    hook = clone / ".git/hooks/reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch {blocked.folder}/hook-ran\n")
    hook.chmod(0o755)
    said = blocked.cli("task", "salvage", "restore", "odd", "--attempt", "1", "--into", str(clone)).stdout
    assert "salvage/demo.odd-1" in said and "its last commit is what was uncommitted" in said
    assert git("show", "salvage/demo.odd-1:two.txt", cwd=clone) == "loose"
    assert git("log", "--format=%s", "-2", "salvage/demo.odd-1", cwd=clone).splitlines() == [
        "Uncommitted work",
        "One, two",
    ]
    assert git("status", "--short", cwd=clone) == "?? mine.txt" and not (blocked.folder / "hook-ran").exists()
    again = blocked.cli("task", "salvage", "restore", "odd", "--attempt", "1", "--into", str(clone), check=False)
    assert again.returncode == 1 and "E_RESTORE" in again.stderr and "--branch" in again.stderr


def test_it_comes_into_a_folder_with_what_was_uncommitted(blocked: Site) -> None:
    clone, worktree, alone = clone_of(blocked), blocked.folder / "worktree", blocked.folder / "alone"
    restore = ("task", "salvage", "restore", "odd")
    blocked.cli(*restore, "--into", str(clone), "--folder", str(worktree), "--branch", "look/at-it")
    blocked.cli(*restore, "--folder", str(alone))
    for folder, branch in ((worktree, "look/at-it"), (alone, "salvage/demo.odd-2")):
        assert git("branch", "--show-current", cwd=folder) == branch
        assert set(git("status", "--short", cwd=folder).splitlines()) == {
            "?? binary.dat",
            "?? two.txt",
            "M calc.py",
        }
        assert (folder / "one.txt").exists()
    assert git("remote", "get-url", "origin", cwd=alone) == str(blocked.remote)
    full = blocked.cli(*restore, "--folder", str(alone), check=False)
    assert full.returncode == 1 and "is not empty" in full.stderr


@pytest.mark.parametrize("kind", ["millions of files", "gigabytes"])
def test_work_that_stands_for_too_much_is_not_laid_out_and_can_be_fetched(blocked: Site, kind: str) -> None:
    clone = clone_of(blocked)
    if kind == "gigabytes":
        (clone / "big").write_bytes(bytes(8 * 1024**2))
        blob, width, depth = git("hash-object", "-w", "big", cwd=clone), 30, 2
        (clone / "big").unlink()
    else:
        blob, width, depth = git("rev-parse", "HEAD:calc.py", cwd=clone), 10, 8
    entry = f"100644 blob {blob}"
    for _ in range(depth):
        entry = "040000 tree " + make_tree(clone, [f"{entry}\t{n}" for n in range(width)])
    entries = [*git("ls-tree", "HEAD", cwd=clone).splitlines(), f"{entry}\tbomb"]
    head = git("commit-tree", make_tree(clone, entries), "-p", "HEAD", "-m", "Bomb", cwd=clone)
    git("update-ref", "refs/heads/bomb", head, cwd=clone)
    bundle = blocked.root.salvaged("demo.odd", 2)
    git("bundle", "create", "-q", str(bundle), "bomb", "^main", cwd=clone)
    task = blocked.store.read("demo.odd")
    blocked.store.save(task.with_attempt(2, bundle_head=head, bundle_base=git("rev-parse", "main", cwd=clone)))
    alone, restore = blocked.folder / "alone", ("task", "salvage", "restore", "odd")
    refused = blocked.cli(*restore, "--folder", str(alone), check=False)
    assert refused.returncode == 1 and "E_RESTORE_TOO_LARGE" in refused.stderr and str(bundle) in refused.stderr
    assert not alone.exists()
    blocked.cli(*restore, "--into", str(clone))
    assert git("rev-parse", "salvage/demo.odd-2", cwd=clone) == head


def make_tree(clone: Path, entries: list[str]) -> str:
    return subprocess.run(
        ["git", "mktree"], cwd=clone, input="\n".join(entries), capture_output=True, text=True, check=True
    ).stdout.strip()


def test_nothing_is_restored_where_agents_write(blocked: Site) -> None:
    worktree = blocked.root.worktree("backend-1", "demo", "demo.odd")
    for arguments in (("--into", str(worktree)), ("--folder", str(blocked.root.workspaces / "mine"))):
        refused = blocked.cli("task", "salvage", "restore", "odd", *arguments, check=False)
        assert refused.returncode == 1 and "E_RESTORE" in refused.stderr, refused.stderr
    nowhere = blocked.cli("task", "salvage", "restore", "odd", "--into", str(blocked.folder), check=False)
    assert nowhere.returncode == 1 and "E_NO_REPOSITORY" in nowhere.stderr


@pytest.mark.parametrize("ended", [False, True])
def test_another_attempt_starts_from_the_one_that_is_named(blocked: Site, ended: bool) -> None:
    first = blocked.record("demo.odd").attempts[0]  # type: ignore[union-attr]
    (blocked.folder / "good").touch()
    if ended:
        blocked.cli("task", "cancel", "odd")
    if ended:
        blocked.cli("task", "retry", "odd", "--from-salvage", "1")
    else:
        blocked.cli("task", "salvage", "restore", "odd", "--attempt", "1", "--start")
    blocked.start()
    task = blocked.wait_state("demo.odd", "review")
    third = task.attempts[-1]
    assert third.number == 3 and third.start_commit == first.bundle_head and task.start_from is None
    subjects = git("log", "--format=%s", f"main..{task.branch}", cwd=blocked.remote).splitlines()
    assert subjects.count("One, two") == 2, "that of the first attempt and its own, not that of the second"
    assert task.rerun == (2 if ended else 1)


def test_each_mistake_gets_a_sentence_and_a_next_step(blocked: Site) -> None:
    def refusal(*arguments: str) -> str:
        done = blocked.cli("task", *arguments, check=False)
        assert done.returncode in (1, 2), done.stdout
        return done.stderr

    assert "E_NO_ATTEMPT" in refusal("salvage", "show", "odd", "--attempt", "9")
    assert "E_NO_TASK" in refusal("salvage", "show", "nothing")
    assert "Say where to" in refusal("salvage", "restore", "odd")
    (blocked.root.salvage / "demo.odd/1.bundle").unlink()
    assert "There is work of attempt 2" in refusal("salvage", "show", "odd", "--attempt", "1")
    assert "E_NO_SALVAGE" in refusal("retry", "odd", "--from-salvage", "1")
    bundle = blocked.root.salvage / "demo.odd/2.bundle"
    bundle.write_bytes(bundle.read_bytes()[:-40])
    assert "E_BUNDLE_PACK" in refusal("salvage", "show", "odd")
    (blocked.root.mirror("default", "demo")).rename(blocked.folder / "mirror")
    assert "git fetch" in refusal("salvage", "show", "odd")
    bundle.unlink()
    assert "No saved work" in refusal("salvage", "show", "odd")
    assert "No saved work" in blocked.cli("task", "salvage", "list").stdout
