"""One run of work on an attempt, from worktree to bundle: in a thread, which writes no report itself."""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent_daemon import checkout, handover
from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import CliSettings, Progress, RunRequest, Verdict, bare_environment
from agent_daemon.clis.base import Usage as CliUsage
from agent_daemon.clone import ensure_clone
from agent_daemon.execution import ATTEMPT_MARKER, Finished, ProcessLimits, StopRequest, run_process
from agent_daemon.failpoints import reach
from agent_daemon.git import Identity, git
from agent_daemon.processes import find_marked, sweep
from agent_daemon.prompt import DOCUMENT_PATH, render_prompt
from agent_daemon.protocol.files import make_folder, write_file
from agent_daemon.protocol.model import (
    AgentConfig,
    BlockedReason,
    CommitMade,
    FileModified,
    ReportError,
    ReportStatus,
    Result,
    Salvage,
    Session,
    TaskingTask,
    TaskReport,
    Usage,
    VerificationResult,
    WaitReason,
)
from agent_daemon.verification import VerificationCommand, VerificationPlace, run_verification

STOP_PAUSED, STOP_CANCELLED, STOP_EDITED, STOP_SHUTDOWN = "paused", "cancelled", "edited", "shutdown"

# What a CLI's end means where it is not "completed": blocked for a reason, or failed.
_BLOCKING = {
    "needs_input": WaitReason.QUESTION,
    "authentication": WaitReason.CREDENTIAL,
    "quota": WaitReason.QUOTA,
    "budget": WaitReason.BUDGET,
}

Tell = Callable[[dict[str, Any], str | None], None]


@dataclass(frozen=True, kw_only=True)
class AttemptPlaces:
    """Absolute paths of one attempt, and the mark that its processes carry."""

    inbox: Path
    outbox: Path
    clone: Path
    worktree: Path
    homes: Path

    @property
    def logs(self) -> Path:
        return self.outbox / "logs"

    @property
    def marker(self) -> str:
        return str(self.outbox)


@dataclass
class WorkRun:
    """Does the work of one attempt once; `tell(fields, message)` passes report fields and a progress message on.

    `resumed` says that an earlier run of this attempt was interrupted; `changed` that the task's text was
    edited meanwhile; `known` is what the report says so far.
    """

    task: TaskingTask
    config: AgentConfig
    places: AttemptPlaces
    agent_type: str
    known: TaskReport
    tell: Tell
    resumed: bool = False
    changed: bool = False
    stop: StopRequest = field(default_factory=StopRequest)
    spoke_at: float = field(default_factory=time.monotonic)

    def run(self) -> dict[str, Any]:
        """The report's closing fields; raises GitError, ProtocolError, OSError when it could not even be tried."""
        make_folder(self.places.logs)
        self.tell({"status": ReportStatus.PLANNING}, "Preparing the worktree")
        self._prepare_worktree()
        reach("daemon.worktree_made")
        if self.stop.is_set():
            return self._stopped()
        self.tell({"status": ReportStatus.IN_PROGRESS}, f"Starting {self.config.cli.name}")
        verdict = self._run_cli()
        reach("daemon.cli_finished")
        end_processes(self.places.marker)
        if self.stop.is_set():
            return self._stopped()
        if verdict.outcome != "completed":
            return self._not_completed(verdict)
        return self._hand_over(verdict)

    def _prepare_worktree(self) -> None:
        end_processes(self.places.marker)
        task, places = self.task, self.places
        ensure_clone(places.clone, Path(task.workspace_source))
        bundle = places.inbox / "start.bundle"
        made = checkout.ensure_worktree(
            checkout.WorktreeRequest(
                clone=places.clone,
                worktree=places.worktree,
                branch=task.branch,
                base_commit=task.base_commit,
                start_commit=task.start_commit,
                start_bundle=bundle if task.start_commit and bundle.exists() else None,
            )
        )
        if made == "existing":
            checkout.remove_stale_locks(places.worktree)
        if task.start_squashed and not self.resumed:
            git("reset", "--quiet", "--mixed", task.base_commit, folder=places.worktree)
        self._link()

    def _link(self) -> None:
        inbox, outbox = self.places.inbox, self.places.outbox
        targets = {name: inbox / name for name in ("tasking.yaml", "config.yaml")}
        targets |= {"reporting.yaml": outbox / "reporting.yaml", "logs": outbox / "logs"}
        checkout.link_protocol_files(self.places.worktree, targets)

    # --- the coding CLI -------------------------------------------------------------------------------

    def _run_cli(self) -> Verdict:
        cli = self.config.cli
        adapter = ADAPTERS[cli.adapter]
        session = self._session_to_resume() if adapter.can_resume else None
        prompt = render_prompt(
            self.task,
            agent_type=self.agent_type,
            description=self._whole_description(),
            resumed=self.resumed and not self.changed,
            changed=self.changed,
            prompt_folder=self.config.prompt_folder,
        )
        prompt_file = self.places.logs / "prompt.md"
        write_file(prompt_file, prompt.encode(errors="replace"))
        invocation = adapter.invocation(
            RunRequest(
                prompt=prompt,
                prompt_file=prompt_file,
                worktree=self.places.worktree,
                settings=self._cli_settings(),
                session_id=session,
                max_turns=self.task.limits.max_turns,
                marker=self.places.marker,
            )
        )
        events: list[Progress] = []

        def on_line(stream: str, line: str) -> None:
            self.spoke_at = time.monotonic()
            for event in adapter.parse(stream, line):
                self._take_event(event, events)

        reach_once = [lambda: reach("daemon.cli_running")]

        def on_tick(_pid: int) -> None:
            if reach_once and events:
                reach_once.pop()()

        finished = run_process(
            invocation,
            limits=ProcessLimits(
                wall_seconds=self.task.limits.timeout_minutes * 60, output_bytes=self.config.output_limit_bytes
            ),
            on_line=on_line,
            stop=self.stop,
            log=self.places.logs / "cli.log",
            on_tick=on_tick,
        )
        verdict = adapter.verdict(finished, events, previous=_previous(self.known) if session else None)
        self._tell_verdict(verdict, finished)
        return verdict

    def _session_to_resume(self) -> str | None:
        if self.known.session is not None and self.known.session.cli == self.config.cli.name:
            return self.known.session.id
        return self.config.resume_session

    def _whole_description(self) -> str:
        try:
            whole = (self.places.inbox / "description.md").read_text(errors="replace")
        except FileNotFoundError:
            return self.task.description
        # The tasking is what a person edits: its text counts unless it is the clipped form of the whole.
        clipped = len(whole.encode()) > len(self.task.description.encode())
        return whole if clipped and "description.md]" in self.task.description else self.task.description

    def _cli_settings(self) -> CliSettings:
        cli = self.config.cli
        return CliSettings(
            name=cli.name,
            adapter=cli.adapter,
            argv=cli.argv,
            model=cli.model or "",
            arguments=cli.arguments,
            environment=cli.environment,
            pass_environment=cli.pass_environment,
            prompt=cli.prompt,
            success_exit_codes=cli.success_exit_codes,
            home=self.places.homes / cli.name,
            options=cli.options,
        )

    def _take_event(self, event: Progress, events: list[Progress]) -> None:
        events.append(event)
        fields: dict[str, Any] = {}
        if event.session_id:
            fields["session"] = Session(cli=self.config.cli.name, id=event.session_id[:500])
        if event.usage is not None:
            fields["usage"] = _usage(event.usage)
        shown = event.message if event.kind != "usage" else None
        self.tell(fields, shown or None)

    def _tell_verdict(self, verdict: Verdict, finished: Finished) -> None:
        fields: dict[str, Any] = {"usage": _usage(verdict.usage)}
        if verdict.session_id:
            fields["session"] = Session(cli=self.config.cli.name, id=verdict.session_id[:500])
        name = self.config.cli.name
        self.tell(fields, f"{name} ended after {finished.duration_seconds:.0f} s: {verdict.outcome}")

    # --- the end --------------------------------------------------------------------------------------

    def _stopped(self) -> dict[str, Any]:
        """What is reported when someone asked the run to stop."""
        if self.stop.reason == STOP_PAUSED:
            return {"status": ReportStatus.PAUSED, "current_step": "Paused"}
        if self.stop.reason == STOP_CANCELLED:
            return {"status": ReportStatus.CANCELLED, "salvage": self.salvage(), "current_step": "Cancelled"}
        return {}

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
        closing: dict[str, Any] = {"summary": verdict.message[:8000], **self._changes()}
        if task.expects == "document":
            return closing | self._hand_over_document(verdict)
        head = checkout.head(worktree)
        results = self._verify(head)
        closing["verification"] = results
        if self.stop.is_set():
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
            for c in self.task.verification
        ]
        if not commands:
            return ()
        self.tell({"status": ReportStatus.VERIFYING}, f"Running {len(commands)} verification command(s)")
        settings = replace(
            self._cli_settings(), pass_environment=()
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
        """Bundle everything that the worktree holds; None when it holds nothing of its own."""
        if not self.places.worktree.exists():
            return None
        end_processes(self.places.marker)
        checkout.remove_stale_locks(self.places.worktree)
        base = handover.result_base(self.places.worktree, self.task.base_branch, self.task.base_commit)
        return _as_salvage(
            handover.make_salvage(self.places.worktree, base, self.places.outbox / "salvage.bundle")
        )


def release(task: TaskingTask, places: AttemptPlaces) -> None:
    """Remove the worktree and the bundles of an attempt whose work the supervisor has saved."""
    end_processes(places.marker)
    if places.clone.exists():
        checkout.remove_worktree(places.clone, places.worktree, task.branch)
    if places.outbox.exists():
        for name in os.listdir(places.outbox):
            if name.endswith((".bundle", ".md")):
                (places.outbox / name).unlink(missing_ok=True)
    reach("daemon.released_before_report")


def end_processes(marker: str) -> None:
    """End whatever of this attempt an earlier run or a crashed daemon left running."""
    sweep(lambda: find_marked(ATTEMPT_MARKER, marker), grace_seconds=1.0)


def _as_salvage(made: handover.BundleMade | None) -> Salvage | None:
    return Salvage(bundle=made.path.name, sha256=made.sha256, head=made.head, base=made.base) if made else None


def _usage(usage: CliUsage) -> Usage:
    return Usage(
        model=usage.model or None,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=usage.cost_usd,
        turns=usage.turns,
    )


def _previous(known: TaskReport) -> CliUsage:
    return CliUsage(input_tokens=known.usage.input_tokens, output_tokens=known.usage.output_tokens)
