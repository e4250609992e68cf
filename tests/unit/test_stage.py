"""What an agent is told, as the daemon recognises it again: also a daemon of a newer version."""

import hashlib
import json

import pytest

from agent_daemon.protocol.model import Context, Plan, TaskingTask
from agent_daemon.stage import text_digest
from tests.unit.conftest import make_tasking


def told(**context: object) -> TaskingTask:
    return make_tasking(title="Ä", description="Do it.", context=Context.model_validate(context))


def test_a_text_is_the_same_for_every_version_of_the_daemon() -> None:
    """As the first one had it. Whatever is added to a context is to be left out where it says nothing."""
    first = {"related_files": ["a.py"], "dependencies": [], "discussion": [], "feedback": [], "handoff": None}
    text = {"title": "Ä", "description": "Do it.", "description_sha256": None, "acceptance_criteria": []}
    whole = json.dumps(text | {"context": first}, ensure_ascii=False, separators=(",", ":"))
    assert text_digest(told(related_files=["a.py"])) == hashlib.sha256(whole.encode()).hexdigest()


@pytest.mark.parametrize(
    "more",
    [
        {"builds_on": "demo.b"},
        {"handoff": "handover.md"},
        {"discussion": ["x"]},
        {"plan": Plan(id="plan-1", text="1.")},
    ],
)
def test_whatever_is_added_is_another_text(more: dict[str, object]) -> None:
    assert text_digest(told(**more)) != text_digest(told())
