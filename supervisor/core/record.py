"""The record of a task: everything the supervisor knows about it, as one frozen value in one file."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from agent_daemon.protocol.model import (
    CommitMade,
    Criterion,
    Expects,
    Feedback,
    FileModified,
    Limits,
    Phase,
    Priority,
    RebaseWhen,
    Role,
    TaskType,
    Usage,
    VerificationCommand,
    VerificationResult,
    WaitReason,
    WorkspaceMode,
    Written,
)
from supervisor.core.states import ENDED, State, TransitionError, may_move

MAX_HISTORY = 200
MAX_REASON_CHARACTERS = 2000  # an agent's words may be among them, and 200 of 16 KiB would fill a record

# Why a coding CLI is taken for hung: it waits for somebody to type; it neither writes nor works.
Concern = Literal["input", "quiet"]


class Stored(BaseModel):
    """What only the supervisor writes and reads: a key it does not know means a newer version wrote it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def evolve(self, **changes: Any) -> Self:
        """A copy with these fields changed."""
        return self.model_copy(update=changes)


class Source(Stored):
    """Where a task came from; `key` is unique, `text_hash` is of the text last taken in, `fields` of its parts.

    A later text changes only the fields in which it differs: what a person changed elsewhere stays.
    `present`: not known to be deleted. `held`: away together with too many others to be taken for deleted;
    the task goes on until the source is there again, or a person cancels it.
    `trigger` is the forge's id of what asked for the run, at `trigger_at`, so that it counts once and nothing
    older counts after it; `approved_at` is when the text was approved. `refused_hash` is of a text that somebody
    wrote who may not steer, and that is not taken.
    """

    tracker: str
    kind: Literal["file", "issue", "request", "command"]
    ref: str
    key: str
    url: str | None = None
    requested_by: str = "operator"
    text_hash: str = ""
    fields: dict[str, str] = Field(default_factory=dict)
    present: bool = True
    held: bool = False
    trigger: str | None = None
    trigger_at: AwareDatetime | None = None
    approved_at: AwareDatetime | None = None
    refused_hash: str = ""

    @property
    def is_on_forge(self) -> bool:
        """Whether it can be answered where it came from."""
        return self.kind in ("issue", "request")


class Dependency(Written):
    """Another task that comes first: until it is verified (in review) or merged; `use: head` starts from it.

    A task of another project is only waited for: its branch is in another repository.
    """

    task: str
    until: Literal["verified", "merged"] = "verified"
    use: Literal["head", "none"] = "head"


class Wait(Stored):
    """What a task waits for, in the enum that both sides share, and a sentence for people."""

    reason: WaitReason
    message: str = ""
    ref: str | None = None
    until: AwareDatetime | None = None


class Mail(Stored):
    """What was last written as an attempt's `tasking.yaml`, to tell a person's edit from our own writing.

    The digests are saved before the file is written, so that after a crash either one is known to be ours.
    """

    revision: int = 0
    digest: str = ""
    previous_digest: str = ""
    wanted: str = ""
    written_at: AwareDatetime | None = None


class Tries(Stored):
    """Slow work that did not come through yet: how often it was tried, why it failed last, when it goes on."""

    tries: int = 0
    error: str | None = None
    not_before: AwareDatetime | None = None

    def due(self, now: datetime) -> bool:
        return self.not_before is None or self.not_before <= now


class LeftOut(Stored):
    """Work of an earlier attempt that an attempt starts without: its commit, why, and the files it changed."""

    attempt: int
    head: str
    reason: str
    files: tuple[str, ...] = ()


class Suspicion(Stored):
    """A CLI gives no sign of life: by which rule, since when, and when it is interrupted if that stays so."""

    rule: Concern
    since: AwareDatetime
    due: AwareDatetime


class Interrupted(Stored):
    """The newest interruption of an attempt's CLI; `heeded` when its daemon says that it was carried out."""

    number: int
    rule: Concern
    then: Literal["resume", "end"]
    at: AwareDatetime
    heeded: bool = False


class Attempt(Stored):
    """One try by one workstation; `verdict` and `ended_at` are set together.

    It starts at `start_commit`, or at `base_commit` where there is none. `shared_branch` and `shared_tip`
    name a remote branch whose commits its work contains: those are never rewritten.
    `pushed_head` is what was pushed of its work, `left_out` what it starts without.
    `bundle` names the file in its `out/` folder that holds its work; `saved` says that the work is safe
    elsewhere (in `state/salvage/`, on the remote) or that there was none, and `saved_in` which; only then, or when
    a person has given up what could not be saved (`dropped_by`), may it be `let_go`, which asks its workstation
    to remove its worktree, and be `released`, which says that it has.
    `holds_secret`: what was saved of it is to go with its task.
    `times_touched` counts what was found in the worktree after that, and saved again.
    `inspecting` and `saving` count what failed for a passing reason.
    `salvage_since`: it was given up without a word about its work, which is to be bundled yet. `bundle_again`: a
    person asks for that although its workstation has said that it could not.
    `abandoned`: its workstation is configured no longer, and nothing more is heard of it.
    `clis` is the chain as it was when it began, `unstuck` the one that has a try after the last of it. `next_cli`
    takes over, in the role `next_role`, when this one gets nowhere. `code` and `why` tell how it ended.
    `reserved_usd` is what it may cost, `topped_up_usd` how much of that was allowed while it was under way,
    `budgets` are those in which it is reserved.
    """

    number: int
    rerun: int = 1
    workstation: str
    branch: str
    base_branch: str
    base_commit: str
    start_commit: str | None = None
    start_squashed: bool = False
    workspace_mode: WorkspaceMode = WorkspaceMode.SHARED
    rebase: RebaseWhen = "never"
    shared_branch: str | None = None
    shared_tip: str | None = None
    left_out: tuple[LeftOut, ...] = ()
    role: Role = "specialist"
    phase: Phase = "work"
    cli: str
    clis: tuple[str, ...] = ()
    unstuck: str | None = None
    next_cli: str | None = None
    next_role: Role = "specialist"
    model: str | None = None
    session: str | None = None
    suspicion: Suspicion | None = None
    interruption: Interrupted | None = None
    verdict: str | None = None
    code: str = ""
    why: str = ""
    started_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    usage: Usage = Usage()
    reserved_usd: float | None = None
    topped_up_usd: float = 0.0
    budgets: tuple[str, ...] = ()
    bundle: str | None = None
    bundle_sha256: str | None = None
    bundle_head: str | None = None
    bundle_base: str | None = None
    pushed_head: str | None = None
    saved: bool = False
    saved_in: Literal["salvage", "remote", "nothing"] | None = None
    save_error: str | None = None
    holds_secret: bool = False
    dropped_by: str | None = None
    inspecting: Tries = Tries()
    saving: Tries = Tries()
    salvage_since: AwareDatetime | None = None
    bundle_again: bool = False
    times_touched: int = 0
    let_go: bool = False
    released: bool = False
    abandoned: bool = False
    mail: Mail = Mail()

    @property
    def expendable(self) -> bool:
        """Its worktree may go: nothing in it is wanted that is not somewhere else."""
        return self.saved or self.dropped_by is not None

    @property
    def settled(self) -> bool:
        """Nothing more is to be copied from its workstation: not needed, or known why it cannot be."""
        return self.expendable or self.save_error is not None

    @property
    def left_behind(self) -> bool:
        """What it left could not be saved and nobody tries any more: its worktree stays as it is, for a person."""
        unsaved = self.ended_at is not None and not self.expendable and self.save_error is not None
        return unsaved and (self.salvage_since is None or self.abandoned)

    @property
    def to_be_bundled(self) -> bool:
        """Given up, and what it left behind has not been reported yet."""
        return self.salvage_since is not None and self.bundle is None and not self.settled


class Approval(Stored):
    """A gate that only a person opens; `subject_hash` ties it to exactly what was looked at.

    `over`: it counts no more, and stays so that its id is not given out again: an old answer opens no new gate.
    `why` is what the person said to it, if anything.
    """

    id: str
    gate: Literal["protected_paths", "source_changed", "plan"]
    subject_hash: str
    status: Literal["pending", "approved", "denied", "over"] = "pending"
    message: str = ""
    by: str | None = None
    why: str = ""
    at: AwareDatetime | None = None


class PlanMade(Stored):
    """What an attempt has planned; `amendments` is what the person says to it who approved it.

    `id` is that of its approval, `made_for` a digest of the text that it was made for. Plans are counted in each
    run.
    """

    id: str
    number: int
    attempt: int
    text: str
    made_for: str = ""
    status: Literal["pending", "approved", "denied"] = "pending"
    amendments: str = ""


class Grant(Stored):
    """Something that an agent asked for, and what became of it.

    `asked`: a person decides, who may `approve` that, until `answer_by`. `granted`: it is given to the live
    attempt until `expires_at`; `given_to` says which attempt has it, encrypted for which recipient, `deliveries`
    how often it was laid there, `mark` which value, without telling it, and `stale` that its value is another one
    by now, to be given anew. `over`: it is taken back, for the reason in `why`. `asked_as` is the agent's own name
    for the request; `unasked`: the attempt has it from its beginning to its end.
    """

    id: str
    asked_as: str
    type: str
    access: str
    scope: str = ""
    reason: str = ""
    attempt: int
    asked_at: AwareDatetime
    status: Literal["asked", "granted", "denied", "over"]
    why: str = ""
    by: str = ""
    at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    answer_by: AwareDatetime | None = None
    approve: Literal["write", "admin"] = "write"
    env: str = ""
    ttl_minutes: float = 60
    deliver: Literal["environment", "file"] = "environment"
    given_to: tuple[int, str] | None = None
    deliveries: int = 0
    mark: str = ""
    stale: bool = False
    giving: Tries = Tries()
    unasked: bool = False


class Delivery(Stored):
    """Work that passed the import checks: what was claimed, what was found in the bundle.

    `commits` are all of the branch, oldest first; so many of them, `earlier_total`, it had before. `criteria` are
    those of which the agent said something.
    """

    attempt: int
    claimed_head: str
    pushed_head: str
    base: str
    bundle_sha256: str
    commits: tuple[CommitMade, ...] = ()
    commits_total: int = 0
    earlier_total: int = 0
    files: tuple[FileModified, ...] = ()
    files_total: int = 0
    diff_stat: str = ""
    verification: tuple[VerificationResult, ...] = ()
    summary: str = ""
    decisions: tuple[str, ...] = ()
    criteria: tuple[Criterion, ...] = ()


class Request(Stored):
    """The pull request, or its local likeness."""

    number: int | None = None
    url: str = ""
    head: str = ""
    draft: bool = True
    state: Literal["open", "merged", "closed"] = "open"


class BaseConflict(Stored):
    """Work at `head` that would not merge with the base branch at `base`: in these files, of so many."""

    base: str
    head: str
    files: tuple[str, ...] = ()
    files_total: int = 0


class Effect(Tries):
    """Something that must happen exactly once: pending, being done, done."""

    key: str
    kind: Literal["push", "request"]
    status: Literal["pending", "sending", "done"] = "pending"


class Post(Tries):
    """Something said or done once where the task came from (`on` source) or on its request.

    `comment`: a new one, which notifies; `document`: one with what the agent handed in; `reply`: in the thread
    `target`; `reaction`: the emoji `text` on the comment `target`, or without one on the issue itself;
    `delete_branch`: the branch `text` is not needed any more. `key` stands in the marker by which it is found.
    `number` is that of a request which the task may have left behind.
    """

    key: str
    kind: Literal["comment", "document", "reply", "reaction", "delete_branch"]
    on: Literal["source", "request"] = "source"
    target: str | None = None
    number: int | None = None
    text: str = ""
    sending: bool = False


class Shown(Tries):
    """What a forge shows of a task and is kept current: `applied` is what was shown last, or its hash.

    `life` names run and state as they were then. `sending`: it is being made, and is looked for by its marker.
    `given_up`: the forge refuses it for good.
    """

    remote_id: str | None = None
    applied: str = ""
    life: str = ""
    at: AwareDatetime | None = None
    sending: bool = False
    given_up: bool = False


class Offered(Stored):
    """Another text of the source, as of `at`, by somebody who may not steer: a person takes it or leaves it.

    `over_pause`: a person had paused the task before, and only a person lets it go on. `waits_for` is what it
    waited for then, and waits for again afterwards.
    """

    title: str
    description: str
    text_hash: str
    at: AwareDatetime
    over_pause: bool = False
    waits_for: tuple[Wait, ...] = ()


class Remark(Stored):
    """What a reviewer said, and the thread in which it is answered."""

    feedback: Feedback
    thread: str | None = None


class HistoryEntry(Stored):
    at: AwareDatetime
    source: State
    target: State
    reason: str
    actor: str


class TaskRecord(Stored):
    """One task. Fields up to `base_branch` are its text; the rest is its life.

    `remote_head` is the tip last seen of the task's own branch on the remote. `start_squashed` asks for the
    next attempt to begin with the saved work as uncommitted changes: its commits were refused. `start_from`
    is the attempt whose saved work a person wants the next one to start from. `plan` is the newest of
    this run.
    `topped_up_usd` is what a person has allowed this run beyond `limits.cost_usd`.
    `cli` is the one that the next attempt uses; none: the first of its workstation's chain. `unstuck`: as the one
    try that there is after the last of the chain.
    `remarks` are what reviewers said that no attempt has been told yet; `threads` are those of remarks that one
    was told, and are answered when its work is pushed. `checked_head` is the head of which failed checks were
    taken in last, `fix_rounds` counts the attempts that were made because of them.
    """

    version: Literal[1] = 1
    revision: int = 0
    id: str
    project: str
    source: Source
    trigger: str = "file"
    created_at: AwareDatetime
    parent: str | None = None
    role: Role = "specialist"
    title: str
    description: str = ""
    type: TaskType = "feature"
    priority: Priority = Priority.MEDIUM
    labels: tuple[str, ...] = ()
    specialist: str
    acceptance_criteria: tuple[str, ...] = ()
    verification: tuple[VerificationCommand, ...] = ()
    related_files: tuple[str, ...] = ()
    depends_on: tuple[Dependency, ...] = ()
    limits: Limits = Limits()
    topped_up_usd: float = 0.0
    max_failures: int = 3
    workspace_mode: WorkspaceMode = WorkspaceMode.SHARED
    expects: Expects = "commits"
    allow_empty: bool = False
    plan_approval: bool = False
    base_branch: str

    state: State = State.PENDING
    edited_at: AwareDatetime | None = None
    paused_from: State | None = None
    waits_for: tuple[Wait, ...] = ()
    not_before: AwareDatetime | None = None
    preparing: Tries = Tries()
    attempt: Annotated[int, Field(ge=0)] = 0
    failures: Annotated[int, Field(ge=0)] = 0
    rerun: Annotated[int, Field(ge=1)] = 1
    cli: str | None = None
    unstuck: bool = False
    workstation: str | None = None
    attempts: tuple[Attempt, ...] = ()
    approvals: tuple[Approval, ...] = ()
    grants: tuple[Grant, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    branch: str
    base_commit: str | None = None
    start_squashed: bool = False
    start_from: int | None = None
    plan: PlanMade | None = None
    remote_head: str | None = None
    delivery: Delivery | None = None
    request: Request | None = None
    base_conflict: BaseConflict | None = None
    effects: tuple[Effect, ...] = ()
    posts: tuple[Post, ...] = ()
    posts_made: int = 0
    story: Shown = Shown()
    label: Shown = Shown()
    remarks: tuple[Remark, ...] = ()
    threads: tuple[str, ...] = ()
    checked_head: str | None = None
    fix_rounds: int = 0
    offered: Offered | None = None
    applied_commands: tuple[str, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    metadata: dict[str, str] = Field(default_factory=dict)

    @property
    def live(self) -> Attempt | None:
        """The attempt that counts: the newest, while it has not ended."""
        newest = self.attempts[-1] if self.attempts else None
        return newest if newest is not None and newest.ended_at is None else None

    def at_work_since(self, workstation: str, at: datetime) -> datetime | None:
        """Since when an attempt at it was under way on a workstation, if one was at that time."""
        for attempt in self.attempts:
            ended = attempt.ended_at
            if attempt.workstation == workstation and attempt.started_at <= at and (ended is None or at <= ended):
                return attempt.started_at
        return None

    @property
    def next_approval(self) -> str:
        """The id of the next approval; none is given out twice."""
        taken = (int(approval.id[1:]) for approval in self.approvals if approval.gate != "plan")
        return f"a{1 + max(taken, default=0)}"

    @property
    def next_phase(self) -> Phase:
        """What the next attempt is to do: to plan, as long as a plan is wanted and none is approved."""
        approved = self.plan is not None and self.plan.status == "approved"
        return "plan" if self.plan_approval and not approved else "work"

    @property
    def life_now(self) -> str:
        """Names this run and state, for what is shown of them elsewhere."""
        return f"{self.rerun}.{self.state.value}"

    @property
    def pushed_head(self) -> str | None:
        """What was pushed last in this run, as far as nobody has thrown it away."""
        heads = (a.pushed_head for a in reversed(self.attempts) if a.rerun == self.rerun)
        return next((head for head in heads if head is not None), None)

    @property
    def is_text_newer(self) -> bool:
        """Whether its text was changed after its last attempt had ended: no agent has been told yet."""
        newest = self.attempts[-1] if self.attempts else None
        ended = newest.ended_at if newest is not None else None
        return ended is not None and self.edited_at is not None and self.edited_at > ended

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def moved(self, target: State, *, reason: str, actor: str, at: datetime, **changes: Any) -> Self:
        """This record in another state, with the step in its history; raises TransitionError if not allowed."""
        if not may_move(self.state, target):
            raise TransitionError(self.id, self.state, target)
        step = HistoryEntry(
            at=at, source=self.state, target=target, reason=reason[:MAX_REASON_CHARACTERS], actor=actor
        )
        return self.evolve(state=target, history=(*self.history, step)[-MAX_HISTORY:], **changes)

    def attempt_number(self, number: int) -> Attempt | None:
        return next((a for a in self.attempts if a.number == number), None)

    def with_post(self, post: Post) -> Self:
        """This record with one more thing to be said."""
        return self.evolve(posts=(*self.posts, post))

    def with_attempt(self, number: int, **changes: Any) -> Self:
        """This record with one attempt changed."""
        return self.evolve(attempts=tuple(a.evolve(**changes) if a.number == number else a for a in self.attempts))

    def with_effect(self, effect: Effect) -> Self:
        """This record with this effect in place of the one of the same key, or added."""
        others = tuple(e for e in self.effects if e.key != effect.key)
        return self.evolve(effects=(*others, effect))

    def grant(self, grant_id: str) -> Grant | None:
        return next((g for g in self.grants if g.id == grant_id), None)

    def effect(self, key: str) -> Effect | None:
        return next((e for e in self.effects if e.key == key), None)
