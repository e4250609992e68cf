"""Which branch names, addresses and hashes may reach a command line of git; pure."""

import re
from urllib.parse import urlsplit

from supervisor.git.errors import GitError

_SHA = re.compile(r"[0-9a-f]{40}")
_GENERATED_BRANCH = re.compile(r"[a-z0-9][a-z0-9/_.-]{0,120}")
_FORBIDDEN_IN_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|/\.|\.lock(?:/|$)")
_SCP_LIKE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?![:/])[^-:].*")
_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?")
_TASK_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?=[a-z0-9])){0,200}")


def is_sha(text: str) -> bool:
    """Whether this is a whole SHA-1 name of an object."""
    return _SHA.fullmatch(text) is not None


def is_branch(name: str) -> bool:
    """Whether git takes this as the name of a branch (people's branches: any script, no tricks)."""
    return (
        0 < len(name.encode("utf-8", "replace")) <= 250
        and name.isprintable()
        and name != "@"
        and not name.startswith(("-", "/", "."))
        and not name.endswith(("/", "."))
        and _FORBIDDEN_IN_BRANCH.search(name) is None
    )


def check_branch(name: str) -> None:
    """Refuse what is not the name of a branch: E_BRANCH_NAME."""
    if not is_branch(name):
        raise GitError("E_BRANCH_NAME", f"{name[:200]!r} is not the name of a branch.")


def check_generated_branch(name: str) -> None:
    """Refuse what is not a branch name as this program makes them, the only ones pushed: E_BRANCH_NAME."""
    if _GENERATED_BRANCH.fullmatch(name) is None or not is_branch(name):
        raise GitError("E_BRANCH_NAME", f"{name[:200]!r} is not a branch name that may be pushed.")


def check_task_id(task_id: str) -> None:
    """Refuse what cannot be a part of a ref's name: E_TASK_ID."""
    if _TASK_ID.fullmatch(task_id) is None or task_id.endswith(".lock"):
        raise GitError("E_TASK_ID", f"{task_id[:200]!r} is not the id of a task.")


def is_loopback(host: str) -> bool:
    """Whether this host, with a port or without, is this very machine: nothing listens in between."""
    return _LOOPBACK.fullmatch(host) is not None


def is_address(repository: str) -> bool:
    """Whether a configured repository is an address (``https://…``, ``user@host:path``) and not a path."""
    head, separator, _ = repository.partition(":")
    return "://" in repository or (bool(separator) and "/" not in head and "@" in head)


def check_url(url: str) -> None:
    """Refuse addresses that git would run as a program, that are not encrypted, or that hold a credential.

    Taken are https://, ssh://, host:path, file://, absolute paths, and http:// on the loopback interface alone.
    E_URL, E_CREDENTIAL_IN_URL.
    """
    if not url.isprintable() or url.startswith("-") or "::" in url.split("/", 1)[0]:
        raise GitError("E_URL", "The repository's address holds characters that are not allowed.")
    if url.startswith("/"):
        return
    scheme, separator, _ = url.partition("://")
    if not separator:
        if _SCP_LIKE.fullmatch(url) is None:
            raise GitError("E_URL", "Give the repository as https://, ssh://, host:path or an absolute path.")
        return
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise GitError("E_URL", "The repository's address cannot be understood.") from None
    if parts.password is not None or (scheme != "ssh" and "@" in parts.netloc):
        raise GitError(
            "E_CREDENTIAL_IN_URL", "The repository's address holds a credential; configure it as a secret."
        )
    if scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return
    if scheme == "http" and is_loopback(parts.netloc):
        return
    if scheme not in ("https", "ssh") or not parts.hostname or parts.hostname.startswith("-"):
        raise GitError("E_URL", "Give the repository as https://, ssh://, file:/// or an absolute path.")
