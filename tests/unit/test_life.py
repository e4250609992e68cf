"""The life of a workstation, whatever happens to it in whatever order."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supervisor.core.chores import Chore
from supervisor.core.life import (
    NOTED,
    TRANSITIONS,
    Life,
    Seen,
    StationState,
    Step,
    done,
    look,
    not_started,
    started,
)
from supervisor.core.liveness import Pulse
from supervisor.core.settings import TimingSettings
from tests.thorough import examples

TIMING = TimingSettings()
CHORES = st.builds(Chore, kind=st.sampled_from(["maintain", "snapshot", "restore", "recreate"]))
QUIET = max(TIMING.revive_after_seconds) + 1


def test_every_state_of_the_table_leads_on_and_can_be_reached() -> None:
    states = set(StationState) - {StationState.DOWN}
    assert set(TRANSITIONS) == states
    assert set().union(*TRANSITIONS.values()) == states
    assert all(targets - {state} for state, targets in TRANSITIONS.items())


def test_a_transition_that_the_table_lacks_is_a_bug() -> None:
    with pytest.raises(ValueError, match="cannot become"):
        Life(state=StationState.STOPPED).moved(StationState.WORKING)


def test_the_same_chore_is_done_once_and_what_is_begun_is_not_replaced() -> None:
    life = Life().asked(Chore(kind="snapshot")).asked(Chore(kind="recreate"))
    again = life.asked(Chore(kind="snapshot", id="b"))
    assert [(c.kind, c.id) for c in again.chores] == [("recreate", ""), ("snapshot", "b")]
    at_it = replace(life, state=StationState.MAINTENANCE, held=True).asked(Chore(kind="snapshot", id="b"))
    assert [(c.kind, c.id) for c in at_it.chores] == [("snapshot", ""), ("recreate", ""), ("snapshot", "b")]


class Workstation(RuleBasedStateMachine):
    """One workstation, its daemon, the jobs at it, people and tasks: the world as the fleet's loop sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.life, self.seen = Life(), Seen(now=0.0)
        self.attempts_lost = 0

    @initialize(known=st.booleans(), wanted=st.sampled_from(["running", "stopped", "removed"]))
    def adopt(self, known: bool, wanted: str) -> None:
        self.see(known=known, alive=known, wanted=wanted, beaten=known)

    def see(self, **changes: object) -> None:
        self.seen = replace(self.seen, **changes)  # type: ignore[arg-type]

    # --- what happens around it -------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, 5.0, 40.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.see(now=self.seen.now + seconds)

    @rule(pulse=st.sampled_from(["alive", "suspect", "silent"]))
    def its_daemon_beats_or_does_not(self, pulse: Pulse) -> None:
        self.see(pulse=pulse, beaten=self.seen.beaten or pulse == "alive")

    @precondition(lambda self: self.seen.alive)
    @rule()
    def its_daemon_dies(self) -> None:
        self.see(alive=False)

    @rule(wanted=st.sampled_from(["running", "stopped", "removed"]))
    def somebody_wants_it(self, wanted: str) -> None:
        if wanted != "removed" or not self.seen.busy:  # (a pool removes none that is busy)
            self.see(wanted=wanted)

    @rule()
    def another_driver_is_configured(self) -> None:
        self.see(moves=True)

    @rule(chore=CHORES)
    def something_is_to_be_done(self, chore: Chore) -> None:
        self.life = self.life.asked(chore)

    @precondition(lambda self: self.life.state in (StationState.IDLE, StationState.PROVISIONING))
    @rule()
    def a_task_comes(self) -> None:
        if not self.life.chores and not self.life.stopping and self.seen.alive:
            self.see(busy=True)

    @rule()
    def the_task_ends(self) -> None:
        self.see(busy=False)

    @precondition(lambda self: self.life.stopping)
    @rule(ended=st.booleans())
    def the_job_that_ends_it_is_back(self, ended: bool) -> None:
        self.life = replace(self.life, stopping=False)
        if ended or not self.seen.alive:
            self.see(alive=False, known=False)

    @precondition(lambda self: self.life.held)
    @rule()
    def the_chore_is_done(self) -> None:
        self.life = done(self.life)

    # --- the fleet's part -------------------------------------------------------------------------------

    @rule(starts=st.booleans())
    def looked_at(self, starts: bool) -> None:
        before = self.life
        step = look(before, self.seen, TIMING)
        assert step.life.state is before.state or step.life.state in TRANSITIONS[before.state]
        self.life = step.life
        self.hold_to_the_rules(before, step)
        if step.order == "forget":
            self.see(known=False)
        elif step.order == "move":
            self.see(known=False, moves=False)
        elif step.order == "start":
            self.life = (
                started(self.life, self.seen.now) if starts else not_started(self.life, self.seen.now, TIMING)
            )
            if starts:
                self.see(known=True, alive=True, beaten=False, pulse="alive")

    def hold_to_the_rules(self, before: Life, step: Step) -> None:
        if step.order in ("start", "chore", "move", "forget"):
            assert not self.seen.alive, "nothing is begun beside a daemon that lives"
            assert not before.stopping and not before.held
        if step.order in ("start", "chore"):
            assert not self.seen.known, "nor before the death of the last one was seen"
        if step.order == "chore":
            assert before.chores and step.life.held
            assert self.seen.wanted != "running" or not self.seen.busy
        if step.order == "stop":
            assert self.seen.alive
            if self.seen.busy and self.seen.wanted == "running" and not self.seen.moves:
                assert self.seen.pulse == "silent", "no chore ends a daemon that is at work"
        if step.order == "start":
            assert self.seen.wanted == "running" and self.seen.now >= before.not_before
        if step.lost:
            assert not self.seen.alive and self.seen.busy, "another one would do the same work"
        if step.event in ("suspect", "draining"):
            assert before.state is not step.life.state, "each is told once"

    @invariant()
    def what_is_noted_is_not_seen_otherwise(self) -> None:
        if self.life.state in (StationState.IDLE, StationState.WORKING):
            assert self.life.state not in NOTED and not self.life.held

    def teardown(self) -> None:
        """Once nothing more happens to it, it does what it is there for."""
        self.see(busy=False, moves=False, pulse="alive", beaten=True)
        for _ in range(60):
            self.see(now=self.seen.now + QUIET, beaten=True)
            if self.life.stopping:
                self.the_job_that_ends_it_is_back(ended=True)
            if self.life.held:
                self.life = done(self.life)
            self.looked_at(starts=True)
        rest = {"running": "idle", "stopped": "stopped", "removed": "removed"}[self.seen.wanted]
        assert self.life.state == rest and not self.life.chores
        assert self.seen.alive == (self.seen.wanted == "running")


TestWorkstation = Workstation.TestCase
TestWorkstation.settings = settings(max_examples=examples(40), stateful_step_count=40, deadline=None)
