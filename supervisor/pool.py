"""A small pool for slow work: one job per key at a time, outcomes come back through the loop's inbox."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from loguru import logger

from agent_daemon.protocol.errors import ProtocolError
from supervisor.core.decision import Failed
from supervisor.errors import CloudCodeError
from supervisor.threads import SLOW_WORK

Message = tuple[Any, ...]


class JobPool:
    """Runs functions in threads; each outcome is posted as ``("job", key, outcome)``."""

    def __init__(self, inbox: "queue.SimpleQueue[Message]", threads: int = 16) -> None:
        self._inbox = inbox
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=SLOW_WORK)
        self._under_way: set[str] = set()
        self._running = 0
        self._lock = threading.Lock()

    def submit(self, key: str, work: Callable[[], Any]) -> bool:
        """Start the work unless one of this key is under way; returns whether it was started."""
        with self._lock:
            if key in self._under_way:
                return False
            self._under_way.add(key)
        self._executor.submit(self._run, key, work)
        return True

    def under_way(self, key: str) -> bool:
        with self._lock:
            return key in self._under_way

    @property
    def count(self) -> int:
        with self._lock:
            return len(self._under_way)

    @property
    def running(self) -> int:
        """Jobs that a thread works on now."""
        with self._lock:
            return self._running

    def _run(self, key: str, work: Callable[[], Any]) -> None:
        with self._lock:
            self._running += 1
        try:
            self._inbox.put(("job", key, attempt_work(key, work)))
        finally:
            with self._lock:
                self._running -= 1

    def finished(self, key: str) -> None:
        """The loop has taken the outcome in: the same key may run again."""
        with self._lock:
            self._under_way.discard(key)

    def close(self) -> None:
        """Nothing new starts; what is under way goes on (see `running`)."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Lanes:
    """A pool for each lane, made when it is needed: what hangs in one holds up nothing in another.

    `lane_of` tells the lane of a job by its key.
    """

    def __init__(
        self, inbox: "queue.SimpleQueue[Message]", lane_of: Callable[[str], str], *, threads: int
    ) -> None:
        self._inbox, self._lane_of, self._threads = inbox, lane_of, threads
        self._pools: dict[str, JobPool] = {}

    def submit(self, key: str, work: Callable[[], Any]) -> bool:
        lane = self._lane_of(key)
        if lane not in self._pools:
            self._pools[lane] = JobPool(self._inbox, self._threads)
        return self._pools[lane].submit(key, work)

    def under_way(self, key: str) -> bool:
        return any(pool.under_way(key) for pool in self._pools.values())

    @property
    def count(self) -> int:
        return sum(pool.count for pool in self._pools.values())

    @property
    def running(self) -> int:
        return sum(pool.running for pool in self._pools.values())

    def finished(self, key: str) -> None:
        for pool in self._pools.values():
            pool.finished(key)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


def attempt_work(key: str, work: Callable[[], Any]) -> Any:
    """The work's outcome, or Failed with its code; a bug is logged with its trace and told as E_BUG."""
    try:
        return work()
    except CloudCodeError as error:
        return Failed(
            code=error.code,
            message=error.message,
            retryable=getattr(error, "retryable", False),
            retry_at=getattr(error, "retry_at", None),
        )
    except ProtocolError as error:
        return Failed(code=error.problem.code, message=str(error.problem))
    except OSError as error:
        return Failed(code="E_STATE_DISK", message=f"{error.strerror or error}: {error.filename}", retryable=True)
    except Exception as error:
        logger.exception("job {} failed", key)
        return Failed(code="E_BUG", message=f"{type(error).__name__}: {error}", retryable=True)
