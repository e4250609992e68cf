"""The task's worktree with real git: made once, carried on, put in order, bundled, salvaged, removed."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent_daemon.checkout import (
    WorktreeRequest,
    dirt,
    ensure_worktree,
    head,
    link_protocol_files,
    put_on_branch,
    remove_worktree,
)
from agent_daemon.clone import ensure_clone
from agent_daemon.git import GitError
from agent_daemon.handover import BundleMade, changes, commit_leftovers, make_bundle, make_salvage, result_base
from agent_daemon.processes import identify
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.model import Identity

BRANCH = "cloud-code/1-fix"
BOT = Identity(name="The Bot", email="bot@example.org")
PLAIN = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
}


def git(folder: Path, *arguments: str, check: bool = True) -> str:
    """Git as a person or an agent would call it, without the precautions of the product."""
    ended = subprocess.run(["git", *arguments], cwd=folder, env=PLAIN, capture_output=True, text=True, check=False)
    assert ended.returncode == 0 or not check, ended.stderr
    return ended.stdout.strip()


class Place:
    """A mirror with two commits, and the paths of a clone and a worktree."""

    def __init__(self, folder: Path) -> None:
        self.mirror = folder / "mirrors" / "acme-app.git"
        self.upstream = folder / "upstream"
        self.clone = folder / "workspaces" / "acme-app"
        self.worktree = folder / "workspaces" / "acme-app.worktrees" / "acme-app.1"
        self.out = folder / "out"
        self.out.mkdir()
        self.upstream.mkdir()
        git(self.upstream, "init", "-q", "-b", "main")
        self.write_upstream("calc.py", "def add(a, b):\n    return a - b\n")
        self.write_upstream("notes/läse mich.md", "text\n")
        git(folder, "clone", "-q", "--bare", str(self.upstream), str(self.mirror))
        self.base = git(self.mirror, "rev-parse", "main")
        self.request = WorktreeRequest(
            clone=self.clone, worktree=self.worktree, branch=BRANCH, base_commit=self.base
        )

    def write_upstream(self, path: str, text: str) -> str:
        file = self.upstream / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        git(self.upstream, "add", "-A")
        git(self.upstream, "commit", "-q", "-m", f"upstream: {path}")
        return git(self.upstream, "rev-parse", "HEAD")

    def fetch_mirror(self) -> None:
        git(self.mirror, "fetch", "-q", "--prune", str(self.upstream), "+refs/heads/*:refs/heads/*")

    def make(self) -> "Place":
        ensure_clone(self.clone, self.mirror)
        assert ensure_worktree(self.request) == "created"
        return self

    def write(self, path: str, text: str) -> None:
        file = self.worktree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def commit(self, path: str, text: str) -> str:
        self.write(path, text)
        git(self.worktree, "add", "--", path)
        git(self.worktree, "commit", "-q", "-m", f"agent: {path}")
        return head(self.worktree)

    def imported(self, bundle: BundleMade, name: str = "quarantine") -> tuple[Path, str]:
        """A fresh repository that knows the mirror and the bundle, as the other side would make it."""
        quarantine = self.out / name
        git(self.out, "init", "-q", "--bare", name)
        (quarantine / "objects/info/alternates").write_text(f"{self.mirror}/objects\n")
        header = bundle.path.read_bytes().split(b"\n\n", 1)[0].decode().splitlines()
        assert header[0] == "# v2 git bundle"
        refs = [line for line in header[1:] if not line.startswith("-")]
        assert len(refs) == 1
        assert refs[0].split()[1].startswith("refs/heads/")
        git(quarantine, "fetch", "-q", str(bundle.path), f"{refs[0].split()[1]}:refs/heads/imported")
        assert git(quarantine, "rev-parse", "imported") == bundle.head
        assert hashlib.sha256(bundle.path.read_bytes()).hexdigest() == bundle.sha256
        assert bundle.path.stat().st_size == bundle.size
        return quarantine, "imported"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def state_of(worktree: Path) -> tuple[str, ...]:
    """All that an agent would notice if it changed."""
    return (
        git(worktree, "symbolic-ref", "-q", "HEAD", check=False),
        git(worktree, "rev-parse", "HEAD"),
        git(worktree, "status", "--porcelain", "-uall", "--ignored"),
        git(worktree, "diff", "--cached"),
        git(worktree, "diff"),
        git(worktree, "for-each-ref"),
    )


# --- clone -------------------------------------------------------------------------------------------


def test_a_clone_borrows_and_copies_nothing(place: Place) -> None:
    ensure_clone(place.clone, place.mirror)
    assert git(place.clone, "count-objects") == "0 objects, 0 kilobytes"
    assert git(place.clone, "rev-parse", "origin/main") == place.base
    assert "token" not in (place.clone / ".git/config").read_text()


def test_new_moved_and_gone_branches_of_the_mirror(place: Place) -> None:
    git(place.upstream, "branch", "a")
    place.fetch_mirror()
    ensure_clone(place.clone, place.mirror)
    git(place.upstream, "branch", "-D", "a")
    git(place.upstream, "branch", "a/b")
    moved = place.write_upstream("calc.py", "new\n")
    place.fetch_mirror()
    ensure_clone(place.clone, place.mirror)

    refs = git(place.clone, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    assert refs == [f"refs/remotes/origin/a/b {place.base}", f"refs/remotes/origin/main {moved}"]


def test_ensuring_twice_keeps_the_worktrees(place: Place) -> None:
    place.make()
    tip = place.commit("a.py", "1\n")
    ensure_clone(place.clone, place.mirror)
    assert head(place.worktree) == tip


def test_what_a_crash_left_is_cleared(place: Place) -> None:
    """A clone comes into being by a rename; locks of a killed git do not stay in the way."""
    half = place.clone.parent / ".acme-app.new-0badc0de"
    (half / ".git").mkdir(parents=True)
    ensure_clone(place.clone, place.mirror)
    assert not half.exists()

    moved = place.write_upstream("calc.py", "new\n")
    place.fetch_mirror()
    for lock in ("packed-refs.lock", "config.lock", "refs/remotes/origin/main.lock"):
        (place.clone / ".git" / lock).touch()
    ensure_clone(place.clone, place.mirror)
    assert git(place.clone, "rev-parse", "origin/main") == moved


def test_a_damaged_clone_is_put_aside_and_made_anew(place: Place) -> None:
    ensure_clone(place.clone, place.mirror)
    (place.clone / ".git/HEAD").unlink()
    ensure_clone(place.clone, place.mirror)
    assert git(place.clone, "rev-parse", "origin/main") == place.base
    assert len(list(place.clone.parent.glob(".acme-app.broken-*"))) == 1


def test_a_missing_mirror_is_an_error(place: Place) -> None:
    with pytest.raises(GitError):
        ensure_clone(place.clone, place.mirror.parent / "absent.git")
    ensure_clone(place.clone, place.mirror)
    assert git(place.clone, "rev-parse", "origin/main") == place.base


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to someone else")
def test_a_mirror_and_a_clone_of_someone_else(place: Place) -> None:
    place.make()
    for folder in (place.mirror, place.clone, place.worktree):
        for path in [folder, *folder.rglob("*")]:
            os.lchown(path, 12345, 12345)
    place.write_upstream("calc.py", "new\n")
    place.write("new.py", "1\n")
    ensure_clone(place.clone, place.mirror)
    assert ensure_worktree(place.request) == "existing"
    assert commit_leftovers(place.worktree, "left", BOT)
    assert make_bundle(place.worktree, place.base, BRANCH, place.out / "result.bundle")


# --- worktree ----------------------------------------------------------------------------------------


def test_a_worktree_at_the_base(place: Place) -> None:
    place.make()
    assert git(place.worktree, "symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"
    assert head(place.worktree) == place.base
    assert dirt(place.worktree) == []
    assert git(place.worktree, "config", "--get", f"branch.{BRANCH}.remote", check=False) == ""


def test_work_under_way_is_not_touched(place: Place) -> None:
    place.make()
    place.commit("a.py", "1\n")
    place.write("calc.py", "changed\n")
    place.write("new.py", "untracked\n")
    git(place.worktree, "checkout", "-q", "-b", "elsewhere")
    before = state_of(place.worktree)

    assert ensure_worktree(place.request) == "existing"
    assert state_of(place.worktree) == before


def test_a_lost_folder_is_made_again_and_others_stay(place: Place) -> None:
    place.make()
    other = replace(place.request, worktree=place.worktree.with_name("acme-app.2"), branch="cloud-code/2")
    ensure_worktree(other)
    gone = replace(place.request, worktree=place.worktree.with_name("acme-app.3"), branch="cloud-code/3")
    ensure_worktree(gone)
    for request in (place.request, gone):
        subprocess.run(["rm", "-rf", str(request.worktree)], check=True)

    assert ensure_worktree(place.request) == "created"
    assert head(place.worktree) == place.base
    assert ensure_worktree(other) == "existing"
    # The third is not ours to prune now: it may only be unmounted.
    assert "acme-app.3" in git(place.clone, "worktree", "list")


def test_a_pointer_that_the_agent_broke_is_mended(place: Place) -> None:
    place.make()
    tip = place.commit("a.py", "1\n")
    (place.worktree / ".git").unlink()
    (place.worktree / ".git").mkdir()
    assert ensure_worktree(place.request) == "existing"
    assert head(place.worktree) == tip


def test_one_that_git_had_only_begun_is_made_anew(place: Place) -> None:
    place.make()
    admin = Path(git(place.worktree, "rev-parse", "--absolute-git-dir"))
    (admin / "index").unlink()
    (admin / "locked").write_text("initializing")
    (place.worktree / "calc.py").unlink()

    assert ensure_worktree(place.request) == "created"
    assert (place.worktree / "calc.py").exists()
    assert dirt(place.worktree) == []


def test_a_foreign_folder_is_not_taken(place: Place) -> None:
    ensure_clone(place.clone, place.mirror)
    place.write("precious.txt", "mine\n")
    with pytest.raises(ProtocolError, match="E_WORKTREE_OCCUPIED"):
        ensure_worktree(place.request)
    assert (place.worktree / "precious.txt").read_text() == "mine\n"


def test_a_start_that_nobody_has_is_an_error(place: Place) -> None:
    ensure_clone(place.clone, place.mirror)
    with pytest.raises(ProtocolError, match="E_START_COMMIT"):
        ensure_worktree(replace(place.request, start_commit="0" * 39 + "1"))
    (place.out / "bad.bundle").write_text("no bundle")
    with pytest.raises(ProtocolError, match="E_START_COMMIT"):
        ensure_worktree(replace(place.request, start_bundle=place.out / "bad.bundle"))
    assert not place.worktree.exists()


def test_many_at_once(place: Place) -> None:
    """Parallel adds race on git's own locks; ours makes them wait."""
    requests = [
        replace(place.request, worktree=place.worktree.with_name(f"acme-app.{n}"), branch=f"cloud-code/{n}")
        for n in range(8)
    ]
    failures: list[Exception] = []

    def make(request: WorktreeRequest) -> None:
        try:
            ensure_clone(place.clone, place.mirror)
            ensure_worktree(request)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=make, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert all(head(request.worktree) == place.base for request in requests)


def test_hooks_of_the_repository_do_not_run(place: Place) -> None:
    place.make()
    hooks = place.clone / ".git/hooks"
    hooks.mkdir()
    for name in ("post-checkout", "pre-commit", "commit-msg", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {place.out}/ran-{name}\nexit 1\n")
        (hooks / name).chmod(0o755)
    place.write("a.py", "1\n")
    assert commit_leftovers(place.worktree, "left", BOT)
    ensure_worktree(replace(place.request, worktree=place.worktree.with_name("other"), branch="cloud-code/o"))
    assert list(place.out.iterdir()) == []


def test_removed_with_its_branch_and_nothing_else(place: Place) -> None:
    place.make()
    place.commit("a.py", "1\n")
    place.write("build/locked/file", "x")
    (place.worktree / "build/locked").chmod(0o500)
    git(place.clone, "worktree", "lock", str(place.worktree))
    remove_worktree(place.clone, place.worktree, BRANCH)

    assert list(place.worktree.parent.iterdir()) == []
    assert "acme-app.1" not in git(place.clone, "worktree", "list")
    assert git(place.clone, "for-each-ref", "refs/heads") == ""
    remove_worktree(place.clone, place.worktree, BRANCH)  # once more is no error
    assert ensure_worktree(place.request) == "created"


def test_a_removal_cut_short_is_finished(place: Place) -> None:
    place.make()
    place.worktree.rename(place.worktree.parent / ".acme-app.1.removed-0badc0de")
    assert ensure_worktree(place.request) == "created"
    assert [path.name for path in place.worktree.parent.iterdir()] == ["acme-app.1"]


def test_killed_at_any_moment_a_second_try_gives_a_whole_worktree(place: Place) -> None:
    """SIGKILL to the maker, every other time to its git too, a little later each time."""
    for number in range(200):
        place.write_upstream(f"files/{number}.txt", "x\n" * 50)
    place.fetch_mirror()
    base = git(place.mirror, "rev-parse", "main")
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from agent_daemon.checkout import *\nfrom agent_daemon.clone import *\n"
        "clone, mirror, tree, base = sys.argv[1:]\n"
        "ensure_clone(Path(clone), Path(mirror))\n"
        "ensure_worktree(WorktreeRequest(clone=Path(clone), worktree=Path(tree), branch='cloud-code/k',"
        " base_commit=base))\nprint('made', flush=True)\n"
    )
    request = replace(place.request, base_commit=base, branch="cloud-code/k")
    environment = {**PLAIN, "PYTHONPATH": str(Path(__file__).parents[2])}
    started = time.monotonic()
    arguments = [str(place.clone), str(place.mirror), str(place.worktree), base]
    subprocess.run([sys.executable, "-c", program, *arguments], env=environment, check=True, capture_output=True)
    whole_seconds = time.monotonic() - started

    for step in range(10):
        remove_worktree(place.clone, place.worktree, "cloud-code/k")
        maker = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], env=environment, stdout=subprocess.DEVNULL
        )
        children: list[int] = []
        deadline = time.monotonic() + whole_seconds * (0.5 + step / 18)
        while time.monotonic() < deadline:
            children = children_of(maker.pid) or children
        for pid in [maker.pid, *(children if step % 2 else [])]:
            with contextlib.suppress(ProcessLookupError):  # one may end in this moment
                if identify(pid) is not None:
                    os.kill(pid, signal.SIGKILL)
        maker.wait()

        ensure_clone(place.clone, place.mirror)
        ensure_worktree(request)
        assert head(place.worktree) == base
        assert dirt(place.worktree) == []


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


# --- the protocol's links ----------------------------------------------------------------------------


def test_links_are_made_restored_and_kept_out_of_commits(place: Place) -> None:
    place.make()
    targets = {"tasking.yaml": place.out / "tasking.yaml", "logs": place.out / "logs"}
    (place.out / "tasking.yaml").write_text("version: 1\n")
    link_protocol_files(place.worktree, targets)
    folder = place.worktree / ".cloud-code"
    assert (folder / "tasking.yaml").read_text() == "version: 1\n"
    assert (folder / "logs").readlink() == place.out / "logs"
    assert dirt(place.worktree) == []

    (folder / "tasking.yaml").unlink()
    (folder / "tasking.yaml").write_text("forged")
    (folder / "logs").unlink()
    (place.clone / ".git/info/exclude").write_text("# mine\n*.own")
    link_protocol_files(place.worktree, targets)
    assert (folder / "tasking.yaml").read_text() == "version: 1\n"
    assert (folder / "logs").is_symlink()
    assert (place.clone / ".git/info/exclude").read_text() == "# mine\n*.own\n/.cloud-code\n/.aider.tags.cache.*\n"

    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.symlink_to(place.out)
    link_protocol_files(place.worktree, targets)
    assert not folder.is_symlink()
    assert sorted(path.name for path in folder.iterdir()) == ["logs", "tasking.yaml"]


def test_even_forced_the_links_are_not_in_what_is_committed(place: Place) -> None:
    place.make()
    (place.out / "tasking.yaml").touch()
    link_protocol_files(place.worktree, {"tasking.yaml": place.out / "tasking.yaml"})
    (place.clone / ".git/info/exclude").write_text("")
    git(place.worktree, "add", "-f", ".cloud-code")
    place.write("a.py", "1\n")

    commit_leftovers(place.worktree, "left", BOT)
    assert git(place.worktree, "diff", "--name-only", place.base, "HEAD") == "a.py"
    assert dirt(place.worktree) == []


# --- leftovers, branch, changes ----------------------------------------------------------------------


def test_everything_left_is_committed_under_the_bot_s_name(place: Place) -> None:
    place.make()
    place.write("calc.py", "def add(a, b):\n    return a + b\n")
    place.write("dir/neu ü\n.py", "1\n")
    (place.worktree / "notes/läse mich.md").unlink()
    place.write("staged.py", "1\n")
    git(place.worktree, "add", "staged.py")
    (place.worktree / "link").symlink_to("calc.py")
    place.write("run.sh", "#!/bin/sh\n")
    (place.worktree / "run.sh").chmod(0o755)
    place.write(".gitignore", "*.pyc\n")
    place.write("x.pyc", "ignored")

    sha = commit_leftovers(place.worktree, "Left by the CLI\n\nfixes #1", BOT)
    assert sha == head(place.worktree)
    assert git(place.worktree, "log", "-1", "--format=%an %ae %cn %s") == (
        "The Bot bot@example.org The Bot Left by the CLI"
    )
    shown = git(place.worktree, "-c", "core.quotePath=false", "show", "-z", "--format=", "--raw", "--no-abbrev")
    assert {entry for entry in shown.split("\0") if entry and not entry.startswith(":")} == {
        "calc.py", "dir/neu ü\n.py", "notes/läse mich.md", "staged.py", "link", "run.sh", ".gitignore",
    }  # fmt: skip
    assert git(place.worktree, "ls-tree", "HEAD", "run.sh", "link").split()[::4] == ["120000", "100755"]
    assert git(place.worktree, "symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"
    assert git(place.worktree, "status", "--porcelain") == ""
    assert commit_leftovers(place.worktree, "again", BOT) is None


def test_nothing_hides_from_it(place: Place) -> None:
    """Index flags, a lock, a conflict, a repository inside, an unreadable file, a file become a folder."""
    place.make()
    place.commit("flagged.py", "1\n")
    place.commit("becomes", "a file\n")
    git(place.worktree, "update-index", "--assume-unchanged", "flagged.py")
    place.write("flagged.py", "2\n")
    (place.worktree / "becomes").unlink()
    place.write("becomes/a/folder.py", "1\n")
    place.write("inner/file.py", "1\n")
    git(place.worktree / "inner", "init", "-q")
    os.mkfifo(place.worktree / "fifo")
    (Path(git(place.worktree, "rev-parse", "--absolute-git-dir")) / "index.lock").touch()

    assert commit_leftovers(place.worktree, "left", BOT)
    names = git(place.worktree, "show", "--format=", "--name-only").splitlines()
    assert names == ["becomes", "becomes/a/folder.py", "flagged.py"]
    assert dirt(place.worktree) == ["inner/"]


def test_a_sparse_checkout_deletes_nothing(place: Place) -> None:
    place.make()
    git(place.worktree, "sparse-checkout", "set", "notes")
    git(place.worktree, "sparse-checkout", "set", "--no-cone", "/notes/")
    assert not (place.worktree / "calc.py").exists()
    place.write("notes/new.md", "1\n")
    assert commit_leftovers(place.worktree, "left", BOT)
    assert git(place.worktree, "show", "--format=", "--name-only") == "notes/new.md"


def test_a_merge_under_way_keeps_both_parents(place: Place) -> None:
    place.make()
    place.commit("calc.py", "ours\n")
    theirs = place.write_upstream("calc.py", "theirs\n")
    place.fetch_mirror()
    ensure_clone(place.clone, place.mirror)
    git(place.worktree, "merge", "-q", "origin/main", check=False)
    place.write("calc.py", "both\n")

    assert commit_leftovers(place.worktree, "merged", BOT)
    assert git(place.worktree, "log", "-1", "--format=%P").split()[1] == theirs
    assert result_base(place.worktree, "main", place.base) == theirs
    assert git(place.worktree, "status", "--porcelain") == ""


@pytest.mark.parametrize("where", ["detached", "elsewhere", "in place"])
def test_the_branch_is_put_where_head_is(place: Place, where: str) -> None:
    place.make()
    if where != "in place":
        git(place.worktree, "checkout", "-q", *(["--detach"] if where == "detached" else ["-b", "elsewhere"]))
    tip = place.commit("a.py", "1\n")
    put_on_branch(place.worktree, BRANCH)
    assert git(place.worktree, "symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"
    assert head(place.worktree) == tip
    assert dirt(place.worktree) == []


def test_what_changed_is_listed_with_lines(place: Place) -> None:
    place.make()
    sha = place.commit("new.py", "1\n2\n3")
    place.write("calc.py", "def add(a, b):\n    return a + b\n")
    (place.worktree / "notes/läse mich.md").unlink()
    place.write("untracked ü.py", "1\n2\n")
    (place.worktree / "binary").write_bytes(b"\0\n\n")

    listed = changes(place.worktree, place.base)
    assert {(c.path, c.change_type, c.lines_added, c.lines_removed) for c in listed.files_modified} == {
        ("calc.py", "modified", 1, 1),
        ("new.py", "created", 3, 0),
        ("notes/läse mich.md", "deleted", 0, 1),
        ("untracked ü.py", "created", 2, 0),
        ("binary", "created", 0, 0),
    }
    assert listed.files_modified_total == 5
    assert [(c.sha, c.message) for c in listed.commits] == [(sha, "agent: new.py")]
    assert listed.commits_total == 1


def test_long_lists_are_cut_and_counted(place: Place) -> None:
    place.make()
    for number in range(250):
        place.write(f"many/{number}", "1\n")
    listed = changes(place.worktree, place.base)
    assert (len(listed.files_modified), listed.files_modified_total) == (200, 250)
    git(place.worktree, "add", "-A")
    listed = changes(place.worktree, place.base)
    assert (len(listed.files_modified), listed.files_modified_total) == (200, 250)


# --- bundles -----------------------------------------------------------------------------------------


def test_a_bundle_holds_the_task_s_commits(place: Place) -> None:
    place.make()
    first, second = place.commit("a.py", "1\n"), place.commit("b.py", "2\n")
    (place.out / ".result.bundle.0badc0de").write_text("from a crash")
    made = make_bundle(place.worktree, place.base, BRANCH, place.out / "result.bundle")
    assert made is not None
    assert (made.head, made.base) == (second, place.base)
    assert [path.name for path in place.out.iterdir()] == ["result.bundle"]
    quarantine, tip = place.imported(made)
    assert git(quarantine, "rev-list", f"{place.base}..{tip}").split() == [second, first]


def test_no_commits_no_bundle(place: Place) -> None:
    place.make()
    assert make_bundle(place.worktree, place.base, BRANCH, place.out / "result.bundle") is None
    assert list(place.out.iterdir()) == []


def test_a_rebase_brings_no_foreign_commits(place: Place) -> None:
    place.make()
    place.commit("a.py", "1\n")
    newer = place.write_upstream("calc.py", "new\n")
    place.fetch_mirror()
    ensure_clone(place.clone, place.mirror)
    assert result_base(place.worktree, "main", place.base) == place.base
    git(place.worktree, "rebase", "-q", "origin/main")

    base = result_base(place.worktree, "main", place.base)
    assert base == newer
    made = make_bundle(place.worktree, base, BRANCH, place.out / "result.bundle")
    assert made is not None
    quarantine, tip = place.imported(made)
    assert git(quarantine, "log", "--format=%s", f"{newer}..{tip}") == "agent: a.py"


def test_a_base_branch_that_went_back_is_not_believed(place: Place) -> None:
    place.make()
    place.commit("a.py", "1\n")
    git(place.mirror, "update-ref", "refs/heads/main", f"{place.base}~1")
    ensure_clone(place.clone, place.mirror)
    assert result_base(place.worktree, "main", place.base) == place.base
    assert result_base(place.worktree, "no-such-branch", place.base) == place.base


def test_a_failed_bundle_leaves_the_old_one(place: Place) -> None:
    place.make()
    place.commit("a.py", "1\n")
    (place.out / "result.bundle").write_text("old")
    with pytest.raises(GitError):
        make_bundle(place.worktree, "f" * 40, BRANCH, place.out / "result.bundle")
    assert [(path.name, path.read_text()) for path in place.out.iterdir()] == [("result.bundle", "old")]


# --- salvage -----------------------------------------------------------------------------------------


def test_nothing_to_salvage(place: Place) -> None:
    place.make()
    assert make_salvage(place.worktree, place.base, place.out / "salvage.bundle") is None


def test_salvage_takes_everything_and_touches_nothing(place: Place) -> None:
    place.make()
    place.write(".gitignore", "*.pyc\n")
    tip = place.commit("a.py", "1\n")
    place.write("calc.py", "changed\n")
    place.write("staged.py", "staged\n")
    git(place.worktree, "add", "staged.py", ".gitignore")
    place.write("staged.py", "changed after that\n")
    place.write("untracked/new.py", "new\n")
    place.write("ignored.pyc", "x")
    place.write("wanted.pyc", "added by force")
    git(place.worktree, "add", "-f", "wanted.pyc")
    place.write("app/made-inside.py", "work in a repository of its own\n")
    git(place.worktree / "app", "init", "-q")
    (place.worktree / "notes/läse mich.md").unlink()
    before = state_of(place.worktree)

    made = make_salvage(place.worktree, place.base, place.out / "salvage.bundle")
    assert made is not None
    assert state_of(place.worktree) == before
    quarantine, name = place.imported(made)
    assert git(quarantine, "rev-parse", f"{name}~1") == tip
    assert git(quarantine, "log", "-1", "--format=%(trailers)", name) == "Cloud-Code-Salvage: uncommitted"
    names = git(quarantine, "ls-tree", "-r", "--name-only", name).splitlines()
    assert names == [".gitignore", "a.py", "app/made-inside.py", "calc.py", "staged.py", "untracked/new.py",
                     "wanted.pyc"]  # fmt: skip
    assert git(quarantine, "show", f"{name}:staged.py") == "changed after that"


def test_salvage_of_commits_alone_adds_none(place: Place) -> None:
    place.make()
    tip = place.commit("a.py", "1\n")
    made = make_salvage(place.worktree, place.base, place.out / "salvage.bundle")
    assert made is not None
    assert made.head == tip


def test_salvaged_work_goes_on_as_if_nothing_had_happened(place: Place) -> None:
    place.make()
    tip = place.commit("a.py", "1\n")
    place.write("calc.py", "half done\n")
    place.write("new.py", "half done\n")
    (place.worktree / "notes/läse mich.md").unlink()
    before = sorted(dirt(place.worktree))
    made = make_salvage(place.worktree, place.base, place.out / "salvage.bundle")
    assert made is not None
    remove_worktree(place.clone, place.worktree, BRANCH)
    subprocess.run(["rm", "-rf", str(place.clone)], check=True)  # another workstation

    ensure_clone(place.clone, place.mirror)
    request = replace(place.request, start_commit=made.head, start_bundle=made.path)
    assert ensure_worktree(request) == "created"
    assert head(place.worktree) == tip
    assert sorted(dirt(place.worktree)) == before == ["calc.py", "new.py", "notes/läse mich.md"]
    assert (place.worktree / "new.py").read_text() == "half done\n"


def test_unpacking_salvage_cut_short_is_finished(place: Place) -> None:
    place.make()
    place.write("new.py", "half done\n")
    made = make_salvage(place.worktree, place.base, place.out / "salvage.bundle")
    assert made is not None
    git(place.worktree, "add", "-A")
    git(place.worktree, "reset", "-q", "--hard", made.head)  # as after `git worktree add`, before the rest
    assert ensure_worktree(replace(place.request, start_commit=made.head)) == "existing"
    assert head(place.worktree) == place.base
    assert dirt(place.worktree) == ["new.py"]
