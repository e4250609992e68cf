"""Run git on the host: hardened, limited, ended as a whole. Nothing else here starts git.

Every way in which a repository, a user's or the system's configuration could run a program or send a
credential elsewhere is closed here. The repositories are our own: mirrors and quarantines.
"""

import contextlib
import errno
import os
import re
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from supervisor.git.credential import Credential
from supervisor.git.errors import GitError, from_stderr

__all__ = ["Credential", "GitError", "Limits", "end_leftovers", "open_git", "run_git"]

MARK = "CLOUD_CODE_GIT"
MAX_OUTPUT_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_WORDS_BYTES = 4096
_ENDED_BY_LIMIT = {-signal.SIGXCPU, -signal.SIGXFSZ, -signal.SIGKILL, -signal.SIGSEGV}
_OUT_OF_MEMORY = re.compile(rb"[Oo]ut of memory|Cannot allocate memory")

_ENVIRONMENT = {
    "LC_ALL": "C",
    "TZ": "UTC",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "file:https:ssh",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=15",
}

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.packedGitWindowSize=32m",  # a mirror's packs are mapped piecemeal, so that limited memory suffices
    "core.packedGitLimit=256m",
    "core.bigFileThreshold=16m",  # larger files are streamed, and diffs call them binary
    "gc.auto=0",
    "maintenance.auto=false",
    "credential.helper=",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1",  # a call whose supervisor was killed ends by itself
    "http.lowSpeedTime=60",
    "submodule.recurse=false",
    "push.recurseSubmodules=no",
    "log.showSignature=false",
    "merge.renameLimit=1000",  # a trial merge of thousands of moved files must not take hours
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the kernel allows one git process, for input that an agent made; bytes and seconds."""

    memory_bytes: int = 1024**3
    cpu_seconds: int = 60
    file_bytes: int = 1024**3


def run_git(
    arguments: Sequence[str],
    *,
    git_dir: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | BinaryIO | None = None,
    timeout_seconds: float = 120,
    limits: Limits | None = None,
    owner: Path | None = None,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
) -> bytes:
    """What git prints; arguments as for `open_git`. GitError; E_GIT_OUTPUT when it prints too much."""
    with open_git(
        arguments,
        git_dir=git_dir,
        environment=environment,
        stdin=stdin,
        timeout_seconds=timeout_seconds,
        limits=limits,
        owner=owner,
    ) as output:
        printed = bytearray()
        while chunk := output.read(_CHUNK_BYTES):
            printed += chunk
            if len(printed) > max_output_bytes:
                raise GitError("E_GIT_OUTPUT", f"git {arguments[0]} printed more than {max_output_bytes} bytes.")
    return bytes(printed)


@contextlib.contextmanager
def open_git(
    arguments: Sequence[str],
    *,
    git_dir: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | BinaryIO | None = None,
    timeout_seconds: float = 120,
    limits: Limits | None = None,
    owner: Path | None = None,
) -> Iterator[IO[bytes]]:
    """Run git and give its standard output; who stops reading early ends it.

    A file as `stdin` is read from its descriptor's position. `owner` is the folder for whose sake git runs
    (default: `git_dir`), by which `end_leftovers` finds it. GitError: E_GIT_TIMEOUT, E_GIT_LIMIT, or what
    git's words mean.
    """
    with (
        tempfile.TemporaryDirectory(prefix="cloud-code-git-") as home,
        tempfile.TemporaryFile() as errors,
        _as_file(stdin) as source,
    ):
        _make_room(errors)
        variables = _variables(Path(home), git_dir, owner) | dict(environment or {})
        process = _start(_command_line(arguments, git_dir, limits), variables, home, source, errors)
        expired = threading.Event()
        timer = threading.Timer(timeout_seconds, _expire, (process, expired))
        timer.start()
        output = process.stdout
        assert output is not None  # noqa: S101 (for the type checker)
        try:
            yield output
            output.close()
            _has_ended(process, timeout_seconds + 5)
        finally:
            output.close()
            timer.cancel()
            timer.join()
            # What is left of the group is killed while its leader is not yet reaped: its number is still ours.
            _signal_group(process, signal.SIGKILL)
            process.wait()
        if expired.is_set():
            raise GitError(
                "E_GIT_TIMEOUT", f"git {arguments[0]} took more than {timeout_seconds:g} s.", retryable=True
            )
        _check_exit(arguments[0], process.returncode, errors, variables)


def _variables(home: Path, git_dir: Path | None, owner: Path | None) -> dict[str, str]:
    variables = _ENVIRONMENT | {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "GIT_CEILING_DIRECTORIES": str(home.parent),
    }
    if git_dir is not None:
        variables["GIT_DIR"] = str(git_dir.absolute())
    marked = owner if owner is not None else git_dir
    if marked is not None:
        variables[MARK] = str(marked.resolve())
    return variables


def _command_line(arguments: Sequence[str], git_dir: Path | None, limits: Limits | None) -> list[str]:
    limited: list[str] = []
    if limits is not None:
        # A program sets the limits, for code between fork and exec is not safe where threads run.
        limited = [
            "prlimit",
            f"--as={limits.memory_bytes}",
            f"--cpu={limits.cpu_seconds}",
            f"--fsize={limits.file_bytes}",
            "--core=0",
            "--",
        ]
    settings = [*_SETTINGS, *([f"safe.directory={git_dir.absolute()}"] if git_dir is not None else [])]
    return [*limited, "git", *(word for setting in settings for word in ("-c", setting)), *arguments]


def _make_room(errors: BinaryIO) -> None:
    """On a disk that fills up meanwhile git's words would be lost, and with them the cause. Raises OSError."""
    try:
        os.posix_fallocate(errors.fileno(), 0, _WORDS_BYTES)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot reserve anything
            raise


@contextlib.contextmanager
def _as_file(stdin: bytes | BinaryIO | None) -> Iterator[BinaryIO | int]:
    """A descriptor for standard input; bytes go through a file, so that no pipe can block."""
    if not isinstance(stdin, bytes):
        yield subprocess.DEVNULL if stdin is None else stdin
        return
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.flush()
        file.seek(0)
        yield file


def _start(
    command: list[str], variables: Mapping[str, str], home: str, source: BinaryIO | int, errors: BinaryIO
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=home,
            env=variables,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise GitError("E_GIT_MISSING", f"{command[0]} is not installed; install git and util-linux.") from None


def _expire(process: subprocess.Popen[bytes], expired: threading.Event) -> None:
    """Ask the group to end (git then removes its locks), then kill it."""
    expired.set()
    _signal_group(process, signal.SIGTERM)
    _has_ended(process, 2)
    _signal_group(process, signal.SIGKILL)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _has_ended(process: subprocess.Popen[bytes], timeout_seconds: float) -> bool:
    """Wait until the leader has ended, without reaping it."""
    descriptor = os.pidfd_open(process.pid)
    try:
        return bool(select.select([descriptor], [], [], timeout_seconds)[0])
    finally:
        os.close(descriptor)


def _check_exit(verb: str, code: int, errors: BinaryIO, variables: Mapping[str, str]) -> None:
    # SIGPIPE, its own or a child's: whoever read the output had enough.
    if code in (0, -signal.SIGPIPE, 128 + signal.SIGPIPE):
        return
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - 64 * 1024))
    said = errors.read().rstrip(b"\0")
    if code in _ENDED_BY_LIMIT or _OUT_OF_MEMORY.search(said):
        raise GitError("E_GIT_LIMIT", f"git {verb} needed more than it was allowed.", exit_code=None)
    secrets = [value for name, value in variables.items() if name.startswith("GIT_CONFIG_VALUE_")]
    raise from_stderr(verb, said, code, secrets)


def end_leftovers(root: Path, *, timeout_seconds: float = 10) -> int:
    """Kill what an earlier process of ours left running for a folder below `root`; how many that were.

    Returns when they are gone, so that their locks may be removed. E_GIT_LEFTOVER when one stays.
    """
    ended = 0
    deadline = time.monotonic() + timeout_seconds
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        # Another user's process cannot be read and is not ours; one that has ended needs nothing.
        with contextlib.suppress(ProcessLookupError, PermissionError, FileNotFoundError):
            descriptor = os.pidfd_open(int(entry.name))
            try:
                if _is_marked(entry, root.resolve()):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                        raise GitError("E_GIT_LEFTOVER", f"The process {entry.name} does not end.")
                    ended += 1
            finally:
                os.close(descriptor)
    return ended


def _is_marked(process: Path, root: Path) -> bool:
    for variable in (process / "environ").read_bytes().split(b"\0"):
        name, _, value = variable.partition(b"=")
        if name == MARK.encode():
            return Path(os.fsdecode(value)).is_relative_to(root)
    return False
