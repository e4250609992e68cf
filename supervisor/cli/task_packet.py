"""`cloud-code task packet`: the hand-over packet of a task, to read."""

import click

from supervisor.cli.output import json_option, print_json, show, text
from supervisor.cli.place import task_argument
from supervisor.cli.reading import read_task
from supervisor.core.chain import run_so_far
from supervisor.core.tasking import goes_before
from supervisor.errors import CloudCodeError
from supervisor.packets import compose_packet, read_packet, told_of


@click.command()
@task_argument
@click.option(
    "--attempt",
    "number",
    type=click.IntRange(min=1),
    help="The packet that this attempt was given  [default: the one that the next would be given].",
)
@json_option
@click.pass_context
def packet(ctx: click.Context, task_id: str, number: int | None, as_json: bool) -> None:
    """Show what whoever goes on with a task is told of the attempts before.

    The blocks hold words of agents and of programs: nobody has checked them.
    """
    reader, task = read_task(ctx, task_id)
    attempt = task.attempt_number(number) if number is not None else None
    if number is not None and attempt is None:
        had = f"it has had {task.attempt}" if task.attempt else "none has been made yet"
        raise CloudCodeError("E_NO_ATTEMPT", f"{task.id} has no attempt {number}: {had}.")
    before = goes_before(task, attempt) if attempt is not None else run_so_far(task)
    if not before:
        whose = f"Attempt {number} of {task.id} is" if number is not None else f"{task.id} waits for"
        raise CloudCodeError("E_NO_PACKET", f"{whose} the first of its run: there is nothing to hand over.")
    given = read_packet(reader.root, task, attempt) if attempt is not None else None
    role = attempt.role if attempt is not None else "unstuck" if task.unstuck else "specialist"
    page = given or compose_packet(reader.root, task, before, whole=role == "unstuck")
    if as_json:
        told = [told_of(reader.root, task, each) for each in before]
        print_json({"task": task.id, "attempt": number, "attempts": told, "text": page})
        return
    show(text(page, lines=True))
