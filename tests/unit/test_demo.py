"""What the demo says of each side, and how it notices what is new."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.model import MAX_PROGRESS_ENTRIES, ProgressEntry
from supervisor.demo.follow import newer, told

AT = datetime(2026, 1, 7, tzinfo=UTC)


def entries(*messages: str) -> list[ProgressEntry]:
    return [ProgressEntry(timestamp=AT, status="in_progress", message=message) for message in messages]


@given(st.lists(st.integers(0, 10_000), unique=True, max_size=120), st.data())
def test_each_entry_is_new_once(numbers: list[int], data: st.DataObject) -> None:
    """However the list is cut into looks, nothing is shown twice; nothing is missed between close looks."""
    whole, shown, known, seen = entries(*map(str, numbers)), [], [], 0
    while seen < len(whole):
        seen = min(len(whole), seen + data.draw(st.integers(1, MAX_PROGRESS_ENTRIES)))
        now = whole[max(0, seen - MAX_PROGRESS_ENTRIES) : seen]
        shown += newer(known, now)
        known = now
    assert shown == whole


def test_the_same_words_said_twice_are_shown_twice() -> None:
    assert newer(entries("a", "b"), entries("a", "b", "b")) == entries("b")
    assert newer(entries("a"), entries("a")) == []


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            {
                "event": "task.assigned",
                "task": "shop.fix",
                "attempt": 2,
                "workstation": "backend-1",
                "details": {},
            },
            "wrote mail/backend-1/in/shop.fix/2/tasking.yaml",
        ),
        ({"event": "task.started", "details": {}}, "task.started"),
        ({"event": "claim.refused", "details": {"codes": ["E_X"]}}, "claim.refused: codes E_X"),
        ({"event": "task.failed", "details": {"message": "no\x1b[31m \nway"}}, "task.failed: no way"),
    ],
)
def test_an_event_in_words(event: dict[str, object], said: str) -> None:
    assert told(event) == said
