"""One run of work on an attempt, from worktree to bundle: in a thread, which writes no report itself."""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent_daemon import checkout, handover, ownership
from agent_daemon.activity import ActivityMeter
from agent_daemon.clis.base import Verdict, bare_environment
from agent_daemon.clone import ensure_clone
from agent_daemon.coding import CodingRun, Tell
from agent_daemon.execution import ATTEMPT_MARKER, StopRequest
from agent_daemon.external import look_for_external
from agent_daemon.failpoints import reach
from agent_daemon.git import Identity, commit_of, git, merge_base
from agent_daemon.places import AttemptPlaces
from agent_daemon.processes import find_marked, sweep
from agent_daemon.prompt import DOCUMENT_PATH
from agent_daemon.protocol.files import make_folder, write_file
from agent_daemon.protocol.model import (
    AgentConfig,
    BlockedReason,
    CommitMade,
    Criterion,
    External,
    FileModified,
    ReportError,
    ReportStatus,
    Result,
    Salvage,
    TaskingTask,
    TaskReport,
    VerificationResult,
    WaitReason,
    WorkspaceMode,
)
from agent_daemon.verification import VerificationCommand, VerificationPlace, run_verification

STOP_PAUSED, STOP_CANCELLED, STOP_EDITED, STOP_SHUTDOWN = "paused", "cancelled", "edited", "shutdown"
STOPS_FROM_OUTSIDE = frozenset({STOP_PAUSED, STOP_CANCELLED, STOP_EDITED, STOP_SHUTDOWN})

# What a CLI's end means where it is not "completed": blocked for a reason, or failed.
_BLOCKING = {
    "needs_input": WaitReason.QUESTION,
    "authentication": WaitReason.CREDENTIAL,
    "quota": WaitReason.QUOTA,
    "budget": WaitReason.BUDGET,
}

_PREPARING = {
    WorkspaceMode.SHARED: "Preparing the worktree",
    WorkspaceMode.COPY_ON_WRITE: "Preparing a clone of its own, which borrows the mirror's objects",
    WorkspaceMode.ISOLATED: "Preparing a full clone of its own",
}


@dataclass
class WorkRun:
    """Does the work of one attempt once; `tell(fields, message)` passes report fields and a progress message on.

    `resumed` says that an earlier run of this attempt was interrupted; `changed` that the task's text was
    edited meanwhile; `known` is what the report says so far. `latest()` is the task as it reads now.
    """

    task: TaskingTask
    config: AgentConfig
    places: AttemptPlaces
    agent_type: str
    known: TaskReport
    tell: Tell
    latest: Callable[[], TaskingTask]
    resumed: bool = False
    changed: bool = False
    stop: StopRequest = field(default_factory=StopRequest)
    meter: ActivityMeter = field(default_factory=ActivityMeter)
    begun: bool = field(default=False, init=False)
    external: External | None = field(default=None, init=False)

    def run(self) -> dict[str, Any]:
        """The report's closing fields; raises GitError, ProtocolError, OSError when it could not even be tried."""
        make_folder(self.places.logs)
        criteria = tuple(Criterion(criterion=text) for text in self.task.acceptance_criteria)
        self.tell(
            {"status": ReportStatus.PLANNING, "acceptance_criteria": criteria},
            _PREPARING[self.task.workspace_mode],
        )
        self._prepare_worktree()
        self.begun = True
        self._tell_external()
        reach("daemon.worktree_made")
        if self._asked_to_stop():
            return self._stopped()
        self.tell({"status": ReportStatus.IN_PROGRESS}, f"Starting {self.config.cli.name}")
        coding = self._coding()
        verdict = coding.run()
        reach("daemon.cli_finished")
        end_processes(self.places.marker)
        if self._asked_to_stop():
            return self._stopped()
        if not coding.started:
            return self._not_started(verdict)
        if verdict.outcome != "completed":
            return self._not_completed(verdict)
        return self._hand_over(verdict)

    def _coding(self) -> CodingRun:
        return CodingRun(
            task=self.task,
            config=self.config,
            places=self.places,
            agent_type=self.agent_type,
            known=self.known,
            tell=self.tell,
            resumed=self.resumed,
            changed=self.changed,
            stop=self.stop,
            meter=self.meter,
            external=self.external,
        )

    def _tell_external(self) -> None:
        """Report what belongs to the project and is not in the worktree."""
        self.external = look_for_external(self.places.worktree)
        if self.external is not None:
            submodules, lfs = self.external.submodules_total, self.external.lfs_files_total
            message = f"Not in the worktree: {submodules} submodule(s), the content of {lfs} file(s) of git-lfs"
            self.tell({"external": self.external}, message)

    def _asked_to_stop(self) -> bool:
        return self.stop.reason in STOPS_FROM_OUTSIDE

    def _prepare_worktree(self) -> None:
        end_processes(self.places.marker)
        task, places = self.task, self.places
        commits = tuple(commit for commit in (task.base_commit, task.start_commit) if commit)
        ensure_clone(places.clone, Path(task.workspace_source), borrow=places.borrows, commits=commits)
        bundle = places.inbox / "start.bundle"
        request = checkout.WorktreeRequest(
            clone=places.clone,
            worktree=places.worktree,
            branch=task.branch,
            base_commit=task.base_commit,
            start_commit=task.start_commit,
            start_bundle=bundle if task.start_commit and bundle.exists() else None,
        )
        aside = ownership.take_possession(request, owner_of(task), begun=self.resumed)
        if aside is not None:
            self.tell({}, f"Work of an earlier attempt that is not saved lies in {aside} now")
        if checkout.ensure_worktree(request) == "existing":
            checkout.remove_stale_locks(places.worktree)
        if task.start_squashed and not self.resumed:
            # Never onto a commit that the work does not stand on: that would undo what others did meanwhile.
            below = merge_base(places.worktree, "HEAD", task.base_commit) or task.base_commit
            git("reset", "--quiet", "--mixed", below, folder=places.worktree)
        self._link()

    def _link(self) -> None:
        inbox, outbox = self.places.inbox, self.places.outbox
        targets = {name: inbox / name for name in ("tasking.yaml", "config.yaml")}
        targets |= {"reporting.yaml": outbox / "reporting.yaml", "logs": outbox / "logs"}
        checkout.link_protocol_files(self.places.worktree, targets)

    # --- the end --------------------------------------------------------------------------------------

    def _stopped(self) -> dict[str, Any]:
        """What is reported when someone asked the run to stop."""
        if self.stop.reason == STOP_PAUSED:
            return {"status": ReportStatus.PAUSED, "current_step": "Paused"}
        if self.stop.reason == STOP_CANCELLED:
            return {"status": ReportStatus.CANCELLED, "salvage": self.salvage(), "current_step": "Cancelled"}
        return {}

    def _not_started(self, verdict: Verdict) -> dict[str, Any]:
        """The program is not there: another attempt would meet the same, a person is needed."""
        message = f"{verdict.message[:1500]}; install it where the workstation finds it, or correct its argv"
        return {
            "status": ReportStatus.BLOCKED,
            "blocked_reason": BlockedReason(reason=WaitReason.HUMAN),
            "blockers": (message,),
            "salvage": self.salvage(),
        }

    def _not_completed(self, verdict: Verdict) -> dict[str, Any]:
        fields: dict[str, Any] = {"salvage": self.salvage(), **self._changes()}
        blocking = _BLOCKING.get(verdict.outcome)
        message = verdict.message or verdict.outcome
        if blocking is not None:
            return fields | {
                "status": ReportStatus.BLOCKED,
                "blocked_reason": BlockedReason(reason=blocking),
                "blockers": (message[:2000],),
                "question": message[:2000] if blocking is WaitReason.QUESTION else None,
            }
        error = ReportError(
            code=f"E_CLI_{verdict.outcome.upper()}", message=f"{self.config.cli.name}: {message[:2000]}"
        )
        return fields | {"status": ReportStatus.FAILED, "error": error}

    def _hand_over(self, verdict: Verdict) -> dict[str, Any]:
        """Commit what is left, verify that very commit, bundle it."""
        task, worktree = self.task, self.places.worktree
        self._link()
        checkout.remove_stale_locks(worktree)
        identity = Identity(name=self.config.identity.name, email=self.config.identity.email)
        handover.commit_leftovers(worktree, task.title, identity)
        checkout.put_on_branch(worktree, task.branch)
        self._tell_left_out()
        closing: dict[str, Any] = {"summary": verdict.message[:8000], **self._changes()}
        if task.expects == "document":
            salvage = _as_salvage(self._bundle("salvage.bundle"))
            return closing | {"salvage": salvage} | self._hand_over_document(verdict)
        head = checkout.head(worktree)
        results = self._verify(head)
        closing["verification"] = results
        if self._asked_to_stop():
            return self._stopped()
        reach("daemon.verified")
        failed = [result for result in results if result.exit_code != 0]
        if failed:
            names = ", ".join(f"'{result.name}'" for result in failed)
            error = ReportError(code="E_VERIFICATION_FAILED", message=f"verification failed: {names}")
            # The commits alone: what is uncommitted now is the verification's dirt, not the agent's work.
            salvage = _as_salvage(self._bundle("salvage.bundle"))
            return closing | {"status": ReportStatus.FAILED, "error": error, "salvage": salvage}
        bundle = self._bundle("result.bundle")
        reach("daemon.bundled_before_report")
        if bundle is None:
            return closing | {"status": ReportStatus.COMPLETED, "result": None}
        result = Result(
            kind="commits", bundle="result.bundle", sha256=bundle.sha256, head=bundle.head, base=bundle.base
        )
        return closing | {"status": ReportStatus.COMPLETED, "result": result, "percent": 100}

    def _tell_left_out(self) -> None:
        external = look_for_external(self.places.worktree)
        if external is not None and external.submodules_changed:
            inside = ", ".join(external.submodules_changed)
            self.tell({"external": external}, f"Changes inside of submodules are not handed in: {inside}")

    def _bundle(self, name: str) -> handover.BundleMade | None:
        base = handover.result_base(self.places.worktree, self.task.base_branch, self.task.base_commit)
        return handover.make_bundle(self.places.worktree, base, self.task.branch, self.places.outbox / name)

    def _hand_over_document(self, verdict: Verdict) -> dict[str, Any]:
        written = self.places.worktree / DOCUMENT_PATH
        text = verdict.message
        with contextlib.suppress(OSError):
            if not written.is_symlink():
                text = written.read_text(errors="replace")[: 1024 * 1024]
        data = text.encode(errors="replace")
        write_file(self.places.outbox / "document.md", data)
        result = Result(kind="document", document="document.md", sha256=hashlib.sha256(data).hexdigest())
        return {"status": ReportStatus.COMPLETED, "result": result}

    def _verify(self, head: str) -> tuple[VerificationResult, ...]:
        commands = [
            VerificationCommand(name=c.name, command=c.command, timeout_seconds=c.timeout_seconds)
            for c in self.latest().verification
        ]
        if not commands:
            return ()
        ran_commands = {command.name: command.command for command in commands}
        self.tell({"status": ReportStatus.VERIFYING}, f"Running {len(commands)} verification command(s)")
        settings = replace(
            self._coding().settings(), pass_environment=()
        )  # the CLI's keys are not for the project's code
        place = VerificationPlace(
            worktree=self.places.worktree,
            commit=head,
            logs=self.places.logs,
            environment=bare_environment(settings),
            marker=self.places.marker,
        )
        ran = run_verification(commands, place, stop=self.stop)
        for result in ran:
            self.tell({}, f"Verification '{result.name}': exit code {result.exit_code}")
        dirt = checkout.dirt(self.places.worktree)
        if dirt:
            self.tell({}, f"Verification left {len(dirt)} uncommitted path(s): {', '.join(dirt[:5])}")
        return tuple(
            VerificationResult(
                name=r.name,
                command=ran_commands[r.name],
                exit_code=r.exit_code,
                duration_seconds=r.duration_seconds,
                log=r.log,
                commit=r.commit,
                output_tail=r.output_tail,
            )
            for r in ran
        )

    def _changes(self) -> dict[str, Any]:
        changes = handover.changes(self.places.worktree, self.task.base_commit)
        return {
            "files_modified": tuple(
                FileModified(
                    path=f.path[:1000],
                    change_type=f.change_type,
                    lines_added=f.lines_added,
                    lines_removed=f.lines_removed,
                )
                for f in changes.files
            ),
            "files_modified_total": changes.files_total,
            "commits": tuple(CommitMade(sha=c.sha, message=c.message[:500]) for c in changes.commits),
            "commits_total": changes.commits_total,
        }

    def salvage(self) -> Salvage | None:
        """Bundle everything that the worktree holds; None when it holds nothing of this attempt's."""
        return salvage(self.task, self.places, begun=self.begun or has_begun(self.known))


def has_begun(report: TaskReport) -> bool:
    """Whether the attempt had a worktree, by its report."""
    return report.status not in (ReportStatus.RECEIVED, ReportStatus.PLANNING)


def salvage(task: TaskingTask, places: AttemptPlaces, *, begun: bool) -> Salvage | None:
    """Bundle everything that an attempt left behind; None when that is nothing.

    `begun`: it had a worktree. Where that is gone, its branch in the clone is bundled; where neither is there,
    FileNotFoundError says so: a folder that is not mounted must not look like one that holds nothing.
    """
    target = places.outbox / "salvage.bundle"
    worktree = ownership.worktree_of(places.worktree, owner_of(task), begun=begun)
    if worktree is not None:
        end_processes(places.marker)
        checkout.remove_stale_locks(worktree)
        base = handover.result_base(worktree, task.base_branch, task.base_commit)
        return _as_salvage(handover.make_salvage(worktree, base, target))
    if places.worktree.exists():
        return None  # a later attempt has gone on with it
    if (places.clone / ".git").exists() and commit_of(places.clone, f"refs/heads/{task.branch}") is not None:
        return _as_salvage(handover.make_bundle(places.clone, task.base_commit, task.branch, target))
    if begun:
        raise FileNotFoundError(f"{places.worktree} is not there, and nothing of its branch in {places.clone}")
    return None


def owner_of(task: TaskingTask) -> ownership.Owner:
    return ownership.Owner(task=task.id, attempt=task.attempt, branch=task.branch)


def release(task: TaskingTask, places: AttemptPlaces, *, in_use: bool) -> None:
    """Remove the worktree and the bundles of an attempt whose work the supervisor has saved.

    `in_use`: a newer attempt of the task has begun.
    """
    end_processes(places.marker)
    if places.clone.exists():
        ownership.remove_owned(places.clone, places.worktree, owner_of(task), in_use=in_use)
    if places.own is not None:
        checkout.remove_own_folder(places.own)
    for name in ("result.bundle", "salvage.bundle", "document.md"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            (places.outbox / name).unlink()
    reach("daemon.released_before_report")


def end_processes(marker: str) -> None:
    """End whatever of this attempt an earlier run or a crashed daemon left running."""
    sweep(lambda: find_marked(ATTEMPT_MARKER, marker), grace_seconds=1.0)


def _as_salvage(made: handover.BundleMade | None) -> Salvage | None:
    return Salvage(bundle=made.path.name, sha256=made.sha256, head=made.head, base=made.base) if made else None
