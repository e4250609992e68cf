"""Which paths, links and file kinds an agent's commits may bring, and which wait for a person; pure.

Names are judged when they are created: what upstream already has is people's business.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from agent_daemon.protocol.errors import Problem
from supervisor.git.globs import compile_glob, literal_start

LINK = 0o120000
SUBMODULE = 0o160000
MAX_FILES = 3_000
MAX_BLOB_BYTES = 50 * 1024 * 1024
MAX_PATH_BYTES = 4_000
MAX_DEPTH = 200
MAX_PROBLEMS = 50
_MAX_NAME_BYTES = 255

# What makes other programs run something, or changes what people and agents get to see or are told.
HELD_PATTERNS = (
    ".github/workflows/**",
    ".github/actions/**",
    ".gitea/workflows/**",
    ".forgejo/workflows/**",
    ".gitlab-ci.yml",
    ".gitattributes",
    ".gitmodules",
    ".lfsconfig",
    "CODEOWNERS",
    "AGENTS.md",
    "AGENTS.override.md",
    "CLAUDE.md",
    "CLAUDE.local.md",
    "GEMINI.md",
    ".cursorrules",
    ".mcp.json",
    "**/.claude/**",
    "**/.codex/**",
    "**/.cursor/**",
    "**/.gemini/**",
    ".github/copilot-instructions.md",
    ".github/instructions/**",
)

# HFS+ drops most of these from names, so that ".g\u200cit" is ".git" there; nobody sees any of them.
_IGNORABLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\u202a-\u202e\u206a-\u206f\ufeff]")
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# The short names that Windows gives to .git, .gitmodules, .gitattributes and their like.
_SHORT_NAME = re.compile(r"(?:git|gitmod|gitatt|gitign|gitmai|gi[0-9a-f]{4})~[0-9]+")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One changed path. Modes are git's, 0 for "not there"; `size` is the new blob's, in bytes.

    `target` is what a link points to; `commit` is where it was seen.
    """

    path: bytes
    mode: int
    previous_mode: int
    size: int = 0
    target: bytes = b""
    commit: str = ""


@dataclass(frozen=True)
class Folder:
    """The names in one folder of the result, and those that it had before."""

    names: frozenset[bytes]
    known: frozenset[bytes] = frozenset()


@dataclass(frozen=True)
class Verdict:
    """What is refused, and the paths that wait for a person."""

    problems: tuple[Problem, ...]
    held: tuple[str, ...]


def check_paths(
    entries: Iterable[Entry],
    *,
    folders: Mapping[bytes, Folder] | None = None,
    protected_paths: Sequence[str] = (),
    max_files: int = MAX_FILES,
    max_blob_bytes: int = MAX_BLOB_BYTES,
) -> Verdict:
    """Judge the changes; `folders` are those of the result in which something was created.

    Patterns: ``*`` within a name, ``**`` across folders; one without a slash matches in every folder.
    """
    entries = list(entries)
    count = len({entry.path for entry in entries})
    if count > max_files:
        return Verdict((too_many_files(f"{count} files were changed.", max_files),), ())
    found: dict[tuple[str, str], Problem] = {}
    held: dict[str, None] = {}
    patterns = (*HELD_PATTERNS, *protected_paths)
    for entry in entries:
        for problem in _check_entry(entry, max_blob_bytes):
            found.setdefault((problem.code, problem.place), problem)
        if _is_held(entry, patterns):
            held.setdefault(display(entry.path))
    for folder, names in (folders or {}).items():
        for problem in _collisions(folder, names):
            found.setdefault((problem.code, problem.place), problem)
    return Verdict(tuple(found.values())[:MAX_PROBLEMS], tuple(sorted(held)))


def too_many_files(message: str, maximum: int) -> Problem:
    """The refusal of a change that touches too much."""
    mend = "Leave generated files and dependencies out of the commits."
    return _problem("E_TOO_MANY_FILES", message, expected=f"at most {maximum}", mend=mend)


def _check_entry(entry: Entry, max_blob_bytes: int) -> list[Problem]:
    if not entry.mode:
        return []
    problems = check_name(entry.path) if not entry.previous_mode else []
    if entry.mode == LINK and not link_stays_inside(entry.path, entry.target):
        problems.append(
            _problem(
                "E_LINK_OUTSIDE",
                "A link leads out of the repository.",
                entry,
                expected="a relative target inside, with .. only at its beginning",
                mend="Remove the link.",
            )
        )
    if entry.size > max_blob_bytes:
        problems.append(
            _problem(
                "E_BLOB_TOO_BIG",
                f"A file has {entry.size} bytes.",
                entry,
                expected=f"at most {max_blob_bytes} bytes",
                mend="Leave it out of every commit, not only the last one.",
            )
        )
    return problems


def check_name(path: bytes) -> list[Problem]:
    """What is wrong with a new path's name."""
    entry = Entry(path=path, mode=0, previous_mode=0)
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return [_problem("E_PATH_ENCODING", "A file's name is not UTF-8.", entry, mend="Rename it.")]
    names = text.split("/")
    problems = []
    if any(name in ("", ".", "..") for name in names):
        problems.append(_problem("E_PATH_COMPONENT", "A path has an empty, . or .. part.", entry))
    if is_too_deep(path) or any(len(name.encode()) > _MAX_NAME_BYTES for name in names):
        problems.append(_problem("E_PATH_TOO_LONG", "A path is too long to be checked out.", entry))
    if any(_is_unprintable(character) for character in set(text)):
        message = "A file's name has control characters or such as change the direction of text."
        problems.append(_problem("E_PATH_CONTROL", message, entry, mend="Rename it."))
    if any(_is_git_alias(name) for part in names for name in part.split("\\")):
        message = "On some systems a part of this path is git's own folder."
        problems.append(_problem("E_PATH_GIT", message, entry, mend="Rename it."))
    if fold(names[0].split("\\")[0]) == ".cloud-code":
        message = "Files below .cloud-code are not part of the work."
        problems.append(_problem("E_PATH_RESERVED", message, entry, mend="Take them out of the commits."))
    return problems


def is_too_deep(path: bytes) -> bool:
    """Whether a path is longer, or leads through more folders, than anybody needs."""
    return len(path) > MAX_PATH_BYTES or path.count(b"/") > MAX_DEPTH


def _is_unprintable(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Zl", "Zp") or character in _BIDIRECTIONAL


def _is_git_alias(name: str) -> bool:
    # NTFS drops trailing dots and blanks, and what follows a colon is a stream of the same file.
    plain = fold(name.split(":")[0])
    return plain == ".git" or _SHORT_NAME.fullmatch(plain) is not None


@lru_cache(maxsize=4_096)
def fold(name: str) -> str:
    """The name as the most forgetful file systems see it: case, normalisation, invisible and trailing signs."""
    plain = _IGNORABLE.sub("", name)
    for _ in range(3):  # folding case may denormalise, and normalising may uncover a capital
        plain = unicodedata.normalize("NFC", unicodedata.normalize("NFD", plain).casefold())
    return plain.rstrip(". ") or plain


def link_stays_inside(path: bytes, target: bytes) -> bool:
    """Whether a link at `path` leads inside, judged by its text alone.

    ``..`` is taken at the beginning only: after a name it could climb from where another link leads to.
    """
    parts = re.split(rb"[/\\]", target)
    if not target or b"\0" in target or len(target) > MAX_PATH_BYTES or parts[0] == b"" or b":" in parts[0]:
        return False
    depth = path.count(b"/")
    while parts and parts[0] in (b"..", b".", b""):
        depth -= parts.pop(0) == b".."
    inside_git = any(_is_git_alias(part.decode("utf-8", "replace")) for part in parts)
    return depth >= 0 and b".." not in parts and not inside_git


def _is_held(entry: Entry, patterns: Sequence[str]) -> bool:
    if SUBMODULE in (entry.mode, entry.previous_mode):
        return True
    path = _folded_path(entry.path)
    if any(compile_glob(_fold_pattern(pattern)).covers(path) for pattern in patterns):
        return True
    # A link in a folder's place brings whatever it leads to: ".claude" → "docs".
    return entry.mode == LINK and any(_could_hold(path, _fold_pattern(pattern)) for pattern in patterns)


def _could_hold(folder: str, pattern: str) -> bool:
    inner = pattern.removeprefix("**/")
    if inner != pattern and inner.endswith("/**"):
        return folder.split("/")[-1] == inner.removesuffix("/**")
    return "/" in pattern and literal_start(pattern).startswith(folder + "/")


@lru_cache(maxsize=10_000)
def _folded_path(path: bytes) -> str:
    return "/".join(fold(name) for name in path.decode("utf-8", "backslashreplace").split("/"))


@lru_cache(maxsize=1_000)
def _fold_pattern(pattern: str) -> str:
    return "/".join(fold(name) for name in pattern.strip("/").split("/"))


def _collisions(folder: bytes, content: Folder) -> list[Problem]:
    """Names of one folder that are one file elsewhere; groups that were there before are left alone."""
    groups: dict[str, list[bytes]] = {}
    for name in sorted(content.names):
        groups.setdefault(fold(name.decode("utf-8", "backslashreplace")), []).append(name)
    problems = []
    for group in groups.values():
        if len(group) > 1 and not content.known.issuperset(group):
            new = next(name for name in group if name not in content.known)
            path = b"/".join(part for part in (folder, new) if part)
            names = ", ".join(display(name) for name in group)
            entry = Entry(path=path, mode=0, previous_mode=0)
            message = f"These names are one file on some systems: {names[:500]}."
            problems.append(_problem("E_PATH_COLLISION", message, entry, mend="Rename the new one."))
    return problems


def display(path: bytes) -> str:
    """A path that can be shown: what is not UTF-8 or not printable appears as an escape."""
    text = path[:MAX_PATH_BYTES].decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _problem(
    code: str, message: str, entry: Entry | None = None, *, expected: str = "", mend: str = ""
) -> Problem:
    place = display(entry.path) if entry is not None else ""
    return Problem(code=code, message=message, file="result.bundle", place=place, expected=expected, mend=mend)
