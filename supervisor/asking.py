"""Asking a program in the place of an agent, who may have a hand in it: its answer is bounded in size and time."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO, cast

from supervisor.errors import CloudCodeError
from supervisor.ports import Entry

_ANSWER_BYTES = 1024 * 1024
_ERROR_BYTES = 64 * 1024
# What a program that has ended wrote is read by then; a child of its own that it left may hold the pipes for ever.
_REST_SECONDS = 1.0


def ask(entry: Entry, told: str, limit_seconds: float) -> str:
    """What a program says that is told this on its standard input. E_CLI_NOT_ASKED."""
    try:
        process = subprocess.Popen(
            entry.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(entry.environment),
            start_new_session=True,
        )
    except OSError as error:
        raise CloudCodeError("E_CLI_NOT_ASKED", f"{entry.argv[0]} cannot be run: {error.strerror}.") from None
    answer, errors = bytearray(), bytearray()
    try:
        readers = _talk(process, told, answer, errors)
        late = not _has_ended(process, limit_seconds)
    finally:
        _end(process)
    for reader in readers:
        reader.join(_REST_SECONDS)
    if len(answer) > _ANSWER_BYTES:
        raise CloudCodeError("E_CLI_NOT_ASKED", f"The answer has more than {_ANSWER_BYTES} bytes.")
    if late:
        raise CloudCodeError("E_CLI_NOT_ASKED", f"There was no answer within {limit_seconds:g} s.", "Try again.")
    if process.returncode:
        said = bytes(errors).decode(errors="replace").strip().rpartition("\n")[2][:500]
        raise CloudCodeError("E_CLI_NOT_ASKED", f"The CLIs could not be looked for: {said}")
    return bytes(answer).decode(errors="replace")


def _has_ended(process: "subprocess.Popen[bytes]", limit_seconds: float) -> bool:
    try:
        process.wait(limit_seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it with all that it started in its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _talk(
    process: "subprocess.Popen[bytes]", told: str, answer: bytearray, errors: bytearray
) -> tuple[threading.Thread, ...]:
    """Tell it, and take what it says; who says more than it should is ended."""
    stdin, stdout, stderr = (cast(IO[bytes], pipe) for pipe in (process.stdin, process.stdout, process.stderr))
    work: tuple[Callable[[], None], ...] = (
        lambda: _write(stdin, told.encode()),
        lambda: _take(stdout, answer, _ANSWER_BYTES + 1, lambda: _end(process)),
        lambda: _take(stderr, errors, _ERROR_BYTES, lambda: None),
    )
    threads = tuple(threading.Thread(target=each, daemon=True) for each in work)
    for thread in threads:
        thread.start()
    return threads


def _write(pipe: IO[bytes], data: bytes) -> None:
    with suppress(OSError, ValueError), pipe:
        pipe.write(data)


def _take(pipe: IO[bytes], found: bytearray, most: int, too_much: Callable[[], None]) -> None:
    """Read to the end, and keep so much of it."""
    with suppress(OSError, ValueError), pipe:
        while chunk := os.read(pipe.fileno(), 64 * 1024):
            if len(found) < most:
                found += chunk[: most - len(found)]
                if len(found) == most:
                    too_much()
