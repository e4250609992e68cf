"""Read objects and changes out of a quarantine, within limits; nothing here trusts what it reads."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from supervisor.git.command import GitError, Limits, open_git, run_git

ABSENT = 0
_CHUNK_BYTES = 64 * 1024
_MAX_LISTING_BYTES = 32 * 1024 * 1024
_MAX_FIELD_BYTES = 1024 * 1024
# People's own branches may change this much; a few KB of hostile trees list far more.
MAX_CHANGES = 50_000
_DIFF = ("diff-tree", "-r", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-abbrev")


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A path that differs; modes are git's, 0 for "not there"; `commit` is where, "" for a whole range."""

    path: bytes
    mode: int
    previous_mode: int
    sha: str
    commit: str = ""


@dataclass(frozen=True)
class Found:
    """An object asked for by `name`: its kind (None when it is missing) and its content, to be read at once."""

    name: bytes
    kind: str | None
    content: Iterator[bytes]


class TooManyChangesError(Exception):
    """More than `MAX_CHANGES` were listed: reading stopped there."""


def changes_between(git_dir: Path, old: str, new: str, limits: Limits) -> list[Change]:
    """What differs between two commits. TooManyChangesError."""
    with open_git([*_DIFF, "--raw", old, new], git_dir=git_dir, limits=limits) as output:
        return _read_changes(output)


def changes_in(git_dir: Path, commits: Sequence[str], limits: Limits) -> list[Change]:
    """What each of the commits changed; of a merge, what is as in none of its parents. TooManyChangesError."""
    stdin = "".join(f"{commit}\n" for commit in commits).encode()
    arguments = [*_DIFF, "--raw", "--stdin", "--root", "-c"]
    with open_git(arguments, git_dir=git_dir, stdin=stdin, limits=limits) as output:
        return _read_changes(output)


def _read_changes(output: IO[bytes]) -> list[Change]:
    changes = list(islice(_parse_raw(_fields(output)), MAX_CHANGES + 1))
    if len(changes) > MAX_CHANGES:
        raise TooManyChangesError(f"more than {MAX_CHANGES} changes")
    return changes


def _fields(output: IO[bytes]) -> Iterator[bytes]:
    """What stands before each NUL, a chunk at a time. E_GIT_OUTPUT when it is too much together."""
    rest, total = b"", 0
    while chunk := output.read(_CHUNK_BYTES):
        total += len(chunk)
        if total > _MAX_LISTING_BYTES:
            raise GitError("E_GIT_OUTPUT", f"git diff-tree printed more than {_MAX_LISTING_BYTES} bytes.")
        *whole, rest = (rest + chunk).split(b"\0")
        if len(rest) > _MAX_FIELD_BYTES:
            raise GitError("E_GIT_OUTPUT", "git diff-tree printed a line that has no end.")
        yield from whole


def _parse_raw(fields: Iterator[bytes]) -> Iterator[Change]:
    commit = ""
    for field in fields:
        if not field.startswith(b":"):
            commit = field.decode("ascii")
            continue
        # One colon, old mode and old hash for each parent: ":100644 100644 OLD NEW M", "::…" for a merge.
        parents = len(field) - len(field.lstrip(b":"))
        words = field[parents:].decode("ascii").split(" ")
        yield Change(
            path=next(fields),
            mode=int(words[parents], 8),
            previous_mode=max(int(mode, 8) for mode in words[:parents]),
            sha=words[2 * parents + 1],
            commit=commit,
        )


def line_counts(git_dir: Path, old: str, new: str, limits: Limits) -> dict[bytes, tuple[int, int]]:
    """Lines added and removed of each path; zeros for what is not text."""
    listing = run_git(
        [*_DIFF, "--numstat", old, new], git_dir=git_dir, limits=limits, max_output_bytes=_MAX_LISTING_BYTES
    )
    counts = {}
    for field in listing.split(b"\0")[:-1]:
        added, removed, path = field.split(b"\t", 2)
        counts[path] = (0, 0) if added == b"-" else (int(added), int(removed))
    return counts


def kinds_and_sizes(git_dir: Path, names: Iterable[str], limits: Limits) -> dict[str, tuple[str, int]]:
    """Kind and size in bytes of each object; those that are missing are left out."""
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return {}
    listing = run_git(
        ["cat-file", "--batch-check", "--buffer"],
        git_dir=git_dir,
        stdin="".join(f"{name}\n" for name in wanted).encode(),
        limits=limits,
    )
    found = {}
    for name, line in zip(wanted, listing.decode("ascii", "replace").splitlines(), strict=True):
        words = line.split(" ")
        if len(words) == 3:
            found[name] = (words[1], int(words[2]))
    return found


def each_object(git_dir: Path, names: Sequence[bytes], limits: Limits) -> Iterator[Found]:
    """The objects in the order of their names, a chunk at a time; a name holds no line break."""
    if not names:
        return
    stdin = b"".join(name + b"\n" for name in names)
    answered = 0
    with open_git(["cat-file", "--batch", "--buffer"], git_dir=git_dir, stdin=stdin, limits=limits) as output:
        for name in names:
            line = output.readline()
            if not line:
                break
            answered += 1
            words = line.rstrip(b"\n").split(b" ")
            # What is missing is answered with its name, and a name that we ask for is a hash or has a colon.
            if line.endswith(b" missing\n") or len(words) != 3:
                yield Found(name, None, iter(()))
                continue
            content = _chunks(output, int(words[2]))
            yield Found(name, words[1].decode("ascii"), content)
            for _ in content:
                pass
            output.read(1)
    if answered < len(names):
        raise GitError("E_GIT", "git cat-file ended too early.")


def _chunks(output: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := output.read(min(size, _CHUNK_BYTES))):
        size -= len(chunk)
        yield chunk


def beginnings(git_dir: Path, shas: Sequence[str], max_bytes: int, limits: Limits) -> Iterator[tuple[str, bytes]]:
    """The first bytes of each object that exists, in turn: together they may be more than memory holds."""
    for item in each_object(git_dir, [sha.encode() for sha in shas], limits):
        kept = bytearray()
        for chunk in item.content:
            kept += chunk[: max_bytes - len(kept)]
        if item.kind is not None:
            yield item.name.decode(), bytes(kept)


def folder_names(
    git_dir: Path, commit: str, folders: Sequence[bytes], limits: Limits
) -> dict[bytes, frozenset[bytes]]:
    """The names in these folders of a commit; empty for what is no folder there."""
    found: dict[bytes, frozenset[bytes]] = {}
    asked = [folder for folder in folders if b"\n" not in folder]
    names = [commit.encode() + b":" + folder for folder in asked]
    for folder, item in zip(asked, each_object(git_dir, names, limits), strict=True):
        found[folder] = frozenset(_tree_names(item)) if item.kind == "tree" else frozenset()
    return found


def _tree_names(tree: Found) -> Iterator[bytes]:
    content = bytearray()
    for chunk in tree.content:
        content += chunk
        if len(content) > _MAX_LISTING_BYTES:
            raise GitError("E_GIT_OUTPUT", "A folder is too large to be looked at.")
    position = 0
    while position < len(content):
        end = content.index(b"\0", position)
        yield bytes(content[content.index(b" ", position) + 1 : end])
        position = end + 21
