"""What an agent's commits change: paths and sizes against the policy, blobs and messages past a scan."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agent_daemon.protocol.errors import Problem
from supervisor.git.bundle import Rejected, refuse
from supervisor.git.command import Limits
from supervisor.git.history import History, Known, merge_base
from supervisor.git.objects import (
    ABSENT,
    MAX_CHANGES,
    Change,
    TooManyChangesError,
    beginnings,
    changes_between,
    changes_in,
    each_object,
    folder_names,
    kinds_and_sizes,
    line_counts,
)
from supervisor.git.path_policy import (
    LINK,
    MAX_FILES,
    MAX_PATH_BYTES,
    SUBMODULE,
    Entry,
    Folder,
    check_paths,
    display,
    is_too_deep,
    too_many_files,
)

ChangeType = Literal["created", "modified", "deleted", "type_changed"]
_MAX_FOLDERS = 20_000
Scan = Callable[[Iterator[bytes]], Problem | None]


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """A path that the result changes; zero lines for what is not text."""

    path: str
    change_type: ChangeType
    lines_added: int
    lines_removed: int


@dataclass(frozen=True, kw_only=True)
class Changes:
    """`whole` is the result against upstream; `judged` also holds each new commit's, without what was there."""

    whole: tuple[Change, ...]
    judged: tuple[Change, ...]


def read_changes(git_dir: Path, head: str, history: History, known: Known, limits: Limits) -> Changes:
    """The result's changes. People's own ones, already on the remote branch, are not judged again.

    Rejected: E_TOO_MANY_FILES.
    """
    try:
        return _read_changes(git_dir, head, history, known, limits)
    except TooManyChangesError:
        raise Rejected(too_many_files(f"More than {MAX_CHANGES} files were changed.", MAX_FILES)) from None


def _read_changes(git_dir: Path, head: str, history: History, known: Known, limits: Limits) -> Changes:
    whole = changes_between(git_dir, history.base, head, limits)
    theirs: set[tuple[bytes, int, str]] = set()
    if known.remote_tip is not None:
        remote_base = merge_base(git_dir, known.remote_tip, known)
        already = changes_between(git_dir, remote_base, known.remote_tip, limits)
        theirs = {(change.path, change.mode, change.sha) for change in already}
    new = (change for change in whole if (change.path, change.mode, change.sha) not in theirs)
    judged = (*new, *changes_in(git_dir, history.commits, limits))
    return Changes(whole=tuple(whole), judged=tuple(dict.fromkeys(judged)))


def check_content(
    git_dir: Path,
    head: str,
    known_commits: Sequence[str],
    changes: Changes,
    *,
    protected_paths: Sequence[str],
    max_files: int,
    max_blob_bytes: int,
    max_unpacked_bytes: int,
    limits: Limits,
) -> tuple[str, ...]:
    """Judge paths, kinds and sizes; the paths that wait for a person. Rejected with everything found.

    `known_commits` are those whose names were there before.
    """
    count = len({change.path for change in changes.judged})
    if count > max_files:
        raise Rejected(too_many_files(f"{count} files were changed.", max_files))
    sizes = _blob_sizes(git_dir, changes.judged, limits)
    too_big = any(size > max_blob_bytes for size in sizes.values())
    if sum(sizes.values()) > max_unpacked_bytes and not too_big:
        raise refuse(
            "E_BUNDLE_TOO_BIG",
            f"The changed files have {sum(sizes.values())} bytes together.",
            expected=f"at most {max_unpacked_bytes}",
            mend="Leave generated files out of the commits.",
        )
    links = [change.sha for change in changes.judged if change.mode == LINK]
    targets = dict(beginnings(git_dir, list(dict.fromkeys(links)), MAX_PATH_BYTES + 1, limits))
    entries = [_entry(change, sizes, targets) for change in changes.judged]
    verdict = check_paths(
        entries,
        folders=_touched_folders(git_dir, known_commits, head, changes.judged, limits),
        protected_paths=protected_paths,
        max_files=max_files,
        max_blob_bytes=max_blob_bytes,
    )
    if verdict.problems:
        raise Rejected(*verdict.problems)
    return verdict.held


def _entry(change: Change, sizes: Mapping[str, int], targets: Mapping[str, bytes]) -> Entry:
    return Entry(
        path=change.path,
        mode=change.mode,
        previous_mode=change.previous_mode,
        size=sizes.get(change.sha, 0),
        target=targets.get(change.sha, b"") if change.mode == LINK else b"",
        commit=change.commit,
    )


def _blobs(changes: Iterable[Change]) -> list[str]:
    return list(dict.fromkeys(change.sha for change in changes if change.mode not in (ABSENT, SUBMODULE)))


def _blob_sizes(git_dir: Path, changes: Iterable[Change], limits: Limits) -> dict[str, int]:
    blobs = _blobs(changes)
    found = kinds_and_sizes(git_dir, blobs, limits)
    for sha in blobs:
        # A tree can call a commit or another tree a file.
        if found.get(sha, ("", 0))[0] != "blob":
            raise refuse("E_BUNDLE_PACK", "A path of the result leads to something that is no file.", place=sha)
    return {sha: size for sha, (_, size) in found.items()}


def _touched_folders(
    git_dir: Path, known_commits: Sequence[str], head: str, changes: Iterable[Change], limits: Limits
) -> dict[bytes, Folder]:
    touched: dict[bytes, None] = {}
    for change in changes:
        # A path that is too deep is refused by itself.
        if change.mode != ABSENT and change.previous_mode == ABSENT and not is_too_deep(change.path):
            parts = change.path.split(b"/")
            touched.update(dict.fromkeys(b"/".join(parts[:depth]) for depth in range(len(parts))))
        if len(touched) > _MAX_FOLDERS:
            raise Rejected(too_many_files("Files were created in too many folders.", _MAX_FOLDERS))
    folders = list(touched)
    names = folder_names(git_dir, head, folders, limits)
    known: dict[bytes, frozenset[bytes]] = {}
    for commit in known_commits:
        for folder, there in folder_names(git_dir, commit, folders, limits).items():
            known[folder] = known.get(folder, frozenset()) | there
    return {folder: Folder(there, known[folder]) for folder, there in names.items()}


def scan_names(changes: Iterable[Change], scan: Scan) -> None:
    """Show every path to the scan, and of submodules the commit, before anything is told of one.

    Rejected with its find.
    """
    shown = [change.path + (change.sha.encode() if change.mode == SUBMODULE else b"") for change in changes]
    _check_find(scan(iter([b"\n".join(shown)])), "the names of the files")


def scan_content(
    git_dir: Path, changes: Iterable[Change], messages: Sequence[bytes], scan: Scan, limits: Limits
) -> None:
    """Show every new blob and commit to the scan. Rejected with its first find."""
    changes = list(changes)
    paths = {change.sha: display(change.path) for change in changes}
    for item in each_object(git_dir, [sha.encode() for sha in _blobs(changes)], limits):
        _check_find(scan(item.content), paths[item.name.decode()])
    for message in messages:
        _check_find(scan(iter([message])), "a commit's message")


def _check_find(found: Problem | None, place: str) -> None:
    if found is not None:
        raise Rejected(replace(found, file="result.bundle", place=found.place or place))


def describe_files(
    git_dir: Path, base: str, head: str, changes: Changes, limits: Limits
) -> tuple[FileChange, ...]:
    """The files that the result changes, as people are told."""
    counts = line_counts(git_dir, base, head, limits)
    return tuple(
        FileChange(
            path=display(change.path),
            change_type=_change_type(change),
            lines_added=counts.get(change.path, (0, 0))[0],
            lines_removed=counts.get(change.path, (0, 0))[1],
        )
        for change in changes.whole
    )


def _change_type(change: Change) -> ChangeType:
    if change.previous_mode == ABSENT:
        return "created"
    if change.mode == ABSENT:
        return "deleted"
    return "modified" if change.mode >> 12 == change.previous_mode >> 12 else "type_changed"


def summarise(files: Sequence[FileChange]) -> str:
    """One line such as ``3 files changed, +120 −4``."""
    added = sum(file.lines_added for file in files)
    removed = sum(file.lines_removed for file in files)
    return f"{len(files)} file{'' if len(files) == 1 else 's'} changed, +{added} −{removed}"
