"""Calling git inside the workstation, where the repository may have been bent by the agent.

The user's and the system's configuration, hooks, monitors, signing and automatic maintenance are switched
off, nothing is ever asked on a terminal, and large files of git-lfs stay pointers. The repository's own
configuration cannot be switched off: the worst it can do is what the agent can do anyway.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent_daemon.protocol.model import Identity

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "commit.gpgsign=false",
    "submodule.recurse=false",
    "filter.lfs.process=",  # where git-lfs is installed it would fetch, and keep content that nobody hands in
    "filter.lfs.smudge=",
    "filter.lfs.clean=",
    "filter.lfs.required=false",
    "worktree.useRelativePaths=false",
    "merge.renameLimit=1000",  # as where the supervisor tries a merge: both must come to the same answer
)
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_EDITOR": "true",
    "GIT_OPTIONAL_LOCKS": "0",  # looking must not get in the way of the agent's own git
}
_LONGEST_MESSAGE = 2000


class GitError(Exception):
    """A git command failed; the message names the command and ends with what git said.

    `exit_code` is None for one that was ended; `output` is what it had printed.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path | None,
        reason: str,
        *,
        exit_code: int | None = None,
        output: bytes = b"",
    ) -> None:
        self.reason, self.exit_code, self.output = reason, exit_code, output
        super().__init__(f"git {' '.join(arguments)} in {folder}: {reason}")


def identity_environment(identity: Identity) -> dict[str, str]:
    """What makes git commit under this name."""
    return {
        "GIT_AUTHOR_NAME": identity.name,
        "GIT_AUTHOR_EMAIL": identity.email,
        "GIT_COMMITTER_NAME": identity.name,
        "GIT_COMMITTER_EMAIL": identity.email,
    }


def git(
    *arguments: str,
    folder: Path,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    stdout: int = subprocess.PIPE,
    keep_open: int | None = None,
    check: bool = True,
    timeout_seconds: float = 600,
) -> bytes:
    """Run git in a folder and return what it printed; with `stdout` given, into that descriptor instead.

    The descriptor `keep_open`, a lock's, is passed on, so that the lock lives as long as git.
    GitError when it fails (unless not `check`: then what it printed, or nothing) or takes too long; then
    its whole process group is ended.
    """
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    process = subprocess.Popen(
        ["git", *settings, "-C", str(folder), *arguments],
        env=_environment(folder, environment),
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.PIPE,
        # A group, but no session of its own: a sweep of an agent's processes must be able to tell it apart.
        process_group=0,
        pass_fds=() if keep_open is None else (keep_open,),
    )
    try:
        output, errors = process.communicate(stdin, timeout=timeout_seconds)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise GitError(arguments, folder, f"took longer than {timeout_seconds:.0f} s") from None
        raise
    if check and process.returncode != 0:
        said = errors.decode("utf-8", "replace").strip()[-_LONGEST_MESSAGE:]
        code = process.returncode
        raise GitError(arguments, folder, said or f"exit code {code}", exit_code=code, output=output or b"")
    return output or b""


def git_text(*arguments: str, folder: Path, check: bool = True) -> str:
    """What git printed, as one stripped text."""
    return git(*arguments, folder=folder, check=check).decode("utf-8", "replace").strip()


def git_paths(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None, check: bool = True
) -> list[bytes]:
    """What git printed with ``-z``, cut at the NULs."""
    output = git(*arguments, folder=folder, environment=environment, check=check)
    return [part for part in output.split(b"\0") if part]


def commit_of(folder: Path, name: str) -> str | None:
    """The full hash of the commit that a name stands for; None when there is none."""
    name = f"{name}^{{commit}}"
    return (
        git_text("rev-parse", "--verify", "--quiet", "--end-of-options", name, folder=folder, check=False) or None
    )


def merge_base(folder: Path, one: str, other: str) -> str | None:
    """A best common ancestor of two commits; None when there is none, or one of them is missing."""
    return git_text("merge-base", "--end-of-options", one, other, folder=folder, check=False) or None


def is_ancestor(folder: Path, ancestor: str, commit: str) -> bool:
    """Whether the second commit descends from the first, or is it; the first must be a full hash."""
    return merge_base(folder, ancestor, commit) == ancestor


def _environment(folder: Path, more: Mapping[str, str] | None) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": "/nonexistent",
        **_ENVIRONMENT,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": str(folder.absolute()),
        **(more or {}),
    }
