"""Files that git-lfs keeps: a commit holds pointers to them only, and their content travels apart from it.

We carry no such content. A result that brings a new one would leave everybody with a file that cannot be had,
or with plain content where git-lfs looks for a pointer: it is refused.
"""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from agent_daemon.protocol.errors import Problem
from supervisor.git.bundle import Rejected
from supervisor.git.command import Limits, run_git
from supervisor.git.objects import ABSENT, Change, beginnings
from supervisor.git.path_policy import LINK, SUBMODULE, display

_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_MAX_POINTER_BYTES = 1024  # by the specification of git-lfs
_MAX_ATTRIBUTES_BYTES = 1024 * 1024
_MAX_PROBLEMS = 20


def check_lfs(git_dir: Path, base: str, head: str, changes: Iterable[Change], limits: Limits) -> None:
    """Refuse new content of files that both `base` and `head` give to git-lfs: E_LFS_FILE.

    A pointer that upstream has (a file that is moved or copied), an empty file, a deletion, and a file that
    upstream has as plain content against its own attributes are fine. Where `head` no longer gives a file to
    git-lfs, its `.gitattributes` differ, which waits for a person anyhow.
    """
    new = [change for change in changes if change.mode not in (ABSENT, LINK, SUBMODULE)]
    kept = lfs_paths(git_dir, base, {change.path for change in new}, limits)
    kept &= lfs_paths(git_dir, head, kept, limits) if kept else set()
    if not kept:
        return
    files = _files_of(git_dir, base, limits)
    known = set(files.values())
    shas = list({*(change.sha for change in new), *files.values()})
    contents = dict(beginnings(git_dir, shas, len(_POINTER), limits))
    refused: dict[str, Problem] = {}
    for change in new:
        content = contents.get(change.sha, b"")
        if change.path not in kept or not content:
            continue
        is_pointer = content == _POINTER
        was_plain = contents.get(files.get(change.path, ""), _POINTER) != _POINTER
        if change.sha not in known if is_pointer else not was_plain:
            refused.setdefault(display(change.path), _problem(display(change.path), is_pointer))
    if refused:
        raise Rejected(*list(refused.values())[:_MAX_PROBLEMS])


def _problem(path: str, is_pointer: bool) -> Problem:
    what = "a pointer to content that is not handed in" if is_pointer else "content where a pointer belongs"
    return Problem(
        code="E_LFS_FILE",
        message=f"The file {path} is kept by git-lfs, and the result brings {what}.",
        file="result.bundle",
        place=path,
        expected="the file as it was: content of git-lfs cannot be handed in",
        mend="Put the file back as it was in the base commit; say in the summary what a person has to change.",
    )


def lfs_paths(git_dir: Path, commit: str, paths: Iterable[bytes], limits: Limits) -> set[bytes]:
    """Those of the paths that the `.gitattributes` of a commit give to git-lfs."""
    asked = [path for path in paths if b"\n" not in path]
    attributes = _attribute_files(git_dir, commit, asked, limits)
    contents = beginnings(git_dir, list(attributes.values()), _MAX_ATTRIBUTES_BYTES, limits)
    if not any(b"lfs" in content for _, content in contents):
        return set()
    with tempfile.TemporaryDirectory(prefix="cloud-code-attributes-") as folder:
        # Attributes are read from an index; in it needs to be nothing but the files that say them.
        environment = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        entries = b"".join(b"100644 %s\t%s\0" % (sha.encode(), path) for path, sha in sorted(attributes.items()))
        run_git(
            ["update-index", "-z", "--index-info"],
            git_dir=git_dir,
            environment=environment,
            stdin=entries,
            limits=limits,
        )
        listing = run_git(
            ["check-attr", "--cached", "-z", "--stdin", "filter"],
            git_dir=git_dir,
            environment=environment,
            stdin=b"".join(path + b"\0" for path in asked),
            limits=limits,
        )
    fields = listing.split(b"\0")[:-1]
    return {path for path, value in zip(fields[::3], fields[2::3], strict=True) if value == b"lfs"}


def _attribute_files(git_dir: Path, commit: str, paths: Sequence[bytes], limits: Limits) -> dict[bytes, str]:
    """The blob of each `.gitattributes` in the folders above these paths; links are none to git."""
    folders = {b""}
    for path in paths:
        parts = path.split(b"/")[:-1]
        folders |= {b"/".join(parts[: count + 1]) + b"/" for count in range(len(parts))}
    names = [folder + b".gitattributes" for folder in sorted(folders)]
    return _blobs_at(git_dir, commit, names, limits) if paths else {}


def _blobs_at(git_dir: Path, commit: str, paths: Sequence[bytes], limits: Limits) -> dict[bytes, str]:
    """The blob at each of the paths in a commit; those that are none are left out. No path has a line break."""
    asked = b"".join(commit.encode() + b":" + path + b"\n" for path in paths)
    listing = run_git(["cat-file", "--batch-check", "--buffer"], git_dir=git_dir, stdin=asked, limits=limits)
    found = {}
    for path, line in zip(paths, listing.splitlines(), strict=True):
        words = line.split(b" ")
        if len(words) == 3 and words[1] == b"blob":
            found[path] = words[0].decode("ascii")
    return found


def _files_of(git_dir: Path, commit: str, limits: Limits) -> dict[bytes, str]:
    """Every file of a commit, with its blob."""
    listing = run_git(["ls-tree", "-r", "-z", "--full-tree", commit], git_dir=git_dir, limits=limits)
    found = {}
    for entry in listing.split(b"\0")[:-1]:
        words, path = entry.split(b"\t", 1)
        _, kind, sha = words.split(b" ")
        if kind == b"blob":
            found[path] = sha.decode("ascii")
    return found
