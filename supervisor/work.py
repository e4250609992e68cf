"""Jobs between the loop and the pool: started from a decision, settled into the next one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from agent_daemon.failpoints import reach
from agent_daemon.protocol.paths import Root
from supervisor.clock import Clock
from supervisor.core.assign import Prepared, assign, fail_preparation
from supervisor.core.budgets import Purse, cost_limit_usd, governing, spent_usd
from supervisor.core.chain import cli_for
from supervisor.core.credentials import grant_at_start
from supervisor.core.decision import (
    Bundle,
    Decision,
    Event,
    Failed,
    Give,
    Inspect,
    Job,
    Look,
    OpenRequest,
    Prepare,
    Probe,
    Push,
    Save,
)
from supervisor.core.delivery import settle_review
from supervisor.core.moved_base import settle_base_check
from supervisor.core.outcomes import settle
from supervisor.core.record import TaskRecord
from supervisor.core.schedule import Assignment
from supervisor.core.states import ACTIVE, State
from supervisor.fleet import Fleet
from supervisor.git.mirror_repair import Renewed
from supervisor.jobs.credentials import Credentials, give
from supervisor.jobs.inspection import inspect
from supervisor.jobs.preparation import prepare
from supervisor.jobs.project import Project
from supervisor.jobs.push import look_for_push, push
from supervisor.jobs.review import Looked, Reviews
from supervisor.jobs.salvage import save
from supervisor.ledger import Ledger
from supervisor.mail import Box
from supervisor.pool import JobPool
from supervisor.ports import DaemonHandle, Workstations

# A mirror that was looked at as a whole is not looked at again for this long: that takes time for a large one.
_MIRROR_REST_SECONDS = 300


@dataclass
class Work:
    """Starts jobs, remembers which are under way, and turns their outcomes into decisions.

    `purse()` is what tasks may begin with, beside those that are being prepared.
    """

    root: Root
    clock: Clock
    pool: JobPool
    fleet: Fleet
    drivers: dict[str, Workstations]
    projects: dict[str, Project]
    credentials: Credentials
    purse: Callable[[], Purse | None] = lambda: None
    may_begin: Callable[[], bool] = lambda: True
    _open: dict[str, Job] = field(default_factory=dict, init=False)
    _reserved: dict[str, str] = field(default_factory=dict, init=False)
    _reviews: dict[str, Reviews] = field(default_factory=dict, init=False)
    _mirror_seen_at: dict[str, float] = field(default_factory=dict, init=False)
    _stop_failures: dict[str, str | None] = field(default_factory=dict, init=False)
    _poll_failures: dict[str, str] = field(default_factory=dict, init=False)

    def reserved(self) -> set[str]:
        """Workstations that a task is being prepared for."""
        return set(self._reserved.values())

    def preparing(self, task_id: str) -> bool:
        return task_id in self._reserved

    # --- start ------------------------------------------------------------------------------------------

    def prepare(self, assignment: Assignment, ledger: Ledger) -> None:
        """Reserve the workstation and make the task ready for it."""
        task = ledger.tasks[assignment.task_id]
        job = Prepare(
            task_id=task.id,
            workstation=assignment.workstation,
            cli=assignment.cli,
            attempt=task.attempt + 1,
            rerun=task.rerun,
        )
        own = [d for d in task.depends_on if d.task.startswith(f"{task.project}.")]
        start_from = next((d.task for d in own if d.use == "head"), None)
        dependency = ledger.find(start_from) if start_from else None
        self._reserved[task.id] = assignment.workstation
        self._submit(job, partial(prepare, self.root, self.projects[task.project], task, job, dependency))

    def start(self, job: Job, task: TaskRecord, ledger: Ledger) -> None:
        """Start a job that a decision calls for, unless it is under way."""
        if self.pool.under_way(job.key):
            return
        project = self.projects[task.project]
        match job:
            case Inspect(attempt=number):
                attempt = task.attempt_number(number)
                report = ledger.seen(task.id).reports.get(number)
                if attempt is not None:
                    self._submit(job, partial(inspect, self.root, project, task, attempt, report, job))
            case Save(attempt=number):
                attempt = task.attempt_number(number)
                if attempt is not None:
                    self._submit(job, partial(save, self.root, project, task, attempt, job))
            case Bundle(attempt=number):
                attempt = task.attempt_number(number)
                if attempt is not None and self.fleet.lacks_daemon(attempt.workstation):
                    driver = self.fleet.driver_of(attempt.workstation)
                    self.fleet.salvaging(attempt.workstation, True)
                    self._submit(job, partial(driver.salvage, attempt.workstation, task.id, number))
            case Give() | Probe():
                self._give(job, task)
            case Look():
                self._look(job, task, project)
            case Push() | OpenRequest():
                self._send(job, task, project, ledger)

    def _send(self, job: Push | OpenRequest, task: TaskRecord, project: Project, ledger: Ledger) -> None:
        effect = task.effect(job.effect)
        if effect is not None and effect.status == "pending":
            task = ledger.apply(Decision(task=task.with_effect(effect.evolve(status="sending"))))
            reach("push.marked_sending")
        if isinstance(job, Push):
            self._submit(job, partial(push, self.root, project, task))
        else:
            self._submit(job, partial(project.host.open_request, task))

    def _give(self, job: Give | Probe, task: TaskRecord) -> None:
        grant = task.grant(job.grant)
        if grant is not None and isinstance(job, Probe):
            self._submit(job, partial(self.credentials.probe, task.id, grant.type, grant.access))
        elif grant is not None and isinstance(job, Give) and task.live is not None:
            box = Box(task.live.workstation, task.id, job.attempt)
            self._submit(job, partial(give, self.root, self.credentials, box, grant, job.recipient))

    def _look(self, job: Look, task: TaskRecord, project: Project) -> None:
        """What is being sent at this moment tells its outcome itself."""
        if self.pool.under_way(f"Push:{task.id}") or self.pool.under_way(f"OpenRequest:{task.id}"):
            return
        if job.effect.startswith("push:"):
            sha = job.effect.partition(":")[2]
            self._submit(job, partial(look_for_push, self.root, project, task.id, job.branch, sha))
        else:
            self._submit(job, partial(project.host.find_request, task))

    def _submit(self, job: Job, work: Callable[[], Any]) -> None:
        if self.pool.submit(job.key, work):
            self._open[job.key] = job

    def poll(self, project_name: str, ledger: Ledger) -> None:
        """Ask the remote what moved: for what is in review, and for what is worked on; else nothing is asked."""
        project = self.projects[project_name]
        tasks = [task for task in ledger.tasks.values() if task.project == project_name]
        waiting = [task for task in tasks if task.state is State.REVIEW]
        if waiting or any(task.state in ACTIVE for task in tasks):
            reviews = self._reviews.setdefault(project_name, Reviews(self.root, project))
            self.pool.submit(f"Poll:{project_name}", partial(reviews.look, waiting))

    def stop_daemon(self, name: str, handle: DaemonHandle) -> None:
        driver = self.drivers[self.fleet.stations[name].file.driver]
        self.pool.submit(f"Stop:{name}", partial(driver.stop, handle))

    # --- settle -----------------------------------------------------------------------------------------

    def settle(self, key: str, outcome: Any, ledger: Ledger) -> None:
        """Take a job's outcome in. What came too late, or for a task that is gone, changes nothing."""
        kind, _, subject = key.partition(":")
        if kind == "Stop":
            self._settle_stop(subject, outcome, ledger)
        elif kind in ("Poll", "Maintain", "Renew"):
            self._settle_for_project(kind, subject, outcome, ledger)
        else:
            self._settle_job(self._open.pop(key), outcome, ledger)

    def _settle_stop(self, name: str, outcome: Any, ledger: Ledger) -> None:
        """What keeps a daemon from being ended is told once, until one is."""
        why = outcome.message if isinstance(outcome, Failed) else None
        if why is not None and self._stop_failures.get(name) != why:
            ledger.log(Event(name="workstation.not_stopped", details={"message": why}), workstation=name)
        self._stop_failures[name] = why
        self.fleet.stopped(name)

    def _settle_for_project(self, kind: str, project_name: str, outcome: Any, ledger: Ledger) -> None:
        if isinstance(outcome, Looked):
            try:
                self._settle_poll(outcome, ledger)
            except OSError:  # what could not be kept is not known: all of it is looked at again
                del self._reviews[project_name]
                raise
            outcome = outcome.problem
        if isinstance(outcome, Failed):
            name = {"Poll": "poll.failed", "Maintain": "maintenance.failed", "Renew": "mirror.not_renewed"}[kind]
            details = {"project": project_name, "code": outcome.code, "message": outcome.message}
            told = kind == "Poll" and self._poll_failures.get(project_name) == outcome.code
            if not told:  # a remote that stays away is told of once
                ledger.log(Event(name=name, details=details))
            if kind == "Poll":
                self._poll_failures[project_name] = outcome.code
            self._look_at_mirror(project_name, outcome)
        elif kind == "Poll":
            self._poll_failures.pop(project_name, None)
        elif isinstance(outcome, Renewed):
            details = {"project": project_name, "reason": outcome.reason, "aside": str(outcome.aside)}
            ledger.log(Event(name="mirror.renewed", details=details))

    def _look_at_mirror(self, project_name: str, failed: Failed) -> None:
        """Where git found damaged objects, have the mirror looked at as a whole, and renewed if it is that."""
        now = self.clock.monotonic()
        last = self._mirror_seen_at.get(project_name)
        if failed.code != "E_OBJECTS_DAMAGED" or (last is not None and now < last + _MIRROR_REST_SECONDS):
            return
        self._mirror_seen_at[project_name] = now
        project = self.projects[project_name]
        self.pool.submit(f"Renew:{project_name}", partial(project.host.renew_mirror, project.mirror))

    def _settle_poll(self, outcome: Looked, ledger: Ledger) -> None:
        for task_id, seen in outcome.decided.items():
            task = ledger.tasks.get(task_id)
            if task is not None and not (seen.state == "closed" and self.projects[task.project].forge):
                ledger.apply(settle_review(task, seen, self.clock.now()))
        for task_id, fit in outcome.compared.items():
            task = ledger.tasks.get(task_id)
            if task is not None and task.delivery is not None and task.delivery.pushed_head == fit.delivered:
                policy = ledger.config.projects[task.project].conflict_in_review
                ledger.apply(settle_base_check(task, fit.conflict, policy, self.clock.now()))

    def _settle_job(self, job: Job, outcome: Any, ledger: Ledger) -> None:
        workstation = self._reserved.pop(job.task_id, None) if isinstance(job, Prepare) else None
        task = ledger.tasks.get(job.task_id)
        if isinstance(job, Bundle):
            self._end_salvage(job, task)
        if isinstance(job, Prepare):  # what was laid ready there goes, should the attempt not go there
            ledger.closed.append(Box(job.workstation, job.task_id, job.attempt))
        if task is None:
            return
        if isinstance(outcome, Failed):
            self._look_at_mirror(task.project, outcome)
        if isinstance(job, Prepare):
            decision = self._settle_prepare(job, outcome, task, workstation, ledger)
        else:
            report = ledger.seen(task.id).reports.get(job.attempt) if isinstance(job, Inspect) else None
            decision = settle(job, outcome, task, report, ledger.config.retry, self.clock.now())
        ledger.apply(decision)
        ledger.dirty.add(task.id)

    def _settle_prepare(
        self, job: Prepare, outcome: Any, task: TaskRecord, workstation: str | None, ledger: Ledger
    ) -> Decision:
        now = self.clock.now()
        if isinstance(outcome, Failed):
            return fail_preparation(task, outcome, now) if task.rerun == job.rerun else Decision(task=task)
        late = (task.attempt + 1, task.rerun) != (job.attempt, job.rerun) or task.state is not State.PENDING
        if not isinstance(outcome, Prepared) or late or task.base_branch not in ("", outcome.base_branch):
            return Decision(task=task)
        if workstation is None or not self.fleet.usable(workstation) or not self.may_begin():
            return Decision(task=task)
        purse = self.purse()
        if purse is not None and purse.lacking(task):  # it was allowed more meanwhile than there is: it waits
            return Decision(task=task)
        config, limit = ledger.config, cost_limit_usd(task, ledger.config)
        chain, unstuck = (
            self.fleet.stations[workstation].settings.clis,
            config.unstuck_for(task.project, task.specialist),
        )
        if cli_for(task, chain, unstuck) != job.cli:  # handed over meanwhile: what was laid ready is for another
            return Decision(task=task)
        self.fleet.note_work([workstation])
        assigned = assign(
            task,
            outcome,
            workstation=job.workstation,
            cli=job.cli,
            model=ledger.config.cli(job.cli).model,
            now=now,
            clis=chain,
            unstuck=unstuck,
            rebase=ledger.config.projects[task.project].rebase,
            reserved_usd=None if limit is None else max(0.0, limit - spent_usd(task)),
            budgets=governing(config, task.project, task.specialist),
        )
        return assigned.then(grant_at_start(assigned.task, config, now))

    def _end_salvage(self, job: Bundle, task: TaskRecord | None) -> None:
        attempt = task.attempt_number(job.attempt) if task is not None else None
        if attempt is not None:
            self.fleet.salvaging(attempt.workstation, False)
