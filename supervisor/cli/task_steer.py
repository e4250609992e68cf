"""The verbs that steer a task: each gives one command to the supervisor, or carries it out itself."""

from collections.abc import Callable
from typing import Any

import click

from agent_daemon.protocol.paths import Root
from supervisor.cli.giving import give_and_tell
from supervisor.cli.place import complete_configured, existing_root, record_ids, resolve_id, task_argument
from supervisor.cli.reading import read_task
from supervisor.cli.sums import SUM, TakesSum
from supervisor.config import load_config
from supervisor.core.commands import TaskCommandKind
from supervisor.errors import CloudCodeError
from supervisor.running import running_supervisor

_Verb = Callable[..., None]


def _steering(verb: _Verb) -> _Verb:
    """What all of these verbs take: the task, and on what condition."""
    condition = click.option(
        "--if-revision",
        "if_revision",
        type=click.IntRange(min=0),
        metavar="N",
        help="Only if the task is as you saw it (`revision` in `task show --json`), else it is refused.",
    )
    return task_argument(condition(verb))


def _give(ctx: click.Context, kind: TaskCommandKind, task_id: str, if_revision: int | None, **args: Any) -> None:
    root = existing_root(ctx)
    given = {name: value for name, value in args.items() if value is not None}
    found = resolve_id(task_id, record_ids(root))
    _refuse_resting(root, found)
    give_and_tell(root, kind, found, given, if_revision=if_revision)


def _refuse_resting(root: Root, task_id: str) -> None:
    """A task whose project is not configured is known to no supervisor: say so, with the way out."""
    running = running_supervisor(root)
    projects = running.projects if running is not None else tuple(load_config(root).projects)
    project = task_id.partition(".")[0]
    if project not in projects:
        raise CloudCodeError(
            "E_PROJECT_GONE",
            f"{task_id} rests: its project, {project}, is not configured.",
            f"Configure it again and restart `cloud-code run`, or move {root.record(task_id)} to another place.",
        )


@click.command()
@_steering
@click.option("--note", metavar="TEXT", help="What the agent is told: an answer, a hint, what should change.")
@click.option(
    "--from-salvage",
    "from_salvage",
    type=click.IntRange(min=1),
    metavar="N",
    help="Start from the saved work of attempt N (`cloud-code task salvage list ID`).",
)
@click.pass_context
def retry(
    ctx: click.Context, task_id: str, if_revision: int | None, note: str | None, from_salvage: int | None
) -> None:
    """Make another attempt: of a blocked, failed or reviewed task at once, of an ended one from today's base."""
    if from_salvage is not None:
        from supervisor.saved_work import choose

        reader, task = read_task(ctx, task_id)
        choose(reader.root, task, from_salvage)  # says what there is, where that is not
    _give(ctx, "retry", task_id, if_revision=if_revision, note=note, from_salvage=from_salvage)


@click.command()
@_steering
@click.argument("cli", metavar="CLI", shell_complete=complete_configured("clis"))
@click.option("--note", metavar="TEXT", help="What its agent is told.")
@click.pass_context
def handoff(ctx: click.Context, task_id: str, if_revision: int | None, cli: str, note: str | None) -> None:
    """Let another coding CLI go on with a task, also in the middle of an attempt.

    What is under way is stopped and saved, and CLI goes on from it, with a packet of what was done
    (`task packet`).
    """
    _give(ctx, "handoff", task_id, if_revision=if_revision, cli=cli, note=note)


@click.command()
@_steering
@click.option("--reason", metavar="TEXT", help="Kept in the task's history.")
@click.pass_context
def cancel(ctx: click.Context, task_id: str, if_revision: int | None, reason: str | None) -> None:
    """Give a task up. Its agent is stopped within seconds, and what it did is saved in state/salvage/."""
    _give(ctx, "cancel", task_id, if_revision=if_revision, reason=reason)


@click.command()
@_steering
@click.pass_context
def pause(ctx: click.Context, task_id: str, if_revision: int | None) -> None:
    """Hold a task: its agent is stopped, its worktree kept, its workstation free for others."""
    _give(ctx, "pause", task_id, if_revision=if_revision)


@click.command()
@_steering
@click.pass_context
def resume(ctx: click.Context, task_id: str, if_revision: int | None) -> None:
    """Let a paused task go on where it was."""
    _give(ctx, "resume", task_id, if_revision=if_revision)


@click.command()
@_steering
@click.argument("approval", required=False)
@click.option("--note", metavar="TEXT", help="What you say to a plan; the agent is told both.")
@click.pass_context
def approve(
    ctx: click.Context, task_id: str, if_revision: int | None, approval: str | None, note: str | None
) -> None:
    """Let a plan be carried out (`task show`), work be pushed that changes protected files (`task diff`), or an
    agent have what it asks for (`credential list`).

    APPROVAL is the id of what is approved, such as plan-001, a1 or cred-001; without it, what is open.
    """
    _give(ctx, "approve", task_id, if_revision=if_revision, approval=approval, note=note)


@click.command()
@_steering
@click.argument("text")
@click.pass_context
def answer(ctx: click.Context, task_id: str, if_revision: int | None, text: str) -> None:
    """Answer what a task asks: another attempt is told. A plan that waits is approved with this amendment."""
    _give(ctx, "answer", task_id, if_revision=if_revision, note=text)


@click.command()
@_steering
@click.argument("approval", required=False)
@click.option("--reason", metavar="TEXT", help="What the agent is told.")
@click.pass_context
def deny(
    ctx: click.Context, task_id: str, if_revision: int | None, approval: str | None, reason: str | None
) -> None:
    """Have a plan made anew, send work back, or refuse a credential; the agent is told the reason."""
    _give(ctx, "deny", task_id, if_revision=if_revision, approval=approval, reason=reason)


@click.command(cls=TakesSum)
@_steering
@click.argument("usd", metavar="USD", type=SUM)
@click.pass_context
def top_up(ctx: click.Context, task_id: str, if_revision: int | None, usd: float) -> None:
    """Raise a task's limit of cost by USD. If it waits for that, it goes on from the work that it has done.

    The limit is `cost_usd` of the task, or else the smallest `reserve_usd` of the budgets that it falls under;
    USD comes on top. What is left of these budgets must hold it, too: `cloud-code budget top-up`.
    """
    _give(ctx, "top-up", task_id, if_revision, usd=usd)
