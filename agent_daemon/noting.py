"""`agent-daemon note …` and its like: what an agent may call in its worktree, to tell what people should know.

Each call leaves one file in the attempt's `notes/`, which the daemon folds into the report. Also a program of its
own (`python -m agent_daemon.noting`), which loads little: that is what lies on the PATH of a coding CLI.
"""

import os
import shlex
import shutil
import stat
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
from loguru import logger
from pydantic import ValidationError

from agent_daemon.git_credential import GIVEN_VARIABLE, HELPER, for_git, git_credential
from agent_daemon.hiding import Mask
from agent_daemon.protocol.codec import decode, decode_framed, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import make_folder, read_file, write_file
from agent_daemon.protocol.model import UNDERSTOOD, Credential, Criterion, Reporting, Tasking, utc
from agent_daemon.protocol.notes import MAX_NOTE_CHARACTERS, MAX_NOTES, BlockedBy, Note
from agent_daemon.protocol.paths import LINKS, NOTES, REPORTING, TASKING

# Holds the attempt's folder in `out/` (`execution.ATTEMPT_MARKER`).
ATTEMPT_VARIABLE = "CLOUD_CODE_ATTEMPT"
# Of `credential`, beside 0 for what is granted; 1 and 2 are those of a call that could not be made.
EXIT_DENIED, EXIT_WAITS = 3, 4
MAX_SCOPE_CHARACTERS = 200
_PROGRAM = "agent-daemon"
_ENDED = "Commit what you have and end your work now: it goes on from there."

_words = click.argument("words", nargs=-1, required=True, metavar="TEXT…")
_more = click.argument("words", nargs=-1, metavar="[TEXT…]")


@click.command("note")
@_words
def note(words: tuple[str, ...]) -> None:
    """Say where you are, for whoever watches."""
    _leave(kind="note", text=_text(words))
    click.echo("Noted.")


@click.command("decision")
@_words
def decision(words: tuple[str, ...]) -> None:
    """Put a choice that you made on record, with its reason."""
    _leave(kind="decision", text=_text(words))
    click.echo("Put on record.")


@click.command("criterion")
@click.argument("number", type=click.IntRange(min=1))
@click.argument("status", type=click.Choice(["done", "left"]))
@_more
def criterion(number: int, status: str, words: tuple[str, ...]) -> None:
    """Say that acceptance criterion NUMBER is done, or left undone, and what shows it."""
    known = _criteria(_notes_folder().parent)
    if known is not None and number > len(known):
        raise click.UsageError(f"there is no criterion {number}: the task has {len(known)}")
    _leave(kind="criterion", number=number, status=status, text=_text(words))
    click.echo(f"Criterion {number}: {status}.")


@click.command("blocked")
@click.argument("reason", type=click.Choice(get_args(BlockedBy)))
@_words
def blocked(reason: str, words: tuple[str, ...]) -> None:
    """Say that you cannot go on, and ask what you have to know; the answer comes with the next attempt."""
    _leave(kind="blocked", reason=reason, text=_text(words))
    click.echo(f"The question is put to a person once you have ended. {_ENDED}")


@click.command("credential")
@click.argument("kind", metavar="TYPE")
@click.option("--access", default="read", show_default=True, help="What for: read, write, …")
@click.option("--scope", default="", help="Of what: a registry, a repository, …")
@click.option("--reason", required=True, help="Why it is needed.")
@click.option(
    "--wait", type=click.FloatRange(0, 600), default=15, show_default=True, help="Seconds for an answer."
)
def credential(kind: str, access: str, scope: str, reason: str, wait: float) -> None:
    """Ask for a credential of this TYPE, and wait a little for the answer; asking again tells it later.

    Exit code 0 if it is granted, 3 if it is denied, 4 while it waits for a person.
    """
    if len(scope) > MAX_SCOPE_CHARACTERS:
        raise click.UsageError(f"a scope has at most {MAX_SCOPE_CHARACTERS} characters")
    _leave(kind="credential", type=kind, access=access, scope=scope or None, text=reason)
    until, answer = time.monotonic() + wait, None
    while answer is None and time.monotonic() < until:
        time.sleep(0.1)
        answer = _answer(kind, access, scope)
    if answer is not None:
        click.echo(answer[1])
        sys.exit(answer[0])
    click.echo(_waiting(kind, access, scope))
    click.echo("If you cannot, call `agent-daemon blocked credential WHAT YOU NEED IT FOR`, and end.")
    sys.exit(EXIT_WAITS)


def _waiting(kind: str, access: str, scope: str) -> str:
    """What it waits for."""
    told = [c for c in _decisions() if (c.type, c.access, c.scope) == (kind, access, scope)]
    if told and told[-1].reason and told[-1].status == "pending":
        return f"{told[-1].reason} Go on without it where you can."
    return "A person is asked, which may take long: go on without it where you can."


def _answer(kind: str, access: str, scope: str) -> tuple[int, str] | None:
    """What was decided on a request for this, after its exit code; None while nothing is, or has not come yet."""
    wanted = (kind, access, scope)
    told = [c for c in _decisions() if (c.type, c.access, c.scope) == wanted]
    for found in reversed(told):
        if found.status == "denied":
            return EXIT_DENIED, f"Denied: {found.reason}"
        folder = Path(os.environ.get(GIVEN_VARIABLE, "/nonexistent"))
        if found.status == "injected" and (folder / (found.env or "")).exists():
            until = f" until {found.expires_at:%H:%M:%S} UTC" if found.expires_at else ""
            place = f"${GIVEN_VARIABLE}/{found.env}"
            said = f"Granted{until}: read it from {place}. Put it into no file, and show it nowhere."
            if (folder / for_git(found.env or "")).exists():
                said += f" Git takes it by `git -c credential.helper='{HELPER}' …`."
            return 0, said
    return None


def _decisions() -> tuple[Credential, ...]:
    """What the attempt's tasking says of its requests; nothing where that cannot be read."""
    outbox = _notes_folder().parent
    inbox = outbox.parents[2] / "in" / outbox.parent.name / outbox.name
    try:
        data = read_file(inbox, TASKING).data
        return decode(Tasking, data, file=TASKING, understood=UNDERSTOOD).task.credentials
    except (OSError, ProtocolError):
        return ()


@click.command("handoff")
@click.argument("cli")
@_more
def handoff(cli: str, words: tuple[str, ...]) -> None:
    """Ask that another coding CLI takes over, and say why."""
    _leave(kind="handoff", to=cli, text=_text(words))
    click.echo(_ENDED)


@click.command("specialist")
@click.argument("kind", metavar="TYPE")
@_words
def specialist(kind: str, words: tuple[str, ...]) -> None:
    """Ask that a specialist of another TYPE does this, and say why."""
    _leave(kind="specialist", to=kind, text=_text(words))
    click.echo(_ENDED)


COMMANDS = (note, decision, criterion, blocked, credential, git_credential, handoff, specialist)


def _text(words: tuple[str, ...]) -> str:
    """The words on the command line; of a single `-`, what comes on standard input."""
    text = sys.stdin.read(4 * MAX_NOTE_CHARACTERS + 1) if words == ("-",) else " ".join(words)
    if len(text) > MAX_NOTE_CHARACTERS:
        raise click.UsageError(
            f"the text has more than {MAX_NOTE_CHARACTERS} characters: say it shorter, or put the rest into "
            f"a file in {LINKS}/artifacts/ and name that"
        )
    return text.encode(errors="replace").decode()


def _leave(**fields: Any) -> None:
    """Write the note; click.ClickException in one sentence where that cannot be."""
    folder, given = _notes_folder(), Mask(_given_values())
    hidden = {name: given.hide(value) if isinstance(value, str) else value for name, value in fields.items()}
    try:
        made = Note(revision=1, at=utc(datetime.now(UTC)), **hidden)
    except ValidationError as error:
        raise click.UsageError(_why(error)) from None
    try:
        if sum(1 for _ in folder.iterdir()) >= MAX_NOTES:
            raise click.ClickException(f"there are {MAX_NOTES} notes already: put the rest into your summary")
        write_file(folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.yaml", encode(made, end=True))
    except OSError as error:
        raise click.ClickException(f"the note cannot be written to {folder}: {error.strerror}") from None


def _given_values() -> list[str]:
    """What the attempt was given in secret, which a note is to say nothing of, whoever wrote it there."""
    folder = os.environ.get(GIVEN_VARIABLE)
    if not folder:
        return []
    try:
        return [path.read_text().rstrip("\n") for path in Path(folder).iterdir() if path.is_file()]
    except (OSError, ValueError):
        return []


def _why(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"]).removeprefix("Value error, ")


def _notes_folder() -> Path:
    """That of the attempt whose process this is, else of the worktree around the current folder."""
    marked = os.environ.get(ATTEMPT_VARIABLE)
    if marked and (Path(marked) / NOTES).is_dir():
        return Path(marked) / NOTES
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / LINKS / NOTES).is_dir():
            return (folder / LINKS / NOTES).resolve()
    raise click.ClickException(
        f"this is not the worktree of a task under way ({here}): notes can only be left where an agent works"
    )


def _criteria(outbox: Path) -> tuple[Criterion, ...] | None:
    """The criteria as the report has them; None where that cannot be read."""
    try:
        report = decode_framed(Reporting, read_file(outbox, REPORTING).data, file=REPORTING)
    except (OSError, ProtocolError):
        return None
    return next((task.acceptance_criteria for task in report.tasks.values()), None)


def lay_out(folder: Path) -> Path | None:
    """Put the program `agent-daemon`, with these commands alone, into a folder for a PATH; None where that fails.

    It is isolated from what an agent's environment says of Python. Whatever else lies in the folder is removed:
    an earlier agent may have put it there.
    """
    text = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -m agent_daemon.noting "$@"\n'
    try:
        if not _holds(folder, text):
            if folder.is_symlink() or folder.is_file():
                folder.unlink()
            shutil.rmtree(folder, ignore_errors=True)
            make_folder(folder)
            write_file(folder / _PROGRAM, text.encode(), mode=0o755)
    except OSError as error:
        logger.warning("the commands for agents are not laid out in {}: {}", folder, error)
        return None
    return folder


def _holds(folder: Path, text: str) -> bool:
    program = folder / _PROGRAM
    if folder.is_symlink() or not folder.is_dir() or os.listdir(folder) != [_PROGRAM]:
        return False
    regular = stat.S_ISREG(os.lstat(program).st_mode) and os.access(program, os.X_OK)
    return regular and program.read_text(errors="replace") == text


@click.group(commands=COMMANDS)
def main() -> None:
    """Tell what people should know of the task that you work on; nothing is answered while you work."""


if __name__ == "__main__":
    main(prog_name=_PROGRAM)
