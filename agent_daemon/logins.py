"""Where coding CLIs keep logins of subscriptions, and marks by which copies of one login are told.

Such a login is renewed with a refresh token that the provider takes once and replaces (RFC 9700, 4.14.2): of two
copies, the one that renews first leaves the other without a login. A token itself never leaves this module.

A renewed login has another token than its copy. So what a CLI had before is kept, by its marks, in its home.
"""

import hmac
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from agent_daemon.clis.base import About
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import Signature, read_file, write_file

_LOGIN_BYTES = 256 * 1024
# Each renewable login in a file has a token of its own: of OpenCode each provider, of Claude Code each MCP server.
_MOST = 50
EARLIER = ".cloud-code-logins"
_LEAST_CHARACTERS = 16
# refreshToken (Claude Code), refresh_token (Codex, Gemini CLI, Qwen Code), refresh (OpenCode).
_NAME = re.compile(r"refresh|.*refresh[_-]?token", re.IGNORECASE)
MARK = re.compile(r"[0-9a-f]{64}")
_VARIABLE = re.compile(r".*REFRESH_?TOKEN")


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """A refresh token that a login holds, or held (`past`), by its `mark`: HMAC-SHA256 under a root's key.

    `login` is the file by its usual name in the home, or the variable. `place` tells one file from another, over
    all workstations of a host; it is empty for a variable, which every program has for itself.
    """

    login: str
    place: str
    mark: str
    past: bool = False


@dataclass(frozen=True)
class LoginFile:
    """A file with a login: its usual name in the home, and where it is below a folder that is trusted."""

    name: str
    folder: Path
    relative: str

    @property
    def is_there(self) -> bool:
        try:
            return (self.folder / self.relative).is_file()
        except OSError:  # (its folder may be closed)
            return False


def key_of(supervisor: str) -> bytes:
    """The key of all marks in the workstations of one root, from the id of its supervisor."""
    return hmac.digest(b"cloud-code logins", supervisor.encode(), "sha256")


def login_files(about: About, home: Path, environment: Mapping[str, str]) -> tuple[LoginFile, ...]:
    """The files in which a CLI with this home and environment looks for its login."""
    return tuple(_login_file(name, about, home, environment) for name in about.logins)


def _login_file(name: str, about: About, home: Path, environment: Mapping[str, str]) -> LoginFile:
    for variable, part in about.folders.items():
        moved = Path(environment.get(variable, ""))
        if moved.is_absolute() and PurePosixPath(name).is_relative_to(part):
            return LoginFile(name, moved, str(PurePosixPath(name).relative_to(part)))
    return LoginFile(name, home, name)


def lineages(
    files: tuple[LoginFile, ...], key: bytes, *, given: Mapping[str, str] | None = None, home: Path | None = None
) -> tuple[Lineage, ...]:
    """What the login files hold, and the variables that a CLI is `given`; what cannot be read holds nothing.

    With its `home` also what a login that is there held before, as far as that was kept.
    """
    found = [one for file in files for one in _held(file, key)]
    now = {one.mark for one in found}
    before = [mark for mark in _earlier(home) if mark not in now] if home is not None and found else []
    found += [replace(found[0], mark=mark, past=True) for mark in before]
    for name, value in (given or {}).items():
        marks = [_mark(value, key)] if is_refresh_variable(name, value) else _marks(value, key)
        found += [Lineage(login=f"variable {name}", place="", mark=mark) for mark in marks]
    return tuple(found)


def keep_marks(files: tuple[LoginFile, ...], key: bytes, home: Path) -> None:
    """Keep in the home of a CLI which logins it has; nothing where it has none, or that is known."""
    marks = [one.mark for file in files for one in _held(file, key)]
    known = _earlier(home) if marks else []
    if new := [mark for mark in marks if mark not in known]:
        with suppress(OSError):
            write_file(home / EARLIER, json.dumps([*known, *new][-_MOST:]).encode(), mode=0o600)


def _held(file: LoginFile, key: bytes) -> list[Lineage]:
    try:
        content = read_file(file.folder, file.relative, max_bytes=_LOGIN_BYTES)
    except (OSError, ProtocolError):
        return []
    place = _place(content.signature)
    return [Lineage(login=file.name, place=place, mark=mark) for mark in _marks(content.data, key)]


def _earlier(home: Path) -> list[str]:
    """The marks that were kept, the newest last; an agent may have written there, too."""
    try:
        kept = json.loads(read_file(home, EARLIER, max_bytes=_LOGIN_BYTES).data)
    except (OSError, ProtocolError, ValueError, RecursionError):
        return []
    marks = kept if isinstance(kept, list) else []
    return [mark for mark in marks if isinstance(mark, str) and MARK.fullmatch(mark)][-_MOST:]


def renews(name: str, value: str) -> bool:
    """Whether a variable of this name and value hands out a login that is renewed."""
    return is_refresh_variable(name, value) or bool(_refresh_tokens(value))


def is_refresh_variable(name: str, value: str) -> bool:
    """Whether the variable is a refresh token itself, as CLAUDE_CODE_OAUTH_REFRESH_TOKEN."""
    return _VARIABLE.fullmatch(name) is not None and len(value) >= _LEAST_CHARACTERS


def _place(signature: Signature) -> str:
    return f"{signature.device:x}:{signature.inode:x}"


def _marks(text: str | bytes, key: bytes) -> list[str]:
    return sorted(_mark(token, key) for token in _refresh_tokens(text))[:_MOST]


def _mark(token: str, key: bytes) -> str:
    return hmac.digest(key, token.encode(errors="surrogatepass"), "sha256").hex()


def _refresh_tokens(text: str | bytes) -> set[str]:
    """Every text in this JSON that is called a refresh token; none where it is no JSON."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return set()
    return {token for name, token in _texts(value) if _NAME.fullmatch(name) and len(token) >= _LEAST_CHARACTERS}


def _texts(value: object) -> Iterator[tuple[str, str]]:
    """Names and texts at whatever depth, without a call for each level."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield from ((name, item) for name, item in each.items() if isinstance(item, str))
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
