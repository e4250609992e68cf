"""What went wrong with a call of git: one stable code, one sentence, never a credential."""

import re
from collections.abc import Iterable

from supervisor.errors import CloudCodeError

_TAIL_BYTES = 4_096
_USER_INFORMATION = re.compile(r"(?<=://)[^/@\s]+@")
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e\u00a1-\u1fff\u3000-\ufffd]+")

# What git says of a repository whose files are not what they were when it wrote them.
_DAMAGE = (
    r"(?:loose )?object \S+ \(stored in \S+\) is corrupt|object file \S+ is empty|unable to unpack \S+ header"
    r"|inflate: data stream error|packfile \S+ (?:does not match|cannot be|index|is)|pack checksum mismatch"
    r"|pack has bad object|non-monotonic index|index file \S+ is|bad object (?:refs/|HEAD)"
    r"|missing object \S+ for refs/|invalid sha1 pointer|unexpected line in \S+packed-refs"
    r"|bad config line|did not send all necessary objects|unable to read (?:sha1 file|tree|[0-9a-f]{40})"
    r"|missing (?:blob|tree|commit)|not a git repository: '"
)

# Read from top to bottom, the first that is found decides. Git runs with LC_ALL=C, so the words are stable.
_CAUSES: tuple[tuple[str, str, bool, str], ...] = (
    ("E_STATE_DISK", "The disk is full.", True, r"No space left on device|Disk quota exceeded"),
    # Of a lock file git does not say why it cannot be written.
    (
        "E_STATE_DISK",
        "The disk did not take what git wrote.",
        True,
        r"couldn't write '|unable to write (?:loose|new) ",
    ),
    ("E_URL", "This kind of address is not allowed.", False, r"transport '[^']*' not allowed"),
    (
        "E_REMOTE_OWNER",
        "The repository belongs to another user; give it to the user who runs this, or reach it over ssh.",
        False,
        r"detected dubious ownership",
    ),
    (
        "E_REPOSITORY_MOVED",
        "The repository has moved; configure its new address.",
        False,
        r"unable to update url base from redirection|returned error: 30[1278]",
    ),
    ("E_OBJECTS_DAMAGED", "Objects of a repository are damaged or missing.", True, _DAMAGE),
    ("E_NO_BRANCH", "The remote has no such branch.", False, r"couldn't find remote ref"),
    (
        "E_NO_REPOSITORY",
        "There is no such repository, or it may not be seen with these rights.",
        False,
        r"does not appear to be a git repository|[Rr]epository not found|repository '[^']*' not found"
        r"|project you were looking for could not be found|repository '[^']*' does not exist"
        r"|not a git repository|returned error: 404",
    ),
    (
        "E_AUTHENTICATION",
        "The remote did not accept the credentials.",
        False,
        r"Authentication failed|could not read Username|could not read Password|returned error: 40[13]"
        r"|Permission denied \(|HTTP Basic: Access denied|Permission to \S+ denied"
        r"|Host key verification failed|Write access to repository not granted",
    ),
    (
        "E_UNREACHABLE",
        "The remote cannot be reached at the moment.",
        True,
        r"Could not resolve host|Connection refused|[Tt]imed out|Failed to connect|Connection reset"
        r"|Network is unreachable|No route to host|Host is down|Stale file handle|endpoint is not connected"
        r"|returned error: (?:5\d\d|429)|early EOF"
        r"|unexpected disconnect|hung up unexpectedly|Connection closed|Operation too slow|RPC failed"
        r"|SSL_ERROR|TLS connection|Could not read from remote repository",
    ),
)


class GitError(CloudCodeError):
    """A call of git failed. `retryable`: the same call may succeed later; `exit_code` is None when it was ended.

    `stderr_tail` is what git said last, at most 4 KiB, with credentials taken out.
    """

    def __init__(
        self,
        code: str,
        message: str,
        stderr_tail: str = "",
        *,
        exit_code: int | None = None,
        retryable: bool = False,
    ) -> None:
        self.stderr_tail, self.exit_code, self.retryable = stderr_tail, exit_code, retryable
        super().__init__(code, message)


def from_stderr(verb: str, stderr: bytes, exit_code: int, secrets: Iterable[str] = ()) -> GitError:
    """The error that git's own words mean; E_GIT when they mean nothing known."""
    text = redact(stderr[-_TAIL_BYTES:].decode("utf-8", "replace"), secrets)
    for code, message, retryable, pattern in _CAUSES:
        if re.search(pattern, text):
            return GitError(code, message, text, exit_code=exit_code, retryable=retryable)
    said = first_line(text) or f"it ended with {exit_code}"
    return GitError("E_GIT", f"git {verb} failed: {said}", text, exit_code=exit_code)


def looks_damaged(said: str) -> bool:
    """Whether these words of git's are about damaged or missing objects."""
    return re.search(_DAMAGE, said) is not None


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without these values and without what stands before the @ of an address."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return _USER_INFORMATION.sub("***@", text)


def first_line(text: str, prefix: str = "") -> str:
    """The first line with this prefix that says something, printable and at most 300 characters."""
    for line in text.splitlines():
        said = _NOT_PRINTABLE.sub(" ", line.removeprefix(prefix)).strip()
        if line.startswith(prefix) and said:
            return said[:300]
    return ""
