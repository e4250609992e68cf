"""What goes wrong between us and a forge, and what an answer's status means."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from supervisor.core.forge import Finding
from supervisor.errors import CloudCodeError

# GitHub's advice for a secondary limit that names no time, in seconds.
_UNNAMED_LIMIT_SECONDS = 60
# No limit of either forge is counted over more than an hour: what names a later time is not believed.
_LONGEST_LIMIT_SECONDS = 3600
_LIMIT_WORDS = ("rate limit", "retry your request again later", "wait a few minutes")

# What a person can do where the supervisor simply asks again.
_MENDS = {
    "E_FORGE_DOWN": "See whether `url` is right, and can be reached from this host.",
    "E_FORGE_LIMIT": "Wait: it is asked again when the limit is over.",
    "E_FORGE_GONE": "See whether `repository` is right, and whether the account may see it.",
    "E_FORGE_ANSWER": "See whether `url` is the address that a browser shows.",
    "E_FORGE_REFUSED": "See what the forge says.",
}


class ForgeError(CloudCodeError):
    """Something that a forge did not do. `retryable`: the same may succeed later, `retry_at` not before.

    `moved_to` is the new address where a repository was renamed. `silent`: no answer came in time, and what was
    asked for may be done yet.
    """

    def __init__(
        self,
        code: str,
        message: str,
        mend: str = "",
        *,
        retryable: bool = False,
        retry_at: datetime | None = None,
        moved_to: str = "",
        silent: bool = False,
    ) -> None:
        super().__init__(code, message, mend)
        self.retryable, self.retry_at, self.moved_to, self.silent = retryable, retry_at, moved_to, silent

    @property
    def is_refusal(self) -> bool:
        """Whether the forge said that it does not do it, so that nothing was done."""
        return not self.retryable and self.code != "E_FORGE_ANSWER"

    @property
    def is_hidden(self) -> bool:
        """Whether what was asked for is not shown to us: some of it is said not to be there."""
        return self.code in ("E_FORGE_DENIED", "E_FORGE_GONE")


def gathered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings as far as they come; what keeps more from coming is the last one."""
    found: list[Finding] = []
    try:
        for finding in findings:
            found.append(finding)
    except CloudCodeError as error:
        found.append(lack(error))
    return tuple(found)


def lack(error: CloudCodeError, what: str = "access") -> Finding:
    """What went wrong as the finding that it is."""
    named = "secret" if error.code == "E_FORGE_TOKEN" or error.code.startswith("E_SECRETS_") else what
    mend = error.mend or _MENDS.get(error.code, "")
    return Finding(what=named, ok=False, message=f"{error.code}: {error.message}", mend=mend)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A forge's answer: `headers` with small letters, `data` as decoded JSON (None for an empty body)."""

    status: int
    headers: Mapping[str, str]
    data: Any = None

    def limit(self, name: str) -> str:
        """A header about a rate limit: GitHub writes ``x-`` before it."""
        return self.headers.get(f"x-ratelimit-{name}", self.headers.get(f"ratelimit-{name}", ""))

    @property
    def tag(self) -> str:
        return self.headers.get("etag", "")


def checked(answer: Answer, what: str, now: datetime) -> Any:
    """The data of a good answer; raises ForgeError for every other. `what` was asked for, as ``GET /path``."""
    if 200 <= answer.status < 300 or answer.status == 304:
        return answer.data
    said = f"{what} was answered with {answer.status}: {_message(answer.data)}"
    if answer.status in (301, 302, 307, 308) or _is_moved_project(answer):
        raise moved(what, answer.headers.get("location", ""))
    limited = limit_ends(answer, now)
    if limited is not None:
        raise ForgeError("E_FORGE_LIMIT", said, retryable=True, retry_at=limited)
    if answer.status in (401, 403):
        mend = "Give the token the permissions that the project needs, or make a new one."
        raise ForgeError("E_FORGE_DENIED", said, mend)
    if answer.status in (404, 410):
        raise ForgeError("E_FORGE_GONE", said)
    if answer.status >= 500 or answer.status == 408:
        raise ForgeError("E_FORGE_DOWN", said, retryable=True, silent=answer.status in (408, 504))
    raise ForgeError("E_FORGE_REFUSED", said)


def moved(what: str, address: str = "") -> ForgeError:
    """The repository has another name now; `what` was asked for."""
    mend = "Set the project's `repository` in config.yaml to its new name, and restart the supervisor."
    now = f"is called {address} now" if address and "://" not in address else "has moved"
    return ForgeError("E_FORGE_MOVED", f"{what}: the repository {now}.", mend, moved_to=address)


def _is_moved_project(answer: Answer) -> bool:
    """GitLab redirects reads by a project's former path, and refuses everything else there."""
    return answer.status == 405 and "moved project" in _message(answer.data).lower()


def limit_ends(answer: Answer, now: datetime) -> datetime | None:
    """When a rate limit that this answer tells of is over; None where it tells of none. `now` by the forge."""
    if answer.status not in (403, 429):
        return None
    latest = now + timedelta(seconds=_LONGEST_LIMIT_SECONDS)
    after = _after(answer.headers.get("retry-after", ""), now)
    if after is not None:
        return min(max(now, after), latest)
    reset = epoch(answer.limit("reset"))
    if answer.limit("remaining") == "0" and reset is not None:
        return min(max(now, reset), latest)
    named = any(words in _message(answer.data).lower() for words in _LIMIT_WORDS)
    if answer.status == 429 or named:
        return now + timedelta(seconds=_UNNAMED_LIMIT_SECONDS)
    return None


def _after(text: str, now: datetime) -> datetime | None:
    """What `Retry-After` says: seconds, or a date."""
    if text.isdecimal():
        return now + timedelta(seconds=min(int(text[:9]), _LONGEST_LIMIT_SECONDS))
    return date_of(text)


def date_of(text: str) -> datetime | None:
    """A date as HTTP writes it; None where there is none."""
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def epoch(text: str) -> datetime | None:
    """Seconds since 1970; None where they are none that a clock would show."""
    return datetime.fromtimestamp(int(text), tz=UTC) if text.isdecimal() and len(text) <= 10 else None


def _message(data: Any) -> str:
    """What the forge says, clipped: GitHub's `message` with its errors, GitLab's `message` or `error`."""
    if not isinstance(data, dict):
        return str(data or "nothing")[:300]
    said = data.get("message") or data.get("error") or "nothing"
    errors = data.get("errors")
    return f"{said}{f' {errors}' if errors else ''}"[:300]
