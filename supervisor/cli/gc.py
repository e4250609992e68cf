"""`cloud-code gc`: what of ended tasks is removed, by which rule, and what is kept and why."""

from datetime import UTC, datetime
from pathlib import Path

import click

from agent_daemon.protocol.paths import Root
from supervisor.cli.giving import give_and_tell
from supervisor.cli.output import json_option, note, print_json, progress, say, show, state_text, table
from supervisor.cli.reading import reader_of
from supervisor.core.cleanup import Candidate, decide
from supervisor.core.times import duration
from supervisor.core.words import count, size
from supervisor.runs import runs_by_now
from supervisor.survey import survey

MAX_ROWS = 200
_ORDER = {"doubt": 0, "remove": 1, "keep": 2}


@click.command()
@click.option("--dry-run", "-n", is_flag=True, help="Remove nothing: say what would be, and why.")
@click.option("--all", "-a", "every", is_flag=True, help="With --dry-run: also what is only too young.")
@json_option
@click.pass_context
def gc(ctx: click.Context, dry_run: bool, every: bool, as_json: bool) -> None:
    """Remove what ended tasks left behind, by the rules under `cleanup` in config.yaml.

    Only what is recorded, ended and saved elsewhere. The supervisor does this by itself every few hours.
    """
    reader = reader_of(ctx)
    config = reader.config()
    if not dry_run:
        give_and_tell(reader.root, "clean", "root")
        return
    with progress("looking at everything that has ended"):
        seen = survey(reader.root, config, runs_by_now(reader.root, datetime.now(UTC)))
        candidates = decide(seen.found, seen.clones, seen.room, config.cleanup, seen.unreadable)
    candidates.sort(key=lambda c: (_ORDER[c.verdict], c.kind, -c.age_seconds))
    if as_json:
        print_json([vars(c) | {"path": str(path_of(reader.root, c))} for c in candidates])
        return
    shown = [c for c in candidates if every or not c.waiting]
    if shown:
        columns = ("VERDICT", "WHAT", "SIZE", "AGE", "RULE", "WHERE", "WHY")
        show(table(columns, [_row(reader.root, candidate) for candidate in shown[:MAX_ROWS]]))
    if len(shown) > MAX_ROWS:
        note(f"… and {len(shown) - MAX_ROWS} more: --json lists all")
    removed = [c for c in candidates if c.verdict == "remove"]
    total = size(sum(c.size_bytes or 0 for c in removed))
    unknown = sum(c.size_bytes is None for c in removed)
    more = f" and {unknown} of unknown size" if unknown else ""
    young = sum(c.waiting for c in candidates)
    kept = f"{count(young, 'thing is', 'things are')} kept because of {'its' if young == 1 else 'their'} age"
    listed = "" if every or not young else " (--all lists what)"
    say(f"{len(removed)} would be removed ({total}{more}); {kept}{listed}.")


def _row(root: Root, candidate: Candidate) -> tuple[object, ...]:
    what = f"{candidate.kind} of {candidate.task or candidate.project}"
    return (
        state_text(candidate.verdict),
        f"{what}, attempt {candidate.attempt}" if candidate.attempt else what,
        size(candidate.size_bytes),
        duration(candidate.age_seconds),
        candidate.rule,
        str(path_of(root, candidate).relative_to(root.path)),
        candidate.reason,
    )


def path_of(root: Root, candidate: Candidate) -> Path:
    """Where it is, as its record says."""
    task, number, station = candidate.task or "", candidate.attempt or 1, candidate.workstation or ""
    match candidate.kind:
        case "salvage":
            return root.salvaged(task, number)
        case "held":
            return root.held_bundle(task, number)
        case "output":
            return root.attempt_out(station, task, number)
        case "record":
            return root.archived(task)
        case "clone":
            return root.clone(station, candidate.project)
    return root.task_workspace(station, task, candidate.workspace_mode).worktree
