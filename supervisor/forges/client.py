"""What the ways to both forges' APIs share: conditional reads, pages, paced creates, and a count of the calls."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from supervisor.core.forge import Budget
from supervisor.forges.errors import Answer, ForgeError, checked
from supervisor.forges.pace import Pace
from supervisor.forges.tags import Tags

PAGE = 100
TIMEOUT_SECONDS = 20
_MAX_PAGES = 50


class ForgeClient(ABC):
    """One project's way to an API; raises ForgeError only. `now` is the wall clock, in UTC."""

    def __init__(self, pace: Pace | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._pace, self.now = pace or Pace(), now
        self._lock = threading.Lock()
        self._budget = Budget()

    @property
    @abstractmethod
    def generation(self) -> str:
        """Names the token in use without telling it: entity tags belong to it."""

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
    def budget(self) -> Budget:
        with self._lock:
            return self._budget

    # --- reading ------------------------------------------------------------------------------------------

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

    # --- writing ------------------------------------------------------------------------------------------

    def create(self, path: str, body: Any) -> dict[str, Any]:
        """POST what makes something new, at the pace that the forge asks for."""
        self._pace.wait()
        data = self._answer("POST", path, body=body).data
        if not isinstance(data, dict) or "id" not in data:
            raise ForgeError("E_FORGE_ANSWER", f"POST {path} was answered without an id.", retryable=True)
        return data

    def change(self, method: str, path: str, body: Any = None) -> Any:
        """PATCH, PUT, DELETE, or a POST that may be repeated without harm."""
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
        """A good answer, counted; ForgeError for every other."""
        answer = self._send(method, path, parameters, headers=headers, body=body)
        self._count(answer)
        checked(answer, f"{method} {path}", self.now())
        return answer

    def _count(self, answer: Answer) -> None:
        def number(name: str, otherwise: int | None) -> int | None:
            text = answer.headers.get(f"x-{name}", answer.headers.get(name, ""))
            return int(text) if text.isdigit() else otherwise

        with self._lock:
            known = self._budget
            reset = number("ratelimit-reset", None)
            self._budget = known.evolve(
                limit=number("ratelimit-limit", known.limit),
                remaining=number("ratelimit-remaining", known.remaining),
                resets_at=datetime.fromtimestamp(reset, tz=UTC) if reset else known.resets_at,
                calls=known.calls + 1,
                charged=known.charged + (answer.status != 304),
            )


def _address(path: str, parameters: Mapping[str, str]) -> str:
    return path + "?" + "&".join(f"{key}={value}" for key, value in sorted(parameters.items()))
