"""Any order of reports, job outcomes, commands, restarts and passing time keeps a task's promises."""

from datetime import timedelta
from typing import Any, Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent_daemon.protocol.model import (
    BlockedReason,
    Feedback,
    ReportStatus,
    Result,
    Salvage,
    SupervisorIdentity,
    TaskingStatus,
    TaskReport,
    WaitReason,
)
from supervisor.core.assign import Prepared, assign
from supervisor.core.commands import Actor, Command, CommandRefusedError, apply_command
from supervisor.core.decision import Bundle, Decision, Failed, Inspect, Job, Look, OpenRequest, Push, Save
from supervisor.core.delivery import (
    Inspected,
    RequestSeen,
    fail_inspection,
    push_key,
    request_key,
    settle_inspection,
    settle_look,
    settle_push,
    settle_request,
    settle_review,
)
from supervisor.core.plan import Seen, lose_attempt, next_deadline, plan_task
from supervisor.core.record import Delivery, Request, TaskRecord
from supervisor.core.retry import parked_until
from supervisor.core.salvage import settle_salvage
from supervisor.core.schedule import is_due
from supervisor.core.settings import Config
from supervisor.core.states import ENDED, State
from supervisor.core.tasking import Places, digest_of_wanted, render_tasking, wanted_status
from tests.unit.conftest import DIGEST, NOW, SHA_A, SHA_B, make_task

CONFIG = Config.model_validate(
    {
        "projects": {"acme": {"repository": "/r", "base_branch": "main"}},
        "workstations": {"backend": {"clis": ["codex"]}},
    }
)
PLACES = Places(workspace="/w", workspace_source="/m")
NEW_TRIGGERS = {"retry"}


def report(attempt: int, status: ReportStatus, **fields: Any) -> TaskReport:
    return TaskReport(attempt=attempt, status=status, **fields)


class LifeOfATask(RuleBasedStateMachine):
    """One task, a daemon that says anything, a host whose answers may get lost, a person who may do anything."""

    def __init__(self) -> None:
        super().__init__()
        self.task: TaskRecord = make_task(max_failures=2)
        self.now = NOW
        self.reports: dict[int, TaskReport] = {}
        self.jobs: tuple[Job, ...] = ()
        self.pushed: list[str] = []
        self.opened: list[str] = []
        self.number = 0
        self.triggered = False

    def apply(self, decision: Decision, *, trigger: bool = False) -> None:
        before, after = self.task, decision.task
        if before.state in ENDED and not trigger:
            assert after.state is before.state, "an ended task absorbs everything but a new trigger"
        assert after.attempt >= before.attempt, "the attempt number only grows"
        assert TaskRecord.model_validate(after.model_dump()) == after, "what is stored can be read again"
        self.task = after

    def take(self, decision: Decision) -> None:
        """Apply a plan, and begin what it asks for. An outcome may come late, and twice: jobs stay on the list."""
        self.apply(decision)
        self.jobs = decision.jobs
        asked = [self.task.effect(job.effect) for job in self.jobs if isinstance(job, Push | OpenRequest)]
        assert all(effect is not None and effect.status != "done" for effect in asked), "done is not asked again"

    @rule()
    def plan(self) -> None:
        """Planning twice with nothing new changes nothing more."""
        decision = plan_task(self.task, Seen(reports=self.reports), CONFIG, self.now)
        self.take(decision)
        again = plan_task(self.task, Seen(reports=self.reports), CONFIG, self.now)
        third = plan_task(again.task, Seen(reports=self.reports), CONFIG, self.now)
        assert third.task == again.task, "planning comes to rest"

    @precondition(lambda self: is_due(self.task, self.now))
    @rule(station=st.sampled_from(["backend-1", "backend-2"]))
    def give_out(self, station: str) -> None:
        prepared = Prepared(base_branch="main", base_commit=SHA_A)
        self.apply(assign(self.task, prepared, workstation=station, cli="codex", model=None, now=self.now))

    @precondition(lambda self: self.task.attempts)
    @rule(
        status=st.sampled_from(list(ReportStatus)),
        back=st.integers(0, 2),
        result=st.booleans(),
        salvage=st.booleans(),
        parked=st.sampled_from([None, 0, 3600]),
    )
    def daemon_reports(
        self, status: ReportStatus, back: int, result: bool, salvage: bool, parked: int | None
    ) -> None:
        number = max(1, self.task.attempt - back)
        live_before = self.task.live
        made = report(
            number,
            status,
            result=Result(kind="commits", bundle="result.bundle", sha256=DIGEST, head=SHA_B, base=SHA_A)
            if result
            else None,
            salvage=Salvage(bundle="salvage.bundle", sha256=DIGEST, head=SHA_B, base=SHA_A) if salvage else None,
            blocked_reason=self.reason(parked) if status is ReportStatus.BLOCKED else None,
        )
        self.reports[number] = made
        decision = plan_task(self.task, Seen(reports={number: made}), CONFIG, self.now)
        if live_before is None or live_before.number != number:
            waits = self.task.state is State.FAILED or parked_until(self.task) is not None
            same = {self.task.state, State.PENDING} if waits else {self.task.state}
            timed_out = {State.FAILED, State.BLOCKED} if self.task.state is State.ASSIGNED else set()
            assert decision.task.state in same | timed_out, "only the live attempt changes the state"
        self.take(decision)

    def reason(self, parked: int | None) -> BlockedReason:
        """A question, or a quota that lasts again after so many seconds."""
        if parked is None:
            return BlockedReason(reason=WaitReason.QUESTION)
        return BlockedReason(reason=WaitReason.QUOTA, until=self.now + timedelta(seconds=parked))

    @rule(seconds=st.sampled_from([1, 60, 600, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(kind=st.sampled_from(["retry", "cancel", "pause", "resume", "approve", "deny"]))
    def person_commands(self, kind: str) -> None:
        self.number += 1
        command = Command.model_validate(
            {
                "id": f"c{self.number}",
                "at": self.now,
                "actor": Actor(id="ada"),
                "channel": "cli",
                "kind": kind,
                "target": self.task.id,
            }
        )
        try:
            decision = apply_command(self.task, command, self.now)
        except CommandRefusedError as refusal:
            assert len(str(refusal)) > 10
            return
        self.apply(decision, trigger=kind in NEW_TRIGGERS)
        assert apply_command(self.task, command, self.now).task == self.task, "a command counts once"

    @precondition(lambda self: self.task.live is not None)
    @rule()
    def workstation_is_lost(self) -> None:
        if self.task.state in (State.ASSIGNED, State.IN_PROGRESS):
            self.apply(lose_attempt(self.task, verdict="workstation lost", now=self.now, config=CONFIG))

    # --- jobs -----------------------------------------------------------------------------------------

    def job(self, kind: type[Job]) -> Any:
        return next((job for job in self.jobs if isinstance(job, kind)), None)

    @precondition(lambda self: self.job(Inspect))
    @rule(found=st.sampled_from(["good", "bad", "held", "later", "never"]), late=st.booleans())
    def inspection_ends(self, found: str, late: bool) -> None:
        job = self.job(Inspect)
        number = max(1, job.attempt - 1) if late else job.attempt
        delivery = Delivery(
            attempt=number, claimed_head=SHA_B, pushed_head=f"{self.number:040x}", base=SHA_A, bundle_sha256=DIGEST
        )
        self.number += 1
        if found in ("later", "never"):
            failed = Failed(code="E_BUG", message="no luck", retryable=found == "later")
            decision = fail_inspection(self.task, number, failed, self.reports.get(number), self.now)
            self.apply(decision)
            return
        outcome = {
            "good": Inspected(attempt=number, delivery=delivery),
            "bad": Inspected(attempt=number, problems=(Feedback(code="E_PATH_GIT", message="no"),)),
            "held": Inspected(attempt=number, held=(".github/workflows/x.yml",), bundle_sha256=DIGEST),
        }[found]
        self.apply(settle_inspection(self.task, outcome, self.reports.get(number), CONFIG.retry, self.now))

    @precondition(lambda self: self.job(Push) or self.job(OpenRequest))
    @rule()
    def delivery_begins(self) -> None:
        """As `work` does it: what is about to be sent is noted first."""
        effect = self.task.effect((self.job(Push) or self.job(OpenRequest)).effect)
        if effect is not None and effect.status == "pending":
            self.apply(Decision(task=self.task.with_effect(effect.evolve(status="sending"))))

    @precondition(lambda self: self.job(Look))
    @rule(answer=st.sampled_from(["there", "absent", "later"]))
    def look_ends(self, answer: str) -> None:
        job = self.job(Look)
        effect = self.task.effect(job.effect)
        there = Request(url="x", head=SHA_B) if job.effect.startswith("request:") else job.effect.partition(":")[2]
        later = Failed(code="E_UNREACHABLE", message="no route", retryable=True)
        before = self.task
        found = {"there": there, "absent": None, "later": later}[answer]
        self.apply(settle_look(self.task, job.effect, found, self.now))
        assert self.task.state is before.state or before.state is State.IN_PROGRESS
        if effect is not None and effect.status == "sending" and answer != "later":
            now = self.task.effect(job.effect)
            assert now is None or now.status != "sending", "what was looked up is known"

    @precondition(lambda self: self.job(Push))
    @rule(answer=st.sampled_from(["ok", "lost", "refused", "later"]))
    def push_ends(self, answer: str) -> None:
        job = self.job(Push)
        self.jobs = tuple(other for other in self.jobs if other is not job)  # it is over, until it is planned anew
        effect = self.task.effect(job.effect)
        if effect is None or self.task.delivery is None or effect.key != push_key(self.task):
            return
        if answer in ("ok", "lost") and self.task.delivery.pushed_head not in self.pushed:
            self.pushed.append(
                self.task.delivery.pushed_head
            )  # the remote has it now, whether we hear of it or not
        outcome = {
            "refused": Failed(code="E_BRANCH_MOVED", message="stale info"),
            "later": Failed(code="E_UNREACHABLE", message="no route", retryable=True),
        }.get(answer)
        if answer != "lost":
            self.apply(settle_push(self.task, effect.key, outcome, self.now))

    @precondition(lambda self: self.job(OpenRequest))
    @rule(answer=st.sampled_from(["ok", "lost", "later"]))
    def request_ends(self, answer: str) -> None:
        key = self.job(OpenRequest).effect
        effect = self.task.effect(key)
        if effect is None or self.task.delivery is None or key != request_key(self.task):
            return
        if answer in ("ok", "lost") and key not in self.opened:
            self.opened.append(key)
        if answer == "ok":
            self.apply(settle_request(self.task, key, Request(url="x", head=SHA_B), self.now))
        elif answer == "later":
            failed = Failed(code="E_UNREACHABLE", message="no", retryable=True)
            self.apply(settle_request(self.task, key, failed, self.now))

    @precondition(lambda self: self.job(Save))
    @rule(saved=st.booleans())
    def save_ends(self, saved: bool) -> None:
        job = self.job(Save)
        change = {"saved": True, "save_error": None} if saved else {"save_error": "E_NO_BUNDLE: gone"}
        self.apply(Decision(task=self.task.with_attempt(job.attempt, **change)))

    @precondition(lambda self: self.job(Bundle))
    @rule(bundled=st.booleans())
    def bundling_for_a_dead_daemon_ends(self, bundled: bool) -> None:
        outcome = "bundled" if bundled else Failed(code="E_NOT_BUNDLED", message="no", retryable=True)
        self.apply(settle_salvage(self.task, self.job(Bundle).attempt, outcome, self.now))

    @rule(state=st.sampled_from(["merged", "closed"]), commits=st.booleans())
    def request_is_decided(self, state: Literal["merged", "closed"], commits: bool) -> None:
        head = self.task.delivery.pushed_head if self.task.delivery is not None else SHA_A
        seen = RequestSeen(state=state, head=head, base_branch="main", commits=commits)
        self.apply(settle_review(self.task, seen, self.now))

    @rule()
    def supervisor_restarts(self) -> None:
        self.reports, self.jobs = {}, ()

    # --- what always holds --------------------------------------------------------------------------------

    @invariant()
    def attempts_are_in_order_and_only_the_last_lives(self) -> None:
        numbers = [attempt.number for attempt in self.task.attempts]
        assert numbers == sorted(set(numbers))
        assert all(attempt.ended_at is not None for attempt in self.task.attempts[:-1])
        assert all((a.verdict is None) == (a.ended_at is None) for a in self.task.attempts)

    @invariant()
    def nothing_is_removed_that_is_not_saved(self) -> None:
        for attempt in self.task.attempts:
            if wanted_status(self.task, attempt) is TaskingStatus.RELEASED or attempt.released:
                assert attempt.saved

    @invariant()
    def lost_work_is_not_waited_for_for_ever(self) -> None:
        if any(attempt.to_be_bundled for attempt in self.task.attempts):
            later = self.now + timedelta(seconds=CONFIG.timing.salvage_timeout_seconds + 1)
            after = plan_task(self.task, Seen(reports=self.reports), CONFIG, later).task
            assert not any(attempt.to_be_bundled for attempt in after.attempts)
            assert next_deadline(self.task, Seen(reports=self.reports), CONFIG) is not None

    @invariant()
    def a_waiting_task_says_what_for(self) -> None:
        if self.task.state is State.BLOCKED:
            assert self.task.waits_for and self.task.waits_for[0].message

    @invariant()
    def review_means_pushed_and_requested(self) -> None:
        if self.task.state is State.REVIEW:
            assert self.task.delivery is not None and self.task.request is not None
            assert self.task.delivery.pushed_head in self.pushed
            assert request_key(self.task) in self.opened

    @invariant()
    def what_fails_again_and_again_ends(self) -> None:
        counts = [attempt.inspecting.tries for attempt in self.task.attempts]
        assert all(count <= 5 for count in counts)

    @invariant()
    def nothing_that_was_being_sent_is_forgotten(self) -> None:
        """Once the task is over, every outcome that is not known is looked up, now or at a time that is known."""
        if any(effect.status == "sending" for effect in self.task.effects) and self.task.ended:
            seen = Seen(reports=self.reports)
            looks = [job for job in plan_task(self.task, seen, CONFIG, self.now).jobs if isinstance(job, Look)]
            assert looks or next_deadline(self.task, seen, CONFIG) is not None

    @invariant()
    def effects_have_one_key_each(self) -> None:
        keys = [effect.key for effect in self.task.effects]
        assert len(keys) == len(set(keys))

    @invariant()
    def the_tasking_converges(self) -> None:
        """The same record always asks for the same tasking, so that writing it once is enough."""
        for attempt in self.task.attempts:
            identity = SupervisorIdentity(id="r", epoch=1)
            made = [
                render_tasking(
                    self.task, attempt, PLACES, identity, revision=n, now=self.now + timedelta(seconds=n)
                )
                for n in (1, 2)
            ]
            assert digest_of_wanted(made[0]) == digest_of_wanted(made[1])

    @invariant()
    def a_task_that_waits_for_time_has_a_deadline(self) -> None:
        if self.task.state is State.FAILED:
            assert next_deadline(self.task, Seen(reports=self.reports), CONFIG) is not None


LifeOfATask.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestLifeOfATask = LifeOfATask.TestCase
