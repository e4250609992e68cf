"""What the workstation is told: the tasking and the agent's configuration, rendered from the record."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agent_daemon.protocol.model import (
    MAX_DESCRIPTION_BYTES,
    AgentConfig,
    CliConfig,
    Context,
    Feedback,
    Identity,
    Interruption,
    Mcp,
    Plan,
    SupervisorIdentity,
    Tasking,
    TaskingStatus,
    TaskingTask,
    WorkspaceMode,
    utc,
)
from supervisor.core.budgets import allowance_usd
from supervisor.core.chain import choices, session_to_resume
from supervisor.core.giving import told_credentials
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.settings import CliSettings, Config
from supervisor.core.states import ACTIVE, State

HANDOVER = "handover.md"
# Of what went before: how many things, bytes of one, and of all together. The whole file may have 256 KiB.
MAX_FEEDBACK, MAX_MESSAGE_BYTES, FEEDBACK_BYTES = 50, 8_000, 96_000


@dataclass(frozen=True, kw_only=True)
class Places:
    """Absolute paths that a tasking names; `inbox` is the attempt's folder in the mail."""

    workspace: str
    workspace_source: str
    inbox: str = ""


def wanted_status(task: TaskRecord, attempt: Attempt) -> TaskingStatus:
    """What the supervisor wants of this attempt now."""
    if attempt.ended_at is None:
        if attempt.rerun == task.rerun and task.state is State.PAUSED:
            return TaskingStatus.PAUSED
        if attempt.rerun == task.rerun and task.state in ACTIVE:
            return TaskingStatus.ASSIGNED
        return TaskingStatus.CANCELLED  # the task was cancelled, be it only to be run again
    gone = attempt.number < task.attempt or (task.ended and (attempt.let_go or attempt.dropped_by is not None))
    if attempt.expendable and gone:
        return TaskingStatus.RELEASED
    if attempt.verdict in SUPERVISOR_VERDICTS or task.ended:
        return TaskingStatus.CANCELLED  # it stays as it is, and nobody begins with it again
    return TaskingStatus.ASSIGNED


# Attempts that the supervisor ended on its own: the daemon, should it still live, must stop.
SUPERVISOR_VERDICTS = frozenset({"no report", "workstation lost", "unreadable report", "handed over"})


def render_tasking(
    task: TaskRecord,
    attempt: Attempt,
    places: Places,
    supervisor: SupervisorIdentity,
    *,
    revision: int,
    now: datetime,
) -> Tasking:
    """`tasking.yaml` for one attempt."""
    shown = clip_text(task.description, MAX_DESCRIPTION_BYTES)
    entry = TaskingTask(
        id=task.id,
        attempt=attempt.number,
        title=task.title,
        status=wanted_status(task, attempt),
        ended=attempt.ended_at is not None,
        role=attempt.role,
        expects=task.expects,
        phase=attempt.phase,
        priority=task.priority,
        type=task.type,
        workspace_mode=attempt.workspace_mode,
        workspace_source=places.workspace_source,
        branch=attempt.branch,
        base_branch=attempt.base_branch,
        base_commit=attempt.base_commit,
        start_commit=attempt.start_commit,
        start_squashed=attempt.start_squashed,
        rebase=attempt.rebase,
        description=shown,
        description_sha256=None if shown == task.description else _sha256(task.description),
        acceptance_criteria=task.acceptance_criteria,
        verification=task.verification,
        allow_empty=task.allow_empty,
        context=Context(
            related_files=task.related_files,
            dependencies=tuple(dependency.task for dependency in task.depends_on),
            handoff=HANDOVER if goes_before(task, attempt) else None,
            builds_on=_builds_on(task, attempt),
            feedback=bounded_feedback((*left_out_feedback(attempt, places), *task.feedback)),
            plan=_plan(task, attempt),
        ),
        limits=task.limits,
        allowance_usd=allowance_usd(task, attempt),
        credentials=told_credentials(task, attempt.number),
        released_sha256=attempt.bundle_sha256,
        interruption=_interruption(attempt),
    )
    return Tasking(
        revision=revision,
        requires=("plan",) if attempt.phase == "plan" else (),
        updated_at=utc(now),
        supervisor=supervisor,
        workspace=places.workspace,
        tasks=(entry,),
    )


def goes_before(task: TaskRecord, attempt: Attempt) -> tuple[Attempt, ...]:
    """The attempts of the same run before this one, which its hand-over tells of."""
    return tuple(a for a in task.attempts if a.number < attempt.number and a.rerun == attempt.rerun)


def _builds_on(task: TaskRecord, attempt: Attempt) -> str | None:
    """The task whose work, and nothing of this one's own, lies where the attempt starts."""
    start, shared = attempt.start_commit, attempt.shared_branch
    if start is None or start != attempt.shared_tip or shared == attempt.branch:
        return None
    own = (d.task for d in task.depends_on if d.use == "head" and d.task.startswith(f"{task.project}."))
    return next(own, None)


def _plan(task: TaskRecord, attempt: Attempt) -> Plan | None:
    """The approved plan, for an attempt that is to work by it."""
    plan = task.plan
    if plan is None or plan.status != "approved" or attempt.phase == "plan" or attempt.rerun != task.rerun:
        return None
    return Plan(id=plan.id, text=plan.text, amendments=clip_bytes(plan.amendments, MAX_MESSAGE_BYTES))


def bounded_feedback(items: Sequence[Feedback]) -> tuple[Feedback, ...]:
    """As much of each as there is room for: a tasking that is too long is refused by whoever reads it."""
    kept = items[:MAX_FEEDBACK]
    room = min(MAX_MESSAGE_BYTES, FEEDBACK_BYTES // max(1, len(kept)))
    return tuple(item.model_copy(update={"message": clip_bytes(item.message, room)}) for item in kept)


def clip_bytes(text: str, most: int) -> str:
    """`text` cut to so many bytes of UTF-8, at a character."""
    data = text.encode(errors="replace")
    return text if len(data) <= most else data[: most - 4].decode(errors="ignore") + "…"


def left_out_feedback(attempt: Attempt, places: Places) -> tuple[Feedback, ...]:
    """What the agent is told of earlier work that its start does not contain."""
    return tuple(
        Feedback(
            code="E_LEFT_OUT",
            message=f"the work of attempt {left.attempt}, commit {left.head}, is left out:\n{left.reason}"
            + (f"\nfiles that it changed: {', '.join(left.files)}" if left.files else ""),
            expected="what is still right of both",
            mend=f"`git bundle unbundle {places.inbox}/earlier-{left.attempt}.bundle` brings the commit; "
            f"then look at `git diff HEAD...{left.head}` and take over what belongs here",
        )
        for left in attempt.left_out
    )


def _interruption(attempt: Attempt) -> Interruption | None:
    asked = attempt.interruption
    return Interruption(number=asked.number, rule=asked.rule, then=asked.then) if asked is not None else None


def clip_text(text: str, max_bytes: int) -> str:
    """`text` cut to `max_bytes` of UTF-8 at a character, with a line that says where the rest is."""
    data = text.encode()
    if len(data) <= max_bytes:
        return text
    note = "\n[… the whole text is in description.md]\n"
    return data[: max_bytes - len(note.encode())].decode(errors="ignore") + note


def digest_of_wanted(tasking: Tasking) -> str:
    """A digest of everything in the tasking that asks something of the workstation."""
    return _sha256(tasking.tasks[0].model_dump_json())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def render_agent_config(task: TaskRecord, attempt: Attempt, config: Config, *, revision: int) -> AgentConfig:
    """`config.yaml` for one attempt: how to run the coding CLI."""
    project = config.projects[task.project]
    session = session_to_resume(task, attempt)
    return AgentConfig(
        revision=revision,
        cli=cli_config(attempt.cli, config.cli(attempt.cli)),
        identity=Identity(name=project.bot.name, email=project.bot.email),
        prompt_folder=project.prompt_folder,
        report_interval_seconds=config.timing.report_interval_seconds,
        prices=config.prices,
        # An isolated attempt has a home of its own, in which no earlier session can be found.
        resume_session=session if attempt.workspace_mode is not WorkspaceMode.ISOLATED else None,
        handoff_clis=choices(attempt),
    )


def cli_config(name: str, settings: CliSettings) -> CliConfig:
    return CliConfig(
        name=name,
        adapter=settings.adapter or name,
        argv=settings.argv,
        model=settings.model,
        arguments=settings.arguments,
        environment=settings.environment,
        pass_environment=settings.variables,
        prompt=settings.prompt,
        success_exit_codes=settings.success_exit_codes,
        mcp=Mcp.model_validate(settings.mcp.model_dump()) if settings.mcp is not None else None,
        options=settings.options,
    )
