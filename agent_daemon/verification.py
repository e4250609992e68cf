"""Run the project's verification commands in the worktree and tell how each of them ended."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent_daemon.execution import Finished, Invocation, OnTick, ProcessLimits, Stop, run_process
from agent_daemon.hiding import Mask
from agent_daemon.memory import MemoryWatch
from agent_daemon.protocol.model import VerificationCommand, VerificationResult

# What shells and `timeout` use for the same events. A command that we end may still exit with 0: never trust it.
_NOT_STARTED_CODE = 127
_TIMEOUT_CODE = 124
_STOPPED_CODE = 130
_OUTPUT_CODE = 125

_TAIL_CHARACTERS = 2000


@dataclass(frozen=True, kw_only=True)
class VerificationPlace:
    """Where and as what the commands run: in `worktree` at `commit`, logging to ``logs/verify-N.log``."""

    worktree: Path
    commit: str
    logs: Path
    environment: Mapping[str, str] = field(repr=False)
    marker: str = ""
    mask: Mask | None = field(default=None, repr=False)


def run_verification(
    commands: Sequence[VerificationCommand],
    place: VerificationPlace,
    *,
    stop: Stop,
    on_tick: OnTick | None = None,
) -> tuple[VerificationResult, ...]:
    """Run every command, also after one that failed; a stop ends the running one and leaves out the rest.

    A command passed with exit code 0 and in no other way: 124 stands for the time limit, 125 for too much
    output, 127 for a shell that could not be started, 130 for a stop from outside. Each runs in a process group
    of its own, of which nothing is left afterwards.
    """
    results: list[VerificationResult] = []
    for number, command in enumerate(commands, start=1):
        if stop.is_set():
            break
        results.append(_run(command, place, f"verify-{number}.log", stop, on_tick))
    return tuple(results)


def _run(
    command: VerificationCommand,
    place: VerificationPlace,
    log_name: str,
    stop: Stop,
    on_tick: OnTick | None,
) -> VerificationResult:
    log = place.logs / log_name
    log.unlink(missing_ok=True)
    tail, memory = _Tail(), MemoryWatch()
    shell = "bash" if shutil.which("bash", path=place.environment.get("PATH")) else "sh"
    finished = run_process(
        Invocation(
            argv=(shell, "-c", command.command),
            cwd=place.worktree,
            environment=place.environment,
            marker=place.marker,
        ),
        limits=ProcessLimits(wall_seconds=command.timeout_seconds),
        on_line=tail.add,
        stop=stop,
        log=log,
        on_tick=on_tick,
        mask=place.mask,
    )
    if not finished.succeeded and (why := memory.ran_out()):
        tail.add("", f"[{why}]")
    return VerificationResult(
        name=command.name,
        command=command.command,
        exit_code=_exit_code(finished),
        duration_seconds=round(finished.duration_seconds, 3),
        log=f"{place.logs.name}/{log_name}",
        commit=place.commit,
        output_tail=tail.text or finished.detail,
    )


def _exit_code(finished: Finished) -> int:
    if finished.reason == "exited" and finished.exit_code is not None:
        return finished.exit_code
    return {
        "timeout": _TIMEOUT_CODE,
        "stopped": _STOPPED_CODE,
        "output_limit": _OUTPUT_CODE,
    }.get(finished.reason, _NOT_STARTED_CODE)


class _Tail:
    """The last lines of both streams: what a person wants to see first."""

    def __init__(self) -> None:
        self.text = ""

    def add(self, _stream: str, line: str) -> None:
        self.text = f"{self.text}\n{line}".lstrip("\n")[-_TAIL_CHARACTERS:]
