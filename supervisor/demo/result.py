"""The end of the demo, for a person to read: the request, the diff, the tests before and after, the paths."""

from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.rule import Rule
from rich.syntax import Syntax

from supervisor.demo.play import Played
from supervisor.demo.stage import STATION, TASK_ID, Stage, SuiteRun
from supervisor.terminal import plain


def show_result(console: Console, stage: Stage, played: Played) -> None:
    """Everything that was found, and nothing that was only reported."""
    _rule(console, f"The request: state/requests/{TASK_ID}.md")
    request = plain(played.request)
    _print(console, Markdown(request) if console.is_terminal else request)
    _rule(console, f"The diff of the pushed branch {played.branch}")
    difference = plain(played.difference)
    shown = (
        Syntax(difference, "diff", background_color="default", word_wrap=True)
        if console.is_terminal
        else difference
    )
    _print(console, shown)
    _rule(console, "The tests on a clone of main, before")
    _show_run(console, played.before)
    _rule(console, "The tests on a fresh clone of the pushed branch, run by this demo")
    _show_run(console, played.after)


def show_paths(console: Console, stage: Stage) -> None:
    """Where to look, with ordinary tools."""
    root = stage.root
    _rule(console, "Look for yourself")
    places = (
        ("what a person wrote", stage.task_file),
        ("the configuration", root.config),
        ("what the workstation was told", root.attempt_in(STATION, TASK_ID, 1) / "tasking.yaml"),
        ("what it reported", root.attempt_out(STATION, TASK_ID, 1) / "reporting.yaml"),
        ("its prompt and its logs", root.attempt_out(STATION, TASK_ID, 1) / "logs"),
        ("the worktree", root.worktree(STATION, TASK_ID.partition(".")[0], TASK_ID)),
        ("the task's record", root.record(TASK_ID)),
        ("everything that happened", root.events),
        ("the remote", stage.remote),
        ("clones of main and the branch", f"{stage.before}  {stage.after}"),
        ("the supervisor's log", stage.log),
    )
    for what, path in places:
        _print(console, f"{what:<30} {path}")
    _print(
        console, f"\ncloud-code --root {root.path} status      shows it; `run` in the place of `status` goes on"
    )


def _rule(console: Console, title: str) -> None:
    console.print()
    if console.is_terminal:
        console.print(Rule(title, align="left"))
    else:
        _print(console, f"== {title}")


def _print(console: Console, shown: RenderableType) -> None:
    """Text as it is: no markup, and lines are not broken where somebody may want to copy them."""
    console.print(shown, markup=False, highlight=False, soft_wrap=isinstance(shown, str))


def _show_run(console: Console, run: SuiteRun) -> None:
    shown = f"python -m unittest -v\n{plain(run.output)}\nexit code {run.exit_code}"
    _print(console, shown)
