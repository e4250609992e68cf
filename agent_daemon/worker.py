"""A thread that works on one attempt while the daemon's loop goes on."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loguru import logger

from agent_daemon.assignments import Key
from agent_daemon.attempt import Attempt
from agent_daemon.duties import ENDED
from agent_daemon.run import give_up
from agent_daemon.traces import folders_of_container, remove_traces
from agent_daemon.workplace import leave

Job = Callable[[Attempt], dict[str, Any]]


@dataclass
class Worker:
    """The one thing being done now: what is known of its attempt, and how to stop it."""

    key: Key
    attempt: Attempt


def start_worker(key: Key, attempt: Attempt, job: Job, done: Callable[[dict[str, Any]], None]) -> Worker:
    """Run `job(attempt)` in a thread; the closing fields are passed to `done`, whatever happens."""

    def body() -> None:
        try:
            fields = job(attempt)
        except Exception as error:  # whatever went wrong is this attempt's end, told with its reason
            logger.exception("attempt {} {}", *key)
            fields = give_up(attempt, error)
        if fields.get("status") in ENDED:
            _clean_up(attempt)
            fields |= leave(attempt.task, attempt.places)  # (last: what is written later counts as touched)
        done(fields)

    threading.Thread(target=body, name=f"attempt {key[0]} {key[1]}", daemon=True).start()
    return Worker(key, attempt)


def _clean_up(attempt: Attempt) -> None:
    """What was given in secret does not stay; that this fails keeps no attempt from its end."""
    try:
        remove_traces(attempt.given, attempt.places, folders_of_container())
    except Exception:
        logger.exception("traces of what {} {} was given may be left", attempt.task.id, attempt.task.attempt)
