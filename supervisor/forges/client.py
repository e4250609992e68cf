"""What the ways to both forges' APIs share: conditional reads, pages, paced creates, and a count of the calls."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar

import requests

from supervisor.core.forge import Budget, ForgeRequest, Watched
from supervisor.core.telling import LISTING_DELAY
from supervisor.forges.errors import Answer, ForgeError, checked, date_of, epoch
from supervisor.forges.pace import Pace
from supervisor.forges.tags import Tags
from supervisor.forges.tokens import Tokens

PAGE = 100
TIMEOUT_SECONDS = 20
SECOND = timedelta(seconds=1)  # as fine as a forge tells times
_MAX_PAGES = 50
# Times in lists are whole seconds, and writes of the same second may show up one after another.
_OVERLAP = timedelta(seconds=60)
# A list read in the second of its newest change may look the same after the next one: it is read again.
_RACY = timedelta(seconds=3)
# Times further ahead than this are nobody's clock (projects are imported with the dates of their former forge).
_AHEAD = timedelta(seconds=60)
# A clock of ours that differs from the forge's by less is taken for the same; `Date` is in whole seconds.
_SAME_CLOCK = timedelta(seconds=2)
# After a create without an answer in time, it is looked for only when the forge must be done with it.
SILENCE = timedelta(seconds=60)
# A request that has not been there for so long was deleted: one that was just opened is shown by then.
_MISSED_FOR = timedelta(minutes=5)
# How far the reviews of each request were read, and since when a request is missed.
REVIEWS, _MISSED = "reviews/", "missed/"

_Library = TypeVar("_Library")


class ForgeClient(ABC, Generic[_Library]):
    """One project's way to the API at `url`; raises ForgeError only. `now` is our wall clock, in UTC.

    Each thread has a library object of its own, made anew when the token has changed. `hide_in` takes secrets out
    of what is written.
    """

    _LOGIN_KEY: ClassVar[str]

    def __init__(
        self,
        url: str,
        tokens: Tokens,
        pace: Pace | None = None,
        login: str | None = None,
        hide_in: Callable[[Any], Any] = lambda body: body,
    ) -> None:
        self._url, self._tokens, self._pace = url.rstrip("/"), tokens, pace or Pace()
        self._login, self._is_named, self._hide_in = login, login is not None, hide_in
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._threads = threading.local()
        self._lock = threading.Lock()
        self._budget = Budget()
        self._skew = timedelta(0)

    def forge_now(self) -> datetime:
        """The time by the forge's clock, as its last answer told it: what it lists is held against that."""
        return self.now() + self._skew

    @property
    def generation(self) -> str:
        """Names the token in use without telling it: entity tags belong to it."""
        return self._tokens.generation

    def _library(self) -> _Library:
        token, generation = self._tokens.current()
        if getattr(self._threads, "generation", None) != generation:
            self._threads.library = self._open(token)
            self._threads.generation = generation
        library: _Library = self._threads.library
        return library

    @abstractmethod
    def _open(self, token: str) -> _Library:
        """A library object that signs in with this token and repeats nothing by itself."""

    @abstractmethod
    def _send(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Answer:
        """One request, sent once; ForgeError where no answer came that makes sense."""

    @property
    def login(self) -> str:
        """Our own account, asked for once where it is not configured."""
        if self._login is None:
            self._login = self._whose()
        return self._login

    def account(self) -> str:
        """Whose token it is, whatever is configured; as configured where the forge does not tell."""
        if not self._is_named:
            return self.login
        try:
            return self._whose()
        except ForgeError as error:
            if error.code != "E_FORGE_DENIED":
                raise
            return self.login

    def _whose(self) -> str:
        return self._tokens.login() or str(self.get("/user")[self._LOGIN_KEY])

    @property
    def budget(self) -> Budget:
        with self._lock:
            return self._budget

    # --- reading ------------------------------------------------------------------------------------------

    def answer(self, path: str) -> Answer:
        """What is at this path now, with the headers that came along."""
        return self._answer("GET", path)

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """What is at this path now."""
        return self._answer("GET", path, parameters).data

    def get_changed(self, path: str, parameters: Mapping[str, str], tags: Tags) -> Any | None:
        """What is at this path, or None where it is as it was when it was read last (which costs nothing)."""
        address = _address(path, parameters)
        answer = self._answer("GET", path, parameters, headers=tags.headers(address))
        if answer.status == 304:
            return None
        tags.note(address, answer.tag)
        return answer.data

    def is_known(self, path: str, tags: Tags) -> bool:
        """Whether this path was read before, so that only what changes is of interest."""
        return bool(tags.headers(_address(path, {})))

    def pages(self, path: str, parameters: Mapping[str, str], first: list[Any] | None = None) -> Iterator[Any]:
        """The items of a list, page after page, as far as they are asked for; `first` is page 1, if read."""
        for number in range(1, _MAX_PAGES + 1):
            items = first if number == 1 and first is not None else None
            if items is None:
                items = self.get(path, {**parameters, "per_page": str(PAGE), "page": str(number)})
            if not isinstance(items, list):
                raise ForgeError("E_FORGE_ANSWER", f"GET {path} did not answer with a list.", retryable=True)
            yield from items
            if len(items) < PAGE:
                return

    def shown(self, path: str, parameters: Mapping[str, str] = MappingProxyType({})) -> list[Any] | None:
        """All items of a list; None where it is not for us to see."""
        try:
            return list(self.pages(path, parameters))
        except ForgeError as error:
            if error.is_hidden:
                return None
            raise

    def is_racy(self, newest: datetime | None) -> bool:
        """Whether a list with this newest change has to be read again although it will look the same."""
        now = self.forge_now()
        return newest is not None and now - _RACY < newest < now + _AHEAD

    # --- writing ------------------------------------------------------------------------------------------

    def create(self, path: str, body: Any) -> dict[str, Any]:
        """POST what makes something new, at the pace that the forge asks for.

        Where its answer was lost, `retry_at` is when it may be looked for: it may be made yet, or not be listed.
        """
        self._pace.create()
        try:
            data = self._answer("POST", path, body=body).data
        except ForgeError as error:
            if error.code == "E_FORGE_DOWN" and error.retry_at is None:
                error.retry_at = self.now() + (SILENCE if error.silent else LISTING_DELAY)
            raise
        if not isinstance(data, dict) or "id" not in data:
            raise ForgeError("E_FORGE_ANSWER", f"POST {path} was answered without an id.", retryable=True)
        return data

    def change(self, method: str, path: str, body: Any = None) -> Any:
        """PATCH, PUT, DELETE, or a POST that may be repeated without harm, at that pace too."""
        self._pace.change()
        return self._answer(method, path, body=body).data

    # --- one answer ---------------------------------------------------------------------------------------

    def _answer(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Answer:
        """A good answer, counted; ForgeError for every other, and while the forge wants to be left alone."""
        self._pace.look()
        if method == "GET":
            self._pace.was_read()
        answer = self._send(method, path, parameters, headers=headers, body=self._hide_in(body))
        self._count(answer)
        try:
            checked(answer, f"{method} {path}", self.forge_now())
        except ForgeError as error:
            if error.retry_at is not None:
                error.retry_at -= self._skew
                self._pace.rest((error.retry_at - self.now()).total_seconds())
            raise
        return answer

    def _count(self, answer: Answer) -> None:
        told = date_of(answer.headers.get("date", ""))
        if told is not None:
            ahead = told - self.now()
            self._skew = ahead if abs(ahead) > _SAME_CLOCK else timedelta(0)
        reset = epoch(answer.limit("reset"))
        with self._lock:
            known = self._budget
            if answer.headers.get("x-ratelimit-resource", "core") == "core":  # (GraphQL has a limit of its own)
                known = known.evolve(
                    limit=_number(answer.limit("limit"), known.limit),
                    remaining=_number(answer.limit("remaining"), known.remaining),
                    resets_at=reset - self._skew if reset is not None else known.resets_at,
                )
            self._budget = known.evolve(
                calls=known.calls + 1,
                charged=known.charged + (answer.status != 304),
                poll_seconds=_number(answer.headers.get("x-poll-interval", ""), None) or known.poll_seconds,
            )


def _number(text: str, otherwise: int | None) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 10 else otherwise


def _address(path: str, parameters: Mapping[str, str]) -> str:
    return path + "?" + "&".join(f"{key}={value}" for key, value in sorted(parameters.items()))


def unanswered(what: str, error: Exception) -> ForgeError:
    """No answer came; where it was waited for in vain, what was asked for may be done yet."""
    message = f"{what}: no answer ({type(error).__name__})."
    return ForgeError("E_FORGE_DOWN", message, retryable=True, silent=isinstance(error, requests.ReadTimeout))


def time_of(text: str) -> datetime:
    """A time as both forges write it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def is_taken(text: str, since: datetime | None) -> bool:
    """Whether what has this time was taken in when `since` was the newest, overlap included."""
    return since is not None and time_of(text) < since - _OVERLAP


def newest_of(items: Iterable[Mapping[str, Any]], known: datetime | None, now: datetime) -> datetime | None:
    """The newest change of these items, or what was the newest before; none that is yet to come."""
    times = [min(time_of(item["updated_at"]), now) for item in items]
    return max([*times, *([known] if known else [])], default=None)


def without_others(since: Mapping[str, datetime], watched: Watched) -> dict[str, datetime]:
    """Without the times of requests that nobody waits for any more."""
    kept = {f"{kind}{number}" for kind in (REVIEWS, _MISSED) for number in watched.requests}
    return {key: at for key, at in since.items() if not key.startswith((REVIEWS, _MISSED)) or key in kept}


def is_missed(number: int, since: Mapping[str, datetime]) -> bool:
    return f"{_MISSED}{number}" in since


def look_at(
    number: int, read: Callable[[], ForgeRequest | None], since: dict[str, datetime], now: datetime
) -> ForgeRequest | None:
    """What `read` finds of a request of ours; one that stays gone is closed. `since` keeps when it was missed."""
    mark = f"{_MISSED}{number}"
    try:
        found = read()
    except ForgeError as error:
        if error.code != "E_FORGE_GONE":
            raise
        if now - since.setdefault(mark, now) < _MISSED_FOR:
            return None
        return ForgeRequest(number=number, url="", branch="", base="", head="", state="closed")
    since.pop(mark, None)
    return found


def is_same(login: str, other: str) -> bool:
    """Whether both name one account: neither forge takes the case of a name for a difference."""
    return login.casefold() == other.casefold()
