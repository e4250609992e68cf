"""Asking a program in the place of an agent, who may have a hand in it: its answer is bounded in size and time."""

import subprocess
import threading
from contextlib import suppress
from typing import IO, cast

from supervisor.errors import CloudCodeError
from supervisor.ports import Entry

_ANSWER_BYTES = 1024 * 1024
_ERROR_BYTES = 64 * 1024


def ask(entry: Entry, told: str, limit_seconds: float) -> str:
    """What a program says that is told this on its standard input. E_CLI_NOT_ASKED."""
    try:
        process = subprocess.Popen(
            entry.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(entry.environment),
        )
    except OSError as error:
        raise CloudCodeError("E_CLI_NOT_ASKED", f"{entry.argv[0]} cannot be run: {error.strerror}.") from None
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(limit_seconds, end)
    timer.start()
    try:
        with process:
            answer, errors = _talk(process, told)
    finally:
        timer.cancel()
    if late.is_set():
        raise CloudCodeError("E_CLI_NOT_ASKED", f"There was no answer within {limit_seconds:g} s.", "Try again.")
    if len(answer) > _ANSWER_BYTES:
        raise CloudCodeError("E_CLI_NOT_ASKED", f"The answer has more than {_ANSWER_BYTES} bytes.")
    if process.returncode:
        said = errors.decode(errors="replace").strip().rpartition("\n")[2][:500]
        raise CloudCodeError("E_CLI_NOT_ASKED", f"The CLIs could not be looked for: {said}")
    return answer.decode(errors="replace")


def _talk(process: "subprocess.Popen[bytes]", told: str) -> tuple[bytes, bytes]:
    """Its answer and the beginning of its errors; it is ended when it says more than it should."""
    stdin, stdout, stderr = (cast(IO[bytes], pipe) for pipe in (process.stdin, process.stdout, process.stderr))
    errors: list[bytes] = []
    threads = [
        threading.Thread(target=_write, args=(stdin, told.encode()), daemon=True),
        threading.Thread(target=_take, args=(stderr, errors), daemon=True),
    ]
    for thread in threads:
        thread.start()
    answer = stdout.read(_ANSWER_BYTES + 1)
    if len(answer) > _ANSWER_BYTES:
        process.kill()
    process.wait()
    for thread in threads:
        thread.join(timeout=5)
    return answer, b"".join(errors)


def _write(pipe: IO[bytes], data: bytes) -> None:
    with suppress(OSError, ValueError), pipe:
        pipe.write(data)


def _take(pipe: IO[bytes], found: list[bytes]) -> None:
    with suppress(OSError, ValueError):
        found.append(pipe.read(_ERROR_BYTES))
        while pipe.read(_ERROR_BYTES):
            pass
