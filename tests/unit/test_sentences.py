"""What is said of an event, and how loudly."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.sentences import _WORDS, level_of, sentence, subject_of


def event(name: str, **details: Any) -> dict[str, Any]:
    values = {"seq": 1, "event": name, "actor": "ada", "task": "acme.login", "attempt": 2}
    return values | {"workstation": "backend-1", "details": details}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            event("task.assigned", cli="codex", base_commit="a" * 40, start_commit=None),
            "goes to backend-1 with codex",
        ),
        (
            event("task.failed", failures=1, message="tests failed", retry_in_seconds=30.0),
            "another attempt in 30 s",
        ),
        (event("task.blocked", reason="question", message="Which?"), "it waits for an answer: Which?"),
        (
            event("task.blocked", reason="quota", message="Used up.", until="2026-01-07T11:30:00+00:00"),
            "it waits for the provider's quota until 2026-01-07T11:30:00+00:00: Used up.",
        ),
        (
            event("task.cli_changed", rule="quota", failures=0, **{"from": "claude-code", "to": "codex"}),
            "the quota of claude-code is used up: codex takes over",
        ),
        (event("forge.told", kind="comment", id="7", project="acme"), "on its forge: comment 7"),
        (
            event("forge.told", kind="comment", id="7", project="acme", ref="12"),
            "on the forge of acme, on 12: comment 7",
        ),
        (
            event("command.refused", project="acme", ref="12", message="ada may not steer"),
            "a command by ada on 12 of acme is not heeded: ada may not steer",
        ),
        (event("claim.accepted", attempt=1, files=1, commits=2), "passed the checks: 1 file, 2 commits"),
        (event("workstation.died", failures=1, restart_in_seconds=0.0), "it is started again at once"),
        (
            event(
                "input.refused", code="E_X", message="bad", file="tasks/a.yaml", line=3, place="", mend="mend it"
            ),
            "a.yaml:3: E_X: bad; mend it",
        ),
        (event("push.failed", code="E_UNREACHABLE", message="It cannot be reached."), "E_UNREACHABLE: It cannot"),
        (
            event("cleanup.removed", kind="output", task="acme.x", attempt=1, reason="it is old"),
            "the output of acme.x, attempt 1 is gone: it is old",
        ),
        (
            event("cleanup.doubt", kind="clone", project="acme", reason="odd"),
            "the clone of acme is left to a person",
        ),
        (
            event("disk.low", path="/srv", free_bytes=2**30, stop_below_bytes=1),
            "1.00 GiB are free on that of /srv",
        ),
        (event("some.thing", here=[1, 2], nothing=None), "here 1, 2"),
        (event("some.thing"), ""),
    ],
)
def test_an_event_is_told_in_words(told: dict[str, Any], said: str) -> None:
    assert said in sentence(told)
    assert "{" not in sentence(told)


@given(
    name=st.sampled_from([*_WORDS, "new.event"]),
    details=st.dictionaries(st.sampled_from(["message", "fields", "head", "files", "reason", "x"]), st.integers()),
)
def test_no_event_is_beyond_words(name: str, details: dict[str, Any]) -> None:
    """Another version may have written it, with other details."""
    assert isinstance(sentence(event(name, **details)), str)
    assert isinstance(sentence({"seq": 1, "event": name, "details": "odd"}), str)


def test_what_is_wrong_is_louder_than_what_is_usual() -> None:
    assert level_of("task.started", {}) == "INFO"
    assert [level_of(name, {}) for name in ("task.blocked", "push.failed", "workstation.died")] == ["WARNING"] * 3
    assert level_of("supervisor.bug", {}) == level_of("record.damaged", {}) == "ERROR"
    assert level_of("attempt.ended", {"verdict": "workstation lost"}) == "WARNING"
    assert level_of("attempt.ended", {"verdict": "completed"}) == "INFO"


def test_the_subject_is_the_task_before_anything_else() -> None:
    assert subject_of(event("x.y")) == "acme.login"
    assert subject_of({"workstation": "backend-1"}) == "backend-1"
    assert subject_of({}) == ""
