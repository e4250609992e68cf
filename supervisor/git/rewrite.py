"""Give the agent's commits the bot's name, the asker as co-author, and a message that does nothing by itself.

What a commit says of itself is the agent's word. Its tree and both dates stay, everything else is made anew
from the same input, so that a repetition yields the same hashes.
"""

import hashlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from supervisor.git.bundle import Rejected, refuse
from supervisor.git.command import GitError, Limits, run_git
from supervisor.git.messages import clean_message, subject
from supervisor.git.objects import beginnings

_MAX_COMMIT_BYTES = 256 * 1024
_TREE = re.compile(rb"tree ([0-9a-f]{40})\n")
_PARENT = re.compile(rb"parent ([0-9a-f]{40})\n")
_DATE = re.compile(rb"> ([0-9]{1,12}) ([+-][0-9]{4})$")
_ENCODING = re.compile(
    rb"^encoding (iso-?8859-[0-9]+|windows-[0-9]+|cp[0-9]+|koi8-[ru]|shift_?jis|euc-(?:jp|kr)|gbk|gb18030|big5)$",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who the commits are by; co-authors as ``Name <address>``."""

    bot_name: str
    bot_email: str
    coauthors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.bot_name.strip() or not self.bot_email.strip():
            raise GitError("E_IDENTITY", "The bot needs a name and an address.")
        if any(sign in "<>" or not sign.isprintable() for sign in self.bot_name + self.bot_email):
            raise GitError("E_IDENTITY", "The bot's name and address must not hold <, > or control characters.")


@dataclass(frozen=True)
class CommitInfo:
    """A commit's hash and the first line of its message."""

    sha: str
    subject: str


@dataclass(frozen=True)
class Rewritten:
    """The new head, the new commits oldest first, and their whole contents."""

    head: str
    commits: tuple[CommitInfo, ...]
    contents: tuple[bytes, ...]


@dataclass(frozen=True)
class Commit:
    """The parts of a commit that count; dates as git writes them."""

    tree: str
    parents: tuple[str, ...]
    author_date: str
    committer_date: str
    message: str


def rewrite(git_dir: Path, head: str, commits: Sequence[str], identity: Identity, limits: Limits) -> Rewritten:
    """Write these commits (parents before children) anew; a head that is not among them stays as it is.

    Rejected: E_COMMIT_FORMAT.
    """
    new_names: dict[str, str] = {}
    contents = []
    infos = []
    for sha, original in beginnings(git_dir, commits, _MAX_COMMIT_BYTES, limits):
        commit = parse_commit(sha, original)
        parents = tuple(new_names.get(parent, parent) for parent in commit.parents)
        message = clean_message(commit.message, identity.coauthors)
        content = _format(commit, parents, identity, message)
        new_names[sha] = hashlib.sha1(b"commit %d\0" % len(content) + content).hexdigest()  # noqa: S324 (git's)
        contents.append(content)
        infos.append(CommitInfo(new_names[sha], subject(message)))
    if len(contents) != len(commits):
        raise GitError("E_GIT", "git cat-file left a commit out.")
    _write(git_dir, contents, [info.sha for info in infos], limits)
    return Rewritten(new_names.get(head, head), tuple(infos), tuple(contents))


def describe(git_dir: Path, commits: Sequence[str], limits: Limits) -> tuple[CommitInfo, ...]:
    """The commits as they are, with subjects made harmless."""
    originals = beginnings(git_dir, commits, _MAX_COMMIT_BYTES, limits)
    parsed = ((sha, parse_commit(sha, original)) for sha, original in originals)
    return tuple(CommitInfo(sha, subject(clean_message(commit.message))) for sha, commit in parsed)


def parse_commit(sha: str, content: bytes) -> Commit:
    """Read a raw commit. Rejected: E_COMMIT_FORMAT."""
    header, separator, message = content.partition(b"\n\n")
    header += b"\n"
    tree = _TREE.match(header)
    if tree is None or not separator:
        raise _malformed(sha)
    position = tree.end()
    parents = []
    while parent := _PARENT.match(header, position):
        parents.append(parent[1].decode())
        position = parent.end()
    author, committer, *others = header[position:].split(b"\n")
    encoding = _ENCODING.search(b"\n".join(others))
    return Commit(
        tree=tree[1].decode(),
        parents=tuple(parents),
        author_date=_date(sha, b"author ", author),
        committer_date=_date(sha, b"committer ", committer),
        message=message.decode(encoding[1].decode() if encoding else "utf-8", "replace"),
    )


def _date(sha: str, kind: bytes, line: bytes) -> str:
    match = _DATE.search(line)
    if match is None or not line.startswith(kind):
        raise _malformed(sha)
    return f"{match[1].decode()} {match[2].decode()}"


def _malformed(sha: str) -> Rejected:
    return refuse("E_COMMIT_FORMAT", "A commit is not as git writes them.", place=sha, mend="Make it with git.")


def _format(commit: Commit, parents: Sequence[str], identity: Identity, message: str) -> bytes:
    who = f"{identity.bot_name} <{identity.bot_email}>"
    lines = [
        f"tree {commit.tree}",
        *(f"parent {parent}" for parent in parents),
        f"author {who} {commit.author_date}",
        f"committer {who} {commit.committer_date}",
    ]
    return ("\n".join(lines) + "\n\n" + message).encode("utf-8")


def _write(git_dir: Path, contents: Sequence[bytes], names: Sequence[str], limits: Limits) -> None:
    if not contents:
        return
    with tempfile.TemporaryDirectory(prefix="cloud-code-commits-") as folder:
        paths = []
        for number, content in enumerate(contents):
            path = Path(folder, str(number))
            path.write_bytes(content)
            paths.append(f"{path}\n")
        written = run_git(
            ["hash-object", "-w", "-t", "commit", "--no-filters", "--stdin-paths"],
            git_dir=git_dir,
            stdin="".join(paths).encode(),
            limits=limits,
        )
    if written.decode().split() != list(names):
        raise GitError("E_GIT", "git hash-object gave other names to the commits than expected.")
