"""What a person can do about a waiting task, and the command for it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent_daemon.protocol.model import WaitReason
from agent_daemon.protocol.outcomes import NOT_STARTED
from supervisor.core.credentials import said_why
from supervisor.core.delivery import is_work_done
from supervisor.core.planning import is_plan_stale, pending_plan
from supervisor.core.record import TaskRecord, Wait
from supervisor.core.retry import BASE_CONFLICT, parked_until
from supervisor.core.secret_wait import mend_of, secret_wait
from supervisor.core.states import State


@dataclass(frozen=True, kw_only=True)
class Action:
    """Something a person can do, and the command for it; no command where it is done elsewhere."""

    text: str
    command: str = ""


# What stands behind each reason, as in "it waits for …".
WAITED_FOR = {
    WaitReason.CREDENTIAL: "working credentials",
    WaitReason.QUESTION: "an answer",
    WaitReason.APPROVAL: "an approval",
    WaitReason.HANDOFF: "a hand-over",
    WaitReason.QUOTA: "the provider's quota",
    WaitReason.BUDGET: "a larger budget",
    WaitReason.CONFLICT: "a conflict to be settled",
    WaitReason.HUMAN: "a person",
}


def answers(
    task: TaskRecord, cancelled: Iterable[str] = (), unknown: Iterable[str] = (), *, resting: bool = False
) -> tuple[Action, ...]:
    """What ends a task's waiting for a person, the usual answer first; empty when it waits for nobody.

    `cancelled` are the cancelled tasks that it depends on, `unknown` those that do not exist; `resting` says that
    its project is not configured.
    """
    if resting and not task.ended:
        return (
            Action(text=f"Configure the project {task.project} again in config.yaml, and restart the supervisor"),
            Action(text=f"Or give it up: move state/tasks/{task.id}.yaml to another place"),
        )
    return (*_secret_answers(task), *_request_answers(task), *_state_answers(task, cancelled, unknown))


def _secret_answers(task: TaskRecord) -> tuple[Action, ...]:
    """What brings work on that waits for what Vault does not give at the moment."""
    awaited = secret_wait(task)
    if awaited is None:
        return ()
    text, command = mend_of(awaited.code)
    return (Action(text=text, command=command),)


def _request_answers(task: TaskRecord) -> tuple[Action, ...]:
    """What the agent asks for and a person decides, whether or not it goes on meanwhile."""
    asked = [] if task.ended else [grant for grant in task.grants if grant.status == "asked"]
    return tuple(
        action
        for grant in asked
        for action in (
            Action(
                text=f"Let it have {grant.type}, {grant.access}"
                + f" ({grant.scope})" * bool(grant.scope)
                + f"; it says: {said_why(grant)}" * bool(grant.reason),
                command=f"cloud-code task approve {task.id} {grant.id}",
            ),
            Action(text="Or say why not", command=f"cloud-code task deny {task.id} {grant.id} --reason '…'"),
        )
    )


def _state_answers(task: TaskRecord, cancelled: Iterable[str], unknown: Iterable[str]) -> tuple[Action, ...]:
    match task.state:
        case State.PENDING:
            again = [
                Action(text=f"Run {name} again", command=f"cloud-code task retry {name}") for name in cancelled
            ]
            missing = [Action(text=f"Correct `depends_on`, or add the task {name}") for name in unknown]
            other = Action(text="Or depend on something else", command=f"cloud-code task edit {task.id}")
            return (*again, *missing, other) if again or missing else ()
        case State.BLOCKED:
            return _blocked_answers(task) if parked_until(task) is None else ()
        case State.REVIEW:
            return (
                Action(text="See what it changes", command=f"cloud-code task diff {task.id}"),
                *_wanted_attempt(task),
                _merge_action(task),
            )
        case State.PAUSED if task.offered is not None:
            return _offer_answers(task)
        case State.PAUSED:
            return (Action(text="Let it go on", command=f"cloud-code task resume {task.id}"),)
        case _:
            return ()


def _wanted_attempt(task: TaskRecord) -> list[Action]:
    """What speaks for another attempt at work in review: its text was changed since, or its base branch."""
    if task.is_text_newer:
        return [retry_action(task, "Its text was changed since: make another attempt with it")]
    if task.base_conflict is not None:
        return [retry_action(task, f"Have {task.base_branch} merged into it by another attempt")]
    return []


def _merge_action(task: TaskRecord) -> Action:
    if task.request is not None and task.request.number is not None:
        return Action(text=f"Review and merge {task.request.url}")
    return Action(text=f"Merge {task.branch} into {task.base_branch} on the remote")


def _offer_answers(task: TaskRecord) -> tuple[Action, ...]:
    """Somebody who may not steer has changed the text of the source."""
    ref = next((f" {wait.ref}" for wait in task.waits_for if wait.ref), "")
    return (
        Action(text=f"See the changed text: {task.source.url}"),
        Action(text="Take it, and go on with it", command=f"cloud-code task approve {task.id}{ref}"),
        Action(text="Go on with the text that was approved", command=f"cloud-code task deny {task.id}{ref}"),
    )


def _blocked_answers(task: TaskRecord) -> tuple[Action, ...]:
    found = [action for wait in task.waits_for for action in _ANSWERS[wait.reason](task, wait)]
    return tuple(dict.fromkeys(found)) or (retry_action(task, "Make another attempt"),)


def retry_action(task: TaskRecord, text: str, note: bool = False) -> Action:
    """Another attempt; with `note` a person's words go with it."""
    return Action(text=text, command=f"cloud-code task retry {task.id}" + (" --note '…'" if note else ""))


def _approval_answers(task: TaskRecord, wait: Wait) -> list[Action]:
    name = f" {wait.ref}" if wait.ref else ""
    if is_plan_stale(task):
        anew = retry_action(task, "Its text was changed after that: have it planned anew")
        return [anew, Action(text="Read the plan", command=f"cloud-code task show {task.id}")]
    if pending_plan(task) is not None:
        return [
            Action(text="Read the plan", command=f"cloud-code task show {task.id}"),
            Action(text="Let it go on with the plan", command=f"cloud-code task approve {task.id}{name}"),
            Action(text="Or with what you say to it", command=f"cloud-code task answer {task.id} '…'"),
            Action(text="Have it planned anew", command=f"cloud-code task deny {task.id}{name} --reason '…'"),
        ]
    return [
        Action(text="See what it changes", command=f"cloud-code task diff {task.id}"),
        Action(text="Let it be pushed", command=f"cloud-code task approve {task.id}{name}"),
        Action(text="Send it back", command=f"cloud-code task deny {task.id}{name} --reason '…'"),
    ]


def _conflict_answers(task: TaskRecord, wait: Wait) -> list[Action]:
    if any(item.code == BASE_CONFLICT for item in task.feedback):
        return [
            Action(text="See what it changes", command=f"cloud-code task diff {task.id}"),
            retry_action(task, "Make another attempt, and say how both go together", note=True),
        ]
    if "E_BRANCH_EXISTS" in wait.message:
        return [
            Action(text=f"Rename or delete the branch {task.branch} on the remote"),
            retry_action(task, "Then make another attempt"),
        ]
    return [
        Action(text=f"Look at what was pushed to {task.branch} on the remote"),
        retry_action(task, "Make another attempt that goes on from there, and from the work done here"),
    ]


def _budget_answers(task: TaskRecord, wait: Wait) -> list[Action]:
    if "E_NO_PRICE" in wait.message:
        return [
            Action(text="Add the model to `prices` in config.yaml, and restart the supervisor"),
            Action(text="Or take cost_usd out of its limits", command=f"cloud-code task edit {task.id}"),
            retry_action(task, "Then make another attempt"),
        ]
    return [
        Action(text="Let it cost more, and go on from its work", command=f"cloud-code task top-up {task.id} USD"),
        Action(text="Or raise another limit", command=f"cloud-code task edit {task.id}"),
        retry_action(task, "Then make another attempt"),
    ]


# What in a task's text helps against a failure.
_EDITS = {
    "E_CLI_HUNG": "See in its log what it waited for; if it worked, raise limits.timeout_minutes of the task",
    "E_CLI_TURN_LIMIT": "Allow it more turns: limits.max_turns in the task's file",
    "E_EMPTY_RESULT": "Say more clearly what is wanted, or allow_empty: true",
}

# What is wrong with a project's remote, and where it is mended.
_REMOTE_MENDS = {
    "E_NO_REPOSITORY": "Correct projects.{0}.repository in config.yaml, and restart the supervisor",
    "E_REPOSITORY_MOVED": "Correct projects.{0}.repository in config.yaml, and restart the supervisor",
    "E_REMOTE_OWNER": "Give the repository to the user of the supervisor, or name it by an ssh address",
    "E_EMPTY_REPOSITORY": "Push a first commit to the repository of {0}",
    "E_NO_BRANCH": "Correct projects.{0}.base_branch in config.yaml (or the task's), and restart the supervisor",
    "E_AUTHENTICATION": "Give the user of the supervisor access to the repository of {0}",
    "E_UNREACHABLE": "See why the repository of {0} cannot be reached",
}


def remote_answers(task: TaskRecord, error: str) -> list[Action]:
    """What a person mends first when the project's remote is in the way."""
    mend = _REMOTE_MENDS.get(error.partition(":")[0])
    if mend is None:
        return []
    return [
        Action(text=mend.format(task.project)),
        Action(text="See whether it helps", command="cloud-code doctor"),
    ]


def _credential_answers(task: TaskRecord, wait: Wait) -> list[Action]:
    if wait.ref is None:
        return [
            Action(
                text="See its keys and logins, and whether a login was copied",
                command="cloud-code workstation clis",
            ),
            Action(text="Give the coding CLI working credentials (`clis` in config.yaml)"),
            retry_action(task, "Then make another attempt"),
        ]
    grant = task.grant(wait.ref)
    if grant is not None and grant.status == "granted":
        text, command = mend_of((grant.giving.error or "").partition(":")[0])
        return [
            Action(text=text, command=command),
            retry_action(task, "Or make another attempt, and say how to go on without", note=True),
        ]
    return [
        Action(text="See what the agent asks for, and why", command=f"cloud-code task show {task.id}"),
        retry_action(task, "Then make another attempt, or say how to go on without", note=True),
    ]


def _handoff_answers(task: TaskRecord, wait: Wait) -> list[Action]:
    over = Action(text=f"Let {wait.ref} take over", command=f"cloud-code task handoff {task.id} {wait.ref}")
    return [*([over] if wait.ref else []), retry_action(task, "Make another attempt", note=True)]


def _human_answers(task: TaskRecord, wait: Wait) -> list[Action]:
    if wait.ref is not None:
        text = f"Write `specialist: {wait.ref}`, if there are workstations of that type"
        return [
            Action(text=text, command=f"cloud-code task edit {task.id}" * (task.source.kind == "file")),
            retry_action(task, "Make another attempt, with a hint", note=True),
        ]
    remote = remote_answers(task, wait.message)
    if is_work_done(task):
        again = "Have it delivered again" if task.delivery is not None else "Have it inspected again"
        return [*remote, retry_action(task, again), retry_action(task, "Or make another attempt", note=True)]
    if remote:
        return [*remote, retry_action(task, "Then make another attempt")]
    if task.request is not None and task.request.state == "closed":
        return [retry_action(task, "Make another attempt that goes on from its work", note=True)]
    if "E_DEPENDENCY_CYCLE" in wait.message:
        edit = Action(text="Change `depends_on` of one of them", command=f"cloud-code task edit {task.id}")
        return [edit, retry_action(task, "Then let it wait again")]
    if task.attempts and task.attempts[-1].code == NOT_STARTED:
        return [
            Action(text="See which coding CLIs can be started", command="cloud-code workstation clis"),
            Action(text="Install what is missing, or correct `clis` in config.yaml and restart the supervisor"),
            retry_action(task, "Then make another attempt"),
        ]
    logs = [Action(text="Read what the agent did", command=f"cloud-code task logs {task.id}")]
    logs = [*verification_logs(task), *logs] if task.attempts else []
    return [*logs, *_edit_answers(task), retry_action(task, "Make another attempt, with a hint", note=True)]


def _edit_answers(task: TaskRecord) -> list[Action]:
    """What in the task's text would help against what went wrong."""
    return [
        Action(text=text, command=f"cloud-code task edit {task.id}")
        for code, text in _EDITS.items()
        if any(item.code == code for item in task.feedback)
    ]


def verification_logs(task: TaskRecord) -> list[Action]:
    """Where to read what each verification command printed that failed in the newest attempt."""
    told = [item.message for item in task.feedback if item.code == "E_VERIFICATION_FAILED"]
    return [
        Action(
            text=f"Read what '{command.name}' printed", command=f"cloud-code task logs {task.id} --log verify-{n}"
        )
        for n, command in enumerate(task.verification, start=1)
        if any(message.startswith(f"verification '{command.name}' failed") for message in told)
    ]


_ANSWERS: dict[WaitReason, Callable[[TaskRecord, Wait], list[Action]]] = {
    WaitReason.APPROVAL: _approval_answers,
    WaitReason.CONFLICT: _conflict_answers,
    WaitReason.QUESTION: lambda task, _: [
        Action(text="Answer the question", command=f"cloud-code task answer {task.id} '…'")
    ],
    WaitReason.CREDENTIAL: _credential_answers,
    WaitReason.QUOTA: lambda task, _: [
        retry_action(task, "Make another attempt when the provider's quota allows it")
    ],
    WaitReason.BUDGET: _budget_answers,
    WaitReason.HANDOFF: _handoff_answers,
    WaitReason.HUMAN: _human_answers,
}
