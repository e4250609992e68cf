"""`cloud-code demo`: the whole way, from a task file to a pushed branch, without an account."""

import shutil
from pathlib import Path

import click
from rich.console import Console

from supervisor.demo import stage as stages
from supervisor.demo.agents import AGENTS, Wishes
from supervisor.demo.play import play
from supervisor.demo.result import show_paths, show_result
from supervisor.demo.view import view_for


@click.command()
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), help="A new or empty folder [default: a fresh one]."
)
@click.option("--cli", "name", type=click.Choice(sorted(AGENTS)), default="scripted", show_default=True)
@click.option(
    "--base-url", help="An endpoint that the coding CLI can talk to, such as http://127.0.0.1:8000/v1 for Codex."
)
@click.option("--model", help="The model's name [default: the coding CLI chooses].")
@click.option(
    "--key-env",
    help="The variable that holds the key [default: OPENAI_API_KEY; claude-code: ANTHROPIC_API_KEY; "
    "gemini: GEMINI_API_KEY].",
)
@click.option("--keep/--remove", default=True, show_default=True, help="Keep or remove the folder at the end.")
def demo(
    folder: Path | None, name: str, base_url: str | None, model: str | None, key_env: str | None, keep: bool
) -> None:
    """Show the whole way: a repository with a failing test, a task file, a branch that mends it.

    Starts the real supervisor and a real agent daemon, shows what each side does, checks the pushed branch on
    a fresh clone, and stops both. Nothing outside of its own folder is touched.
    """
    if name == "scripted" and (base_url or model):
        raise click.UsageError("--base-url and --model are for a real coding CLI: add --cli codex.")
    console = Console(highlight=False)
    agent = AGENTS[name](Wishes(base_url=base_url, model=model, key_name=key_env))
    place = stages.choose_folder(folder)
    try:
        stage = stages.build(place, agent)
        for line in (f"The demo's folder is {place}", agent.introduction):
            console.print(line, markup=False, soft_wrap=True)
        played = play(stage, agent, view_for(console))
        show_result(console, stage, played)
        if keep:
            show_paths(console, stage)
        console.print(
            f"\nDone in {played.seconds:.0f} s: {played.branch} was pushed, and the tests pass on a fresh clone "
            "of it. Supervisor and daemon are stopped.",
            soft_wrap=True,
        )
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
