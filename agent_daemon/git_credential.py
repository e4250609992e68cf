"""Git's way to what an attempt was given: a credential helper that knows the hosts of that and no other.

Git starts `agent-daemon git-credential get` when a host wants a password, tells it which (gitcredentials(7)), and
reads the answer from a pipe: the token is in no argument, no address, no file but the one in memory.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

# Names the folder of what is given (`credentials.VARIABLE`).
GIVEN_VARIABLE = "CLOUD_CODE_CREDENTIALS"
HELPER = "!agent-daemon git-credential"
_SUFFIX = ".git"
_MAX_CHARACTERS = 64 * 1024


def for_git(variable: str) -> str:
    """The file beside a value that says for which host it is, and the name that goes with it."""
    return f".{variable}{_SUFFIX}"


def helper_variables(hosts: Sequence[str], before: Mapping[str, str]) -> dict[str, str]:
    """The variables that make git ask the helper for these hosts alone, after what is configured already."""
    if not hosts:
        return {}
    told = before.get("GIT_CONFIG_COUNT", "")
    first = int(told) if told.isascii() and told.isdecimal() else 0
    found = {"GIT_CONFIG_COUNT": str(first + len(hosts))}
    for number, host in enumerate(hosts, start=first):
        found[f"GIT_CONFIG_KEY_{number}"] = f"credential.{host}.helper"
        found[f"GIT_CONFIG_VALUE_{number}"] = HELPER
    return found


def answer(folder: Path, asked: Mapping[str, str]) -> tuple[str, str] | None:
    """The user's name and the password for what git asks; None where nothing was given for that host."""
    wanted = f"{asked.get('protocol')}://{asked.get('host')}"
    for place in sorted(folder.glob(f".*{_SUFFIX}")):
        try:
            url, user = place.read_text()[:_MAX_CHARACTERS].splitlines()
            value = (folder / place.name[1 : -len(_SUFFIX)]).read_text()[:_MAX_CHARACTERS].strip()
        except (OSError, ValueError):
            continue
        if url == wanted and asked.get("username", user) == user and value and "\n" not in value:
            return user, value
    return None


@click.command("git-credential")
@click.argument("what")
def git_credential(what: str) -> None:
    """Answer git, which calls this as its credential helper, for the host of a token that was granted."""
    if what != "get":  # (git would have it kept, or forgotten: it is the daemon's)
        return
    lines = sys.stdin.read(_MAX_CHARACTERS).splitlines()
    asked = dict(line.split("=", 1) for line in lines if "=" in line)
    found = answer(Path(os.environ.get(GIVEN_VARIABLE, "/nonexistent")), asked)
    if found is not None:
        click.echo(f"username={found[0]}\npassword={found[1]}")
