"""The files that supervisor and workstation exchange, version 1, as frozen models.

Wire models ignore unknown keys, so that an older daemon lives on beside a newer supervisor;
`requires` names what a reader must understand. All times are UTC.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, FailFast, Field, StringConstraints

PROTOCOL_VERSION: Final = 1

# Writers cap what they write so that no honest file nears the reader's limits (256 KiB, 16 KiB a scalar).
MAX_DESCRIPTION_BYTES = 12 * 1024
MAX_PLAN_BYTES = 12 * 1024
# What a daemon of this version knows of `requires` in a tasking.
UNDERSTOOD: Final = frozenset({"plan"})
MAX_PROGRESS_ENTRIES = 50
MAX_LISTED = 200
MAX_CLEANUP_ITEMS = 200
MAX_EXTERNAL = 20

Time = AwareDatetime
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, StringConstraints(max_length=16 * 1024)]
Line = Annotated[str, StringConstraints(max_length=1000)]
Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,200}$")]


class Wire(BaseModel):
    """What the two programs write to each other: read leniently."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Written(BaseModel):
    """What a person writes: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskingStatus(StrEnum):
    """What the supervisor wants of an attempt."""

    ASSIGNED = "assigned"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    RELEASED = "released"


class ReportStatus(StrEnum):
    """What the daemon says of an attempt."""

    RECEIVED = "received"
    PLANNING = "planning"
    IN_PROGRESS = "in_progress"
    VERIFYING = "verifying"
    WAITING = "waiting"
    PAUSED = "paused"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"


class WaitReason(StrEnum):
    """Why a task waits; one list for both sides."""

    CREDENTIAL = "credential"
    QUESTION = "question"
    APPROVAL = "approval"
    HANDOFF = "handoff"
    QUOTA = "quota"
    BUDGET = "budget"
    CONFLICT = "conflict"
    HUMAN = "human"


class Priority(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    BACKGROUND = "background"


class WorkspaceMode(StrEnum):
    SHARED = "shared"
    ISOLATED = "isolated"
    COPY_ON_WRITE = "copy_on_write"


RebaseWhen = Literal["never", "before_result"]
Role = Literal["specialist", "planner", "reviewer", "verifier", "unstuck"]
Expects = Literal["commits", "document"]
# Of an attempt: to plan only, and to change nothing; or to do the work.
Phase = Literal["work", "plan"]
TaskType = Literal["feature", "bugfix", "refactor", "docs", "test", "review", "plan"]
ChangeType = Literal["created", "modified", "deleted", "renamed", "type_changed"]


# --- supervisor to workstation ------------------------------------------------------------------------


class VerificationCommand(Written):
    """A command whose exit code 0 is evidence; run by the daemon in the worktree."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    type: Literal["command"] = "command"
    command: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] = 600


class Limits(Written):
    """Bounds of one attempt; absent means no bound of that kind."""

    timeout_minutes: Annotated[float, Field(gt=0, le=10_080, allow_inf_nan=False)] = 30
    cost_usd: Amount | None = None
    max_turns: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_identical_actions: Annotated[int, Field(ge=2)] | None = None


class Price(Written):
    """What a model costs, in USD per million tokens. Without `cached_input` what is cached costs as all input."""

    input: Amount
    cached_input: Amount | None = None
    output: Amount


class Feedback(Wire):
    """One thing that was found wanting in an earlier attempt or report."""

    code: Line = ""
    message: Text = ""
    file: Line = ""
    line: Count | None = None
    place: Line = ""
    expected: Text = ""
    mend: Text = ""


class Plan(Wire):
    """The plan that a person has approved, with what that person says to it."""

    id: Line
    text: Text
    amendments: Text = ""


class Context(Wire):
    """What else the agent should know.

    `handoff` is the name of the file beside the tasking with what was done before this attempt; `builds_on` the
    task whose work, and nothing of this one's, the attempt starts from.
    """

    related_files: tuple[Line, ...] = ()
    dependencies: tuple[Line, ...] = ()
    discussion: tuple[Text, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    handoff: FileName | None = None
    builds_on: Line | None = None
    plan: Plan | None = None


class Credential(Wire):
    """The supervisor's decision on something that the agent asked for.

    `file` lies in `credentials/`, encrypted for this `recipient`; `delivery` grows when it is laid there anew.
    `on_its_way`: it is granted, and is laid there in a moment.
    """

    id: Line
    type: Line
    access: Line = "read"
    scope: Line = ""
    status: Literal["pending", "injected", "denied", "revoked"]
    env: Line | None = None
    file: FileName | None = None
    recipient: Line | None = None
    delivery: Count = 0
    on_its_way: bool = False
    expires_at: Time | None = None
    reason: Text | None = None


class SealedCredential(Wire):
    """What a file in `credentials/` holds, as JSON, encrypted with age for the daemon's recipient.

    `deliver`: whether the variable `env` holds the value, or the path of a file with it. `git_url`: the host for
    which git is told it, as ``https://github.com``, beside the name `git_user`.
    """

    version: Literal[1] = 1
    task: Line
    attempt: Annotated[int, Field(ge=1)]
    id: Line
    env: Line
    deliver: Literal["environment", "file"] = "environment"
    expires_at: Time | None = None
    value: Annotated[str, StringConstraints(max_length=64 * 1024)] = Field(repr=False)
    git_url: Annotated[Line, StringConstraints(pattern=r"^https?://[A-Za-z0-9.:\[\]-]{1,300}$")] | None = None
    git_user: Annotated[Line, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "oauth2"


class Interruption(Wire):
    """The coding CLI is to be ended because it gives no sign of life; what it made is bundled first.

    `number` grows with each; `then`: go on in the same session, or end the attempt as failed.
    """

    number: Annotated[int, Field(ge=1)]
    rule: Line
    then: Literal["resume", "end"] = "resume"


class TaskingTask(Wire):
    """One attempt at one task, as the workstation is asked to make it.

    `allowance_usd`: what this attempt may cost, its earlier runs included; none: `limits.cost_usd` is the bound.
    """

    id: Line
    attempt: Annotated[int, Field(ge=1)]
    title: Line
    status: TaskingStatus
    ended: bool = False
    role: Role = "specialist"
    expects: Expects = "commits"
    phase: Phase = "work"
    priority: Priority = Priority.MEDIUM
    type: TaskType = "feature"
    workspace_mode: WorkspaceMode = WorkspaceMode.SHARED
    workspace_source: Line
    branch: Line
    base_branch: Line
    base_commit: Sha
    start_commit: Sha | None = None
    start_squashed: bool = False
    rebase: RebaseWhen = "never"
    description: Text = ""
    description_sha256: Digest | None = None
    acceptance_criteria: tuple[Text, ...] = ()
    verification: tuple[VerificationCommand, ...] = ()
    allow_empty: bool = False
    context: Context = Context()
    limits: Limits = Limits()
    allowance_usd: Amount | None = None
    credentials: tuple[Credential, ...] = ()
    released_sha256: Digest | None = None
    interruption: Interruption | None = None


class SupervisorIdentity(Wire):
    """Which supervisor wrote the file; `epoch` grows with every start."""

    id: Line
    epoch: Count


class CleanupItem(Wire):
    """Something of ended tasks that is to go: an attempt's folder in `out/`, or the clone of a project."""

    kind: Literal["output", "clone"]
    task: Line | None = None
    attempt: Annotated[int, Field(ge=1)] | None = None
    project: Line | None = None


class Cleanup(Wire):
    """`in/cleanup/wanted.yaml`: what a workstation is to remove; nothing else may be."""

    version: Literal[1] = PROTOCOL_VERSION
    revision: Count
    updated_at: Time
    supervisor: SupervisorIdentity
    items: Annotated[tuple[CleanupItem, ...], FailFast(), Field(max_length=MAX_CLEANUP_ITEMS)] = ()


class Tasking(Wire):
    """`tasking.yaml`: exactly one entry in `tasks` in version 1."""

    version: Literal[1] = PROTOCOL_VERSION
    revision: Count
    requires: tuple[Line, ...] = ()
    updated_at: Time
    supervisor: SupervisorIdentity
    workspace: Line
    tasks: tuple[TaskingTask, ...]

    @property
    def task(self) -> TaskingTask:
        return self.tasks[0]


class McpServer(Wire):
    """An MCP server: a program with which the CLI talks, or a `url`.

    `pass_environment` names the variables that the program gets of the CLI's, `bearer` the one with the token.
    """

    command: tuple[Text, ...] = ()
    environment: dict[str, Text] = Field(default_factory=dict)
    pass_environment: tuple[Line, ...] = ()
    url: Line | None = None
    bearer: Line | None = None


class Mcp(Wire):
    """The MCP servers of a CLI: those of a JSON file, or these."""

    file: Line | None = None
    servers: dict[str, McpServer] = Field(default_factory=dict)


class CliConfig(Wire):
    """How the coding CLI is run; see docs/configuration.md for the meaning of each key."""

    name: Line
    adapter: Line
    argv: tuple[Text, ...] = ()
    model: Line | None = None
    arguments: tuple[Text, ...] = ()
    environment: dict[str, Text] = Field(default_factory=dict)
    pass_environment: tuple[Line, ...] = ()
    prompt: Literal["stdin", "file", "argument"] = "stdin"
    success_exit_codes: tuple[int, ...] = (0,)
    mcp: Mcp | None = None
    options: dict[str, Text] = Field(default_factory=dict)


class Identity(Wire):
    """The name that the daemon commits under."""

    name: Line = "Cloud Code"
    email: Line = "cloud-code@localhost"


class AgentConfig(Wire):
    """`config.yaml` beside a tasking: settings that are not the task's own text."""

    version: Literal[1] = PROTOCOL_VERSION
    revision: Count
    cli: CliConfig
    identity: Identity = Identity()
    prompt_folder: Line | None = None
    report_interval_seconds: Amount = 1.0
    output_limit_bytes: Count = 200 * 1024 * 1024
    prices: dict[str, Price] = Field(default_factory=dict)
    resume_session: Line | None = None
    handoff_clis: tuple[Line, ...] = ()


class FeedbackFile(Wire):
    """`feedback.yaml`: what the supervisor could not accept in this attempt's files."""

    version: Literal[1] = PROTOCOL_VERSION
    revision: Count
    items: tuple[Feedback, ...] = ()


# --- workstation to supervisor ------------------------------------------------------------------------


class ProgressEntry(Wire):
    timestamp: Time
    status: Line
    message: Text
    details: dict[str, Any] = Field(default_factory=dict)


class FileModified(Wire):
    path: Line
    change_type: ChangeType
    lines_added: Count = 0
    lines_removed: Count = 0


class CommitMade(Wire):
    sha: Sha
    message: Text


class Criterion(Wire):
    criterion: Text
    status: Literal["pending", "in_progress", "done", "failed"] = "pending"
    evidence: Text = ""


class VerificationResult(Wire):
    """One run of one verification command; `commit` is the HEAD it was run on, `command` what was run."""

    name: Line
    command: Text = ""
    exit_code: int
    duration_seconds: Amount = 0.0
    log: FileName | None = None
    commit: Sha | None = None
    output_tail: Text = ""


class Usage(Wire):
    """What all runs of an attempt used. `input_tokens` include the cached ones.

    `cost_from` says who counted: the CLI told it, it follows from the configured prices, or some of each.
    `cost_unknown`: why `cost_usd` is not all of it, in words.
    """

    model: Line | None = None
    input_tokens: Count = 0
    cached_input_tokens: Count = 0
    output_tokens: Count = 0
    cost_usd: Amount | None = None
    cost_from: Literal["told", "prices", "both"] | None = None
    cost_unknown: Line = ""
    turns: Count = 0


class SessionSum(Wire):
    """What a session has used in all its runs."""

    input_tokens: Count = 0
    cached_input_tokens: Count = 0
    output_tokens: Count = 0


class Session(Wire):
    """A session of a CLI. `counted`: how much of the sum that it keeps itself is in the report's `usage`."""

    cli: Line
    id: Line
    counted: SessionSum | None = None


class Result(Wire):
    """What the attempt hands in: a bundle of commits, or a document."""

    kind: Literal["commits", "document"]
    bundle: FileName | None = None
    document: FileName | None = None
    sha256: Digest
    head: Sha | None = None
    base: Sha | None = None


class Salvage(Wire):
    """A bundle of everything the worktree held: commits, and the uncommitted tree on top."""

    bundle: FileName
    sha256: Digest
    head: Sha
    base: Sha


class Artifact(Wire):
    name: Line
    path: FileName
    media_type: Line = "application/octet-stream"
    size: Count = 0
    sha256: Digest


class External(Wire):
    """What belongs to the project and is not in the worktree: submodules, and the content of git-lfs.

    Paths are a few of many, with their totals; `submodules_changed` are those that were filled and worked in.
    """

    submodules: Annotated[tuple[Line, ...], FailFast(), Field(max_length=MAX_LISTED)] = ()
    submodules_total: Count = 0
    submodules_changed: Annotated[tuple[Line, ...], FailFast(), Field(max_length=MAX_LISTED)] = ()
    lfs_files: Annotated[tuple[Line, ...], FailFast(), Field(max_length=MAX_LISTED)] = ()
    lfs_files_total: Count = 0


class Rebase(Wire):
    """How the work met a base branch that had moved to `onto`: put on top of that, in conflict with it in `files`,
    or kept where it was for a `reason`, though it would merge.
    """

    outcome: Literal["rebased", "conflict", "kept"]
    onto: Sha
    files: Annotated[tuple[Line, ...], FailFast(), Field(max_length=MAX_LISTED)] = ()
    files_total: Count = 0
    reason: Text = ""


class ReportError(Wire):
    code: Line
    message: Text = ""


class BlockedReason(Wire):
    reason: WaitReason
    ref: Line | None = None
    until: Time | None = None


class CredentialRequest(Wire):
    id: Line
    type: Line
    access: Line = "read"
    scope: Line = ""
    reason: Text = ""


class TaskReport(Wire):
    """What the daemon says of one attempt. The smallest honest one is `attempt` and `status`."""

    attempt: Annotated[int, Field(ge=1)]
    status: ReportStatus
    observed_revision: Count = 0
    started_at: Time | None = None
    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    current_step: Line = ""
    summary: Text = ""
    progress: Annotated[tuple[ProgressEntry, ...], FailFast(), Field(max_length=200)] = ()
    changes_summary: Annotated[tuple[Text, ...], FailFast(), Field(max_length=MAX_LISTED)] = ()
    files_modified: Annotated[tuple[FileModified, ...], FailFast(), Field(max_length=MAX_LISTED)] = ()
    files_modified_total: Count = 0
    commits: Annotated[tuple[CommitMade, ...], FailFast(), Field(max_length=MAX_LISTED)] = ()
    commits_total: Count = 0
    acceptance_criteria: Annotated[tuple[Criterion, ...], FailFast(), Field(max_length=MAX_LISTED)] = ()
    verification: Annotated[tuple[VerificationResult, ...], FailFast(), Field(max_length=MAX_LISTED)] = ()
    external: External | None = None
    rebase: Rebase | None = None
    usage: Usage = Usage()
    session: Session | None = None
    interruptions: Count = 0
    notes_taken: Annotated[tuple[Line, ...], FailFast(), Field(max_length=2 * MAX_LISTED)] = ()
    decisions: Annotated[tuple[Text, ...], FailFast(), Field(max_length=MAX_LISTED)] = ()
    blockers: Annotated[tuple[Text, ...], FailFast(), Field(max_length=MAX_LISTED)] = ()
    result: Result | None = None
    salvage: Salvage | None = None
    artifacts: Annotated[tuple[Artifact, ...], FailFast(), Field(max_length=MAX_LISTED)] = ()
    error: ReportError | None = None
    blocked_reason: BlockedReason | None = None
    question: Text | None = None
    recommend_handoff: Line | None = None
    plan: Text | None = None
    worktree_bytes: Count | None = None
    output_bytes: Count | None = None
    credential_requests: Annotated[tuple[CredentialRequest, ...], FailFast(), Field(max_length=MAX_LISTED)] = ()

    def run_of(self, command: VerificationCommand) -> VerificationResult | None:
        """The newest run of this very command; one that was edited meanwhile has not been run."""
        runs = [entry for entry in self.verification if entry.name == command.name]
        return next((entry for entry in reversed(runs) if entry.command in ("", command.command)), None)


class Reporting(Wire):
    """`reporting.yaml`: framed by `revision` first and `end` last, which must agree."""

    version: Literal[1] = PROTOCOL_VERSION
    revision: Count
    agent_type: Line = ""
    agent_id: Line = ""
    cli: Line = ""
    updated_at: Time | None = None
    status: Literal["idle", "working", "error"] = "working"
    tasks: Annotated[dict[str, TaskReport], Field(max_length=1)]


class ProtocolRange(Wire):
    min: Count = 1
    max: Count = 1


class Activity(Wire):
    """What the coding CLI under way is seen to do. The counters are those of run `run` and only grow.

    `queued_seconds` is the time that it stood in line for a processor.
    """

    task: Line
    attempt: Annotated[int, Field(ge=1)]
    run: Count
    output_bytes: Count = 0
    steps: Count = 0
    cpu_seconds: Amount = 0.0
    queued_seconds: Amount = 0.0
    waits_for_disk: bool = False
    waits_for_input: bool = False
    quiet_seconds: Amount = 0.0


class DiskUse(Wire):
    """What a workstation takes of the disk, as its daemon measured it last; `temporary` is a container's /tmp."""

    workspace_bytes: Count
    tools_bytes: Count = 0
    temporary_bytes: Count = 0

    @property
    def total_bytes(self) -> int:
        return self.workspace_bytes + self.tools_bytes + self.temporary_bytes


class WorkstationFile(Wire):
    """`workstation.yaml`: the daemon's sign of life; `heartbeat` grows every 5 s from its main loop."""

    version: Literal[1] = PROTOCOL_VERSION
    revision: Count
    agent_id: Line
    agent_type: Line
    daemon_version: Line = ""
    protocol: ProtocolRange = ProtocolRange()
    clis: dict[str, Line] = Field(default_factory=dict)
    recipient: Line | None = None
    heartbeat: Count = 0
    current_task: Line | None = None
    clones: tuple[Line, ...] = ()
    activity: Activity | None = None
    disk: DiskUse | None = None


class CleanupDone(CleanupItem):
    """What became of one item: removed, with the bytes that it took, or kept, with the reason."""

    done: bool
    reason: Line = ""
    bytes: Count = 0


class CleanupReport(Wire):
    """`out/cleanup/done.yaml`: the answer to the `wanted.yaml` of this revision; framed as a report is."""

    version: Literal[1] = PROTOCOL_VERSION
    revision: Count
    observed_revision: Count
    items: Annotated[tuple[CleanupDone, ...], FailFast(), Field(max_length=MAX_CLEANUP_ITEMS)] = ()


def utc(value: datetime) -> datetime:
    """`value` in UTC without microseconds: the only form in which a time is written."""
    return value.astimezone(UTC).replace(microsecond=0)
