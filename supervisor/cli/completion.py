"""`cloud-code completion`: the script by which a shell completes commands, task ids and workstations."""

import click
from click.shell_completion import get_completion_class

from supervisor.cli.main import COMPLETION

_WHERE = {
    "bash": "cloud-code completion bash > ~/.cloud-code.bash   (and `source ~/.cloud-code.bash` in ~/.bashrc)",
    "zsh": "cloud-code completion zsh > ~/.zfunc/_cloud-code   (and `fpath=(~/.zfunc $fpath)` before compinit)",
    "fish": "cloud-code completion fish > ~/.config/fish/completions/cloud-code.fish",
}


@click.command(epilog="\b\n" + "\n".join(_WHERE.values()))
@click.argument("shell", type=click.Choice(list(_WHERE)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell, to be kept where the shell looks for such scripts."""
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"there is no completion for {shell}")
    script = made(ctx.find_root().command, {}, "cloud-code", COMPLETION).source()
    # zsh runs an autoloaded file's text as a function from its second call on, which is no loading any more.
    click.echo(script.replace("== loadautofunc ]]", "== (loadautofunc|shfunc) ]]"))
