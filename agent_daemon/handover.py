"""What the worktree holds, taken out of it: leftovers committed, changes listed, bundles written.

The uncommitted state is read through an index of its own, made from HEAD, so that the agent's index and
its flags neither hide anything nor get touched. Files of git-lfs that were changed are taken as they are.
"""

import hashlib
import os
import stat
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger

from agent_daemon.checkout import SALVAGE_TRAILER, SALVAGE_VALUE, head, remove_stale_locks
from agent_daemon.clone import PROTOCOL_FOLDER
from agent_daemon.external import changed_files, gitlinks
from agent_daemon.git import commit_of, git, git_paths, git_text, identity_environment, is_ancestor, merge_base
from agent_daemon.hiding import Mask
from agent_daemon.protocol.model import MAX_LISTED, ChangeType, CommitMade, FileModified, Identity, Result
from agent_daemon.unfinished import rebase_began_at

_CHUNK_BYTES = 1024 * 1024
_CHANGE_TYPES: dict[bytes, ChangeType] = {b"A": "created", b"D": "deleted", b"T": "type_changed"}


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What differs from a base, in the report's words: at most 200 files and the newest 200 commits."""

    files_modified: tuple[FileModified, ...]
    files_modified_total: int
    commits: tuple[CommitMade, ...]
    commits_total: int

    def hidden_by(self, mask: Mask) -> dict[str, Any]:
        """The fields, without what the attempt was given in secret: an agent may have put that into any name."""
        files = tuple(f.model_copy(update={"path": mask.hide(f.path)}) for f in self.files_modified)
        commits = tuple(c.model_copy(update={"message": mask.hide(c.message)}) for c in self.commits)
        return {**vars(self), "files_modified": files, "commits": commits}


@dataclass(frozen=True, kw_only=True)
class BundleMade:
    """A bundle on disk: ``base..head``; `size` in bytes."""

    path: Path
    sha256: str
    head: str
    base: str
    size: int


def commit_leftovers(worktree: Path, message: str, identity: Identity) -> str | None:
    """Commit what the CLI left uncommitted, never ``.cloud-code``; the commit's hash, or None without any.

    A repository inside the worktree is left out: whether it is work or only a look at something else, nobody
    can tell here; `dirt` lists it. A merge that was under way is completed as it lies there. Only when no
    process of the task is left.
    """
    remove_stale_locks(worktree)
    parent = head(worktree)
    merged = commit_of(worktree, "MERGE_HEAD")
    tree = tree_of_everything(worktree, parent)
    if tree == git_text("rev-parse", f"{parent}^{{tree}}", folder=worktree) and merged is None:
        return None
    parents = [parent, *([merged] if merged else [])]
    commit = _commit_tree(worktree, tree, parents, message, identity)
    git("update-ref", "-m", "cloud-code: leftovers", "HEAD", commit, parent, folder=worktree)
    git("reset", "--quiet", "--mixed", folder=worktree)
    return commit


def changes(worktree: Path, base: str) -> Changes:
    """What the task changed since `base`, committed or not, and its commits."""
    options = ("-z", "--no-renames", "--no-ext-diff", "--no-textconv")
    kinds = git_paths("diff", "--name-status", *options, base, folder=worktree)
    numbers = git_paths("diff", "--numstat", *options, base, folder=worktree)
    lines = {parts[2]: parts for parts in (entry.split(b"\t", 2) for entry in numbers)}
    files = [
        _file_change(path, _CHANGE_TYPES.get(kind[:1], "modified"), *lines.get(path, (b"0", b"0"))[:2])
        for kind, path in zip(kinds[::2], kinds[1::2], strict=True)
    ]
    untracked = git_paths("ls-files", "-z", "--others", "--exclude-standard", folder=worktree)
    new = [path for path in untracked if not _is_ours(path)]
    files += [
        _file_change(path, "created", b"%d" % _line_count(worktree, path), b"0") for path in new[:MAX_LISTED]
    ]
    log = git_paths("log", "-z", "--format=%H %s", f"--max-count={MAX_LISTED}", f"{base}..HEAD", folder=worktree)
    commits = [entry.decode("utf-8", "replace").partition(" ") for entry in log]
    return Changes(
        files_modified=tuple(files[:MAX_LISTED]),
        files_modified_total=len(files) + max(0, len(new) - MAX_LISTED),
        commits=tuple(CommitMade(sha=sha, message=message[:500]) for sha, _, message in commits),
        commits_total=int(git_text("rev-list", "--count", f"{base}..HEAD", folder=worktree)),
    )


def result_base(worktree: Path, base_branch: str, base_commit: str) -> str:
    """Where the task's own commits begin, so that a rebase or a merge brings no foreign ones along.

    The newest commit that HEAD shares with the base branch, if it descends from `base_commit`; else that.
    """
    shared = merge_base(worktree, "HEAD", f"refs/remotes/origin/{base_branch}")
    return shared if shared is not None and is_ancestor(worktree, base_commit, shared) else base_commit


def make_bundle(worktree: Path, base: str, branch: str, target: Path) -> BundleMade | None:
    """Write ``base..branch`` durably to `target`; None, and no file, when there is no commit in it."""
    name = f"refs/heads/{branch}"
    tip = git_text("rev-parse", "--verify", f"{name}^{{commit}}", folder=worktree)
    if not git_text("rev-list", "--max-count=1", name, f"^{base}", folder=worktree):
        return None
    return _write_bundle(worktree, base, name, tip, target)


def bundle_made(folder: Path, result: Result) -> BundleMade | None:
    """The bundle of a result that was handed in, if it still lies there, to the byte."""
    if result.bundle is None or result.head is None or result.base is None:
        return None
    path = folder / result.bundle
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError:
        return None
    if digest != result.sha256:
        return None
    return BundleMade(path=path, sha256=digest, head=result.head, base=result.base, size=size)


def make_salvage(worktree: Path, base: str, target: Path) -> BundleMade | None:
    """Write everything that the worktree holds to `target`: its commits, and its uncommitted tree on top.

    The uncommitted tree (untracked files too, ignored ones not) is a last commit with the trailer
    ``Cloud-Code-Salvage: uncommitted``; repositories inside the worktree give their files, too. Commits that a
    rebase under way has not come to yet are that commit's second parent. The worktree, its index and its HEAD
    stay as they are. None when nothing differs from `base`.
    """
    tip = commit_of(worktree, "HEAD") or base
    tree = tree_of_everything(worktree, tip, nested=True)
    began = rebase_began_at(worktree)
    is_left = began and is_ancestor(worktree, base, began) and not is_ancestor(worktree, began, tip)
    waiting = [began] if began and is_left else []
    if waiting or tree != git_text("rev-parse", f"{tip}^{{tree}}", folder=worktree):
        message = f"Uncommitted work\n\n{SALVAGE_TRAILER}: {SALVAGE_VALUE}\n"
        identity = Identity()
        tip = _commit_tree(worktree, tree, [tip, *waiting], message, identity)
    if not git_text("rev-list", "--max-count=1", tip, f"^{base}", folder=worktree):
        return None
    name = f"refs/heads/cloud-code-salvage-{uuid.uuid4().hex[:12]}"
    git("update-ref", name, tip, folder=worktree)
    try:
        return _write_bundle(worktree, base, name, tip, target)
    finally:
        git("update-ref", "-d", name, folder=worktree)


def same_tree(folder: Path, one: str, other: str) -> bool:
    """Whether two commits hold the same files; no where one of them is not known here."""
    trees = [git_text("rev-parse", "--verify", f"{c}^{{tree}}", folder=folder, check=False) for c in (one, other)]
    return trees[0] != "" and trees[0] == trees[1]


def _commit_tree(worktree: Path, tree: str, parents: list[str], message: str, identity: Identity) -> str:
    options = [part for parent in parents for part in ("-p", parent)]
    return (
        git(
            "commit-tree",
            *options,
            tree,
            folder=worktree,
            stdin=message.encode("utf-8", "replace"),
            environment=identity_environment(identity),
        )
        .decode()
        .strip()
    )


def tree_of_everything(worktree: Path, commit: str, *, nested: bool = False) -> str:
    """The tree that a commit of all that lies in the worktree would have; nothing there is changed.

    With `nested`, the files of repositories that were made inside the worktree are taken along, and what was
    changed inside of submodules.
    """
    with _own_index() as environment:
        git("read-tree", commit, folder=worktree, environment=environment)
        listed = git_paths(
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            folder=worktree,
            environment=environment,
        )
        # The agent's index names what was added although it is ignored, and what a sparse checkout left out.
        tagged = git_paths("ls-files", "-z", "-t", "--cached", folder=worktree, check=False)
        left_out = {entry[2:] for entry in tagged if entry[:1] == b"S"}
        listed += [entry[2:] for entry in tagged if entry[:1] != b"S"]
        # The empty folder of a submodule is easily lost; the submodule is removed when the agent's index lacks it.
        left_out |= gitlinks(worktree, commit).keys() & {entry[2:] for entry in tagged}
        if nested:
            listed += [path for entry in listed if entry.endswith(b"/") for path in _inside(worktree, entry)]
            listed += changed_files(worktree, commit)
        paths = [path for path in dict.fromkeys(listed) if _can_be_taken(worktree, path, path in left_out)]
        git(
            "update-index",
            "--add",
            "--remove",
            "--replace",
            "-z",
            "--stdin",
            folder=worktree,
            environment=environment,
            stdin=b"".join(path + b"\0" for path in paths),
        )
        return git("write-tree", folder=worktree, environment=environment).decode().strip()


def _inside(worktree: Path, repository: bytes) -> list[bytes]:
    folder = worktree / os.fsdecode(repository)
    listed = git_paths("ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=folder, check=False)
    return [repository + path for path in listed]


@contextmanager
def _own_index() -> Iterator[Mapping[str, str]]:
    with tempfile.TemporaryDirectory(prefix="cloud-code-index-") as folder:
        yield {"GIT_INDEX_FILE": str(Path(folder) / "index")}


def _is_ours(path: bytes) -> bool:
    return path.split(b"/", 1)[0] == PROTOCOL_FOLDER.encode()


def _can_be_taken(worktree: Path, path: bytes, left_out: bool) -> bool:
    """Whether git can store it: not a whole repository inside the worktree, and not an unreadable file.

    What is missing is taken as deleted, unless a sparse checkout left it out.
    """
    if _is_ours(path):
        return False
    full = os.path.join(os.fsencode(worktree), path)
    try:
        mode = os.lstat(full).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return not left_out
    if stat.S_ISDIR(mode):
        return False
    if stat.S_ISREG(mode) and not os.access(full, os.R_OK):
        logger.warning("{} cannot be read and is left out", path.decode("utf-8", "replace"))
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _file_change(path: bytes, change_type: ChangeType, added: bytes, removed: bytes) -> FileModified:
    return FileModified(
        path=path.decode("utf-8", "replace")[:1000],
        change_type=change_type,
        lines_added=int(added) if added.isdigit() else 0,
        lines_removed=int(removed) if removed.isdigit() else 0,
    )


def _line_count(worktree: Path, path: bytes) -> int:
    full = os.path.join(os.fsencode(worktree), path)
    if not stat.S_ISREG(os.lstat(full).st_mode) or not os.access(full, os.R_OK):
        return 0
    with open(full, "rb") as file:
        start = file.read(_CHUNK_BYTES)
    return 0 if b"\0" in start else start.count(b"\n") + (not start.endswith(b"\n") and start != b"")


def _write_bundle(worktree: Path, base: str, name: str, tip: str, target: Path) -> BundleMade:
    """Temporary file, fsync, rename, fsync of the folder: after a crash there is a whole bundle or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.*"):
        leftover.unlink(missing_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:12]}"
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        git(
            "bundle", "create", "--quiet", "--version=2", "-", name, f"^{base}", folder=worktree, stdout=descriptor
        )
        os.fsync(descriptor)
        with open(descriptor, "rb", closefd=False) as file:
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        os.replace(temporary, target)
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)
    return BundleMade(path=target, sha256=digest, head=tip, base=base, size=size)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
