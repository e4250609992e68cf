"""How far a forge has been read, kept over a restart."""

from datetime import UTC, datetime
from pathlib import Path

from agent_daemon.protocol.paths import Root
from supervisor.core.forge import Budget, Cursor
from supervisor.forge_state import ForgeState, read_forge_state, write_forge_state

NOW = datetime(2026, 1, 7, 10, 30, tzinfo=UTC)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.projects.mkdir(parents=True)
    assert read_forge_state(root, "acme") == ForgeState()
    cursor = Cursor(
        token_generation="1e5",
        tags={"/repos/acme/app/issues?per_page=100": 'W/"0123"', "/x": "no"},
        since={"issues": NOW},
        marks={"issues/7": 12},
    )
    budget = Budget(limit=5000, remaining=0, resets_at=NOW, calls=3, charged=1, poll_seconds=60.0)
    state = ForgeState(
        cursor=cursor, heard=("comment-5", "1:30"), budget=budget, problem="E_FORGE_DOWN: 502", read_at=NOW
    )
    write_forge_state(root, "acme", state)
    assert read_forge_state(root, "acme") == state


def test_a_damaged_one_is_read_anew(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.projects.mkdir(parents=True)
    (root.projects / "acme.yaml").write_text("cursor: [")
    assert read_forge_state(root, "acme") == ForgeState()


def test_requests_are_known_by_their_tasks_and_the_oldest_forgotten() -> None:
    state = ForgeState()
    for number in range(1500):
        state = state.know({number: f"acme.{number}"})
    assert (len(state.requests), state.requests["1499"]) == (1000, "acme.1499")
    assert state.know({1499: "acme.1499"}) is state and state.know({1499: "acme.7"}).requests["1499"] == "acme.7"


def test_what_was_heard_is_bounded() -> None:
    state = ForgeState()
    for number in range(2500):
        state = state.hear(str(number))
    assert (len(state.heard), state.heard[-1]) == (2000, "2499")
