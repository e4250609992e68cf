"""Which root a command works on, and which task a person means."""

import contextlib
import difflib
import os
import pwd
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from agent_daemon.protocol.paths import CONFIG, Root
from supervisor.cli.hidden import hide_for
from supervisor.errors import CloudCodeError

VARIABLE = "CLOUD_CODE_ROOT"
USUAL_ROOT = Path("/srv/cloud-code")


def find_root(given: str | None) -> Root:
    """`--root`, else `$CLOUD_CODE_ROOT`, else the current folder if it holds a config.yaml, else the usual one."""
    named = given or os.environ.get(VARIABLE)
    if named:
        return Root(Path(named).expanduser().resolve())
    here = Path.cwd()
    # (a home may be closed to the service's user, who is given commands there: then nothing is there for that one)
    return Root(here if os.access(here / CONFIG, os.F_OK) else USUAL_ROOT)


def existing_root(ctx: click.Context) -> Root:
    """The root of this call; CloudCodeError when there is none yet."""
    root: Root = ctx.obj
    if not root.config.exists() and not root.state.is_dir():
        new = "~/cloud-code" if root.path == USUAL_ROOT else root.path
        raise CloudCodeError(
            "E_NO_ROOT",
            f"{root.path} is no root of Cloud Code: it holds no config.yaml.",
            f"Make one with `cloud-code init {new}`, or name the right one with --root or ${VARIABLE}.",
        )
    hide_for(root)
    return root


def as_owner(root: Root) -> None:
    """From here on root is who owns the root, such as the service's user: what that one may, and is, counts."""
    try:
        found = root.path.stat()
    except OSError:
        return
    if os.geteuid() != 0 or found.st_uid == 0:
        return
    try:
        owner = pwd.getpwuid(found.st_uid)
        os.initgroups(owner.pw_name, owner.pw_gid)
        os.environ["HOME"] = owner.pw_dir
    except KeyError:
        os.setgroups([])
    os.setgid(found.st_gid)
    os.setuid(found.st_uid)
    with contextlib.suppress(OSError):
        os.chdir(root.path)


def resolve_id(given: str, known: Iterable[str]) -> str:
    """The one task id that this is, or ends in after a dot; CloudCodeError naming candidates otherwise."""
    ids = sorted(set(known))
    if given in ids:
        return given
    found = [task_id for task_id in ids if task_id.endswith(f".{given}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise CloudCodeError(
            "E_AMBIGUOUS_TASK", f"'{given}' may be {_listed(found)}.", "Give one of these as a whole."
        )
    near = difflib.get_close_matches(given, [*ids, *(i.partition(".")[2] for i in ids)], n=1)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    raise CloudCodeError(
        "E_NO_TASK", f"There is no task '{given}'.", f"{hint}`cloud-code task list --all` shows them."
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown + (f" or {len(names) - 8} others" if len(names) > 8 else "")


def record_ids(root: Root) -> list[str]:
    """The ids of all tasks, live and archived: the names of their files."""
    return [*_stems(root.records), *_stems(root.archive)]


def _stems(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [n.removesuffix(".yaml") for n in names if n.endswith(".yaml") and not n.startswith(".")]


# --- completion by the shell ----------------------------------------------------------------------------

Completed = list[CompletionItem]
Complete = Callable[[click.Context, click.Parameter, str], Completed]


def _root_of(ctx: click.Context) -> Root:
    """The root of a command line that is not finished yet."""
    return find_root(ctx.find_root().params.get("root"))


def _items(names: Iterable[str], incomplete: str) -> Completed:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_task(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Completed:
    """Live tasks, by their whole id or by its end."""
    ids = sorted(_stems(_root_of(ctx).records))
    ends = [task_id.partition(".")[2] for task_id in ids]
    return (_items((*ids, *ends), incomplete) if incomplete else []) or _items(ids, incomplete)


def complete_workstation(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Completed:
    return _items(sorted(_stems(_root_of(ctx).workstations)), incomplete)


def complete_from(names: Callable[[Root], Iterable[str]]) -> Complete:
    """What `names` finds in the root; nothing where it raises CloudCodeError."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Completed:
        try:
            return _items(names(_root_of(ctx)), incomplete)
        except CloudCodeError:
            return []

    return complete


def complete_configured(section: str) -> Complete:
    """Names from a section of config.yaml, such as `projects`."""

    def names(root: Root) -> Iterable[str]:
        from supervisor.config import load_config

        found: Iterable[str] = getattr(load_config(root), section)
        return found

    return complete_from(names)


task_argument = click.argument("task_id", metavar="ID", shell_complete=complete_task)
