"""Run one program to its end: own session, bare environment, bounded output, and nothing left behind.

Every process that the program started is ended with it, in whatever group or session it hides. For
programs that leave their session *and* clear their environment, the caller must be a subreaper
(`processes.become_subreaper`); such a caller runs one program at a time.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from loguru import logger

from agent_daemon import processes
from agent_daemon.hiding import Mask
from agent_daemon.processes import ProcessIdentity
from agent_daemon.streams import BoundedLog, OnLine, Pump

ATTEMPT_MARKER = "CLOUD_CODE_ATTEMPT"
RUN_MARKER = "CLOUD_CODE_RUN"

_TURN_SECONDS = 0.1
_SECRET_BYTES = 4096  # what even the smallest pipe takes at once
_DRAIN_SECONDS = 0.5
# Asking nicely 5 s + SIGKILL 1 s + sweep 0.5 + 1.5 s + drain 2 × 0.5 s + reap 1 s: a run ends within ten seconds.
_LONGEST_GRACE_SECONDS = 5.0
_KILL_SECONDS = 1.0
_SWEEP_GRACE_SECONDS = 0.5
_SWEEP_LIMIT_SECONDS = 1.5

OnTick = Callable[[int, int], None]
Reason = Literal["exited", "timeout", "output_limit", "stopped", "not_started"]


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """What to start. `environment` is all that the program sees, but for the two markers that are added.

    `secrets` are values that it reads from descriptors instead: each variable holds the number of one.
    `marker` is ``<task>/<attempt>``, for a later sweep by whoever finds the leftovers of a crash.
    `stop_signals` are sent to the group one after the other, each with its grace in seconds, before
    SIGKILL; together they get at most five seconds.
    """

    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    stdin: bytes | None = field(default=None, repr=False)
    stop_signals: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 5.0),)
    success_exit_codes: tuple[int, ...] = (0,)
    marker: str = ""


@dataclass(frozen=True, kw_only=True)
class ProcessLimits:
    """`output_bytes` ends the run; a line is cut at `line_bytes`, and the log, with a notice, at `log_bytes`."""

    wall_seconds: float
    output_bytes: int = 256 * 1024 * 1024
    line_bytes: int = 1024 * 1024
    log_bytes: int = 20 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a run ended. `exit_code` is negative for a signal's number, None when there is none to know.

    `stop_reason` is what the one who stopped the run gave as reason; `detail` says why nothing started, or
    which limit was reached.
    """

    exit_code: int | None
    signalled_by_us: bool
    reason: Reason
    duration_seconds: float
    output_bytes: int
    stop_reason: str = ""
    detail: str = ""
    success_exit_codes: tuple[int, ...] = (0,)

    @property
    def succeeded(self) -> bool:
        """It ended by itself, with an exit code that means success."""
        return self.reason == "exited" and not self.signalled_by_us and self.exit_code in self.success_exit_codes


class Stop(Protocol):
    """What a run asks ten times a second: a `threading.Event` will do, a `StopRequest` says why, too."""

    def is_set(self) -> bool: ...


class StopRequest:
    """A wish to end a run, from any thread; the first reason stays (an `Outcome` such as ``hung``)."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self.reason = ""

    def set(self, reason: str = "interrupted") -> None:
        with self._lock:
            self.reason = self.reason or reason
            self._asked.add(reason)
            self._event.set()

    def take_back(self, reason: str) -> bool:
        """Nothing is wished any more; False, and all stays, where something else has been wished, too."""
        with self._lock:
            if self._asked - {reason}:
                return False
            self.reason = ""
            self._asked.clear()
            self._event.clear()
            return True

    def is_set(self) -> bool:
        return self._event.is_set()


def run_process(
    invocation: Invocation,
    *,
    limits: ProcessLimits,
    on_line: OnLine,
    stop: Stop,
    log: Path,
    on_tick: OnTick | None = None,
    mask: Mask | None = None,
) -> Finished:
    """Start the program, pass on its lines, wait for its end or bring it about, and clean up after it.

    `on_line` gets ``stdout`` or ``stderr`` and a line without its end; `on_tick` gets the pid and how many bytes
    were written, about ten times a second. Both run in this thread; what they raise ends the program and is
    raised again. The raw output of both streams is appended to `log`; what `mask` knows is taken out of it and of
    the lines. May run in any thread.
    """
    started = time.monotonic()
    run_id = uuid.uuid4().hex
    with BoundedLog(log, limits.log_bytes) as output_log:
        try:
            process = _start(invocation, run_id)
        except (OSError, ValueError) as error:
            detail = f"could not start {invocation.argv[0]}: {error}"
            output_log.write(detail.encode() + b"\n")
            return _not_started(detail, started)
        pump = Pump(
            process,
            invocation.stdin,
            output_log,
            on_line,
            limits.line_bytes,
            mask if mask is not None else Mask(()),
        )
        ladder = _Ladder(process, pump, run_id)
        try:
            reason = _wait(process, pump, limits, stop, on_tick, started)
        finally:
            ladder.end(invocation.stop_signals)
            exit_code = _collect(process)
            pump.finish()
    if pump.error is not None:
        raise pump.error
    return Finished(
        exit_code=exit_code,
        signalled_by_us=ladder.signalled,
        reason=reason,
        duration_seconds=time.monotonic() - started,
        output_bytes=pump.output_bytes,
        detail=f"its time limit of {limits.wall_seconds / 60:g} minutes" if reason == "timeout" else "",
        stop_reason=(getattr(stop, "reason", "") or "interrupted") if reason == "stopped" else "",
        success_exit_codes=invocation.success_exit_codes,
    )


def _not_started(detail: str, started: float) -> Finished:
    return Finished(
        exit_code=None,
        signalled_by_us=False,
        reason="not_started",
        duration_seconds=time.monotonic() - started,
        output_bytes=0,
        detail=detail,
    )


def _start(invocation: Invocation, run_id: str) -> subprocess.Popen[bytes]:
    environment = {**invocation.environment, RUN_MARKER: run_id}
    if invocation.marker:
        environment[ATTEMPT_MARKER] = invocation.marker
    with contextlib.ExitStack() as opened:
        given = {name: _readable(value, opened) for name, value in invocation.secrets.items()}
        return subprocess.Popen(
            invocation.argv,
            cwd=invocation.cwd,
            env=environment | {name: str(descriptor) for name, descriptor in given.items()},
            stdin=subprocess.DEVNULL if invocation.stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=tuple(given.values()),
            start_new_session=True,
            bufsize=0,
        )


def _readable(value: str, opened: contextlib.ExitStack) -> int:
    """A descriptor that the value can be read from, once; raises ValueError when it is too long for a pipe."""
    data = value.encode("utf-8", "surrogateescape")
    if len(data) > _SECRET_BYTES:
        raise ValueError(f"a secret has more than {_SECRET_BYTES} bytes")
    read_end, write_end = os.pipe()
    opened.callback(os.close, read_end)
    try:
        os.write(write_end, data)
    finally:
        os.close(write_end)
    return read_end


def _wait(
    process: subprocess.Popen[bytes],
    pump: Pump,
    limits: ProcessLimits,
    stop: Stop,
    on_tick: OnTick | None,
    started: float,
) -> Reason:
    next_tick = started
    while True:
        pump.turn(_TURN_SECONDS)
        if _has_exited(process):
            return "exited"
        if pump.error is not None or stop.is_set():
            return "stopped"
        now = time.monotonic()
        if now - started >= limits.wall_seconds:
            return "timeout"
        if pump.output_bytes > limits.output_bytes:
            return "output_limit"
        if on_tick is not None and now >= next_tick:
            next_tick = now + _TURN_SECONDS
            on_tick(process.pid, pump.output_bytes)


def _has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Without reaping: as long as the zombie is there, its pid and its group's number are not used again."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _collect(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(timeout=_KILL_SECONDS)
    except subprocess.TimeoutExpired:
        logger.error("process {} could not be ended", process.pid)
        return None


class _Ladder:
    """Ends a run: asks the group, kills the group, then sweeps everything that belonged to it."""

    def __init__(self, process: subprocess.Popen[bytes], pump: Pump, run_id: str) -> None:
        self._process = process
        self._pump = pump
        self._run_id = run_id
        stat = processes.read_stat(process.pid)
        self._since_ticks = stat.start_ticks if stat is not None else 0
        self._known: set[ProcessIdentity] = set()
        self.signalled = False

    def end(self, stop_signals: tuple[tuple[signal.Signals, float], ...]) -> None:
        if not _has_exited(self._process):
            # Noted now, because an orphan can no longer be traced to its parent.
            known = (processes.identify(pid) for pid in processes.descendants(self._process.pid))
            self._known = {identity for identity in known if identity is not None}
            self._ask_and_kill(stop_signals)
        self._pump.drain(_DRAIN_SECONDS)
        left = processes.sweep(
            self._leftovers, grace_seconds=_SWEEP_GRACE_SECONDS, limit_seconds=_SWEEP_LIMIT_SECONDS
        )
        if left:
            logger.error("processes {} of a finished run could not be ended", left)
        processes.reap(pid for pid in processes.find_adopted(self._since_ticks) if pid != self._process.pid)
        self._pump.drain(_DRAIN_SECONDS)

    def _ask_and_kill(self, stop_signals: tuple[tuple[signal.Signals, float], ...]) -> None:
        grace_left = _LONGEST_GRACE_SECONDS
        for number, grace_seconds in stop_signals:
            grace_seconds = min(grace_seconds, grace_left)
            grace_left -= grace_seconds
            if self._signal_group(number, grace_seconds):
                return
        self._signal_group(signal.SIGKILL, _KILL_SECONDS)

    def _signal_group(self, number: signal.Signals, wait_seconds: float) -> bool:
        if _has_exited(self._process):
            return True
        self.signalled = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        deadline = time.monotonic() + wait_seconds
        while not _has_exited(self._process):
            if time.monotonic() >= deadline:
                return False
            # The last words are read meanwhile: a full pipe would keep the program from ending.
            self._pump.turn(_TURN_SECONDS / 2)
        return True

    def _leftovers(self) -> set[int]:
        table = processes.process_table()
        roots = set(processes.find_marked(RUN_MARKER, self._run_id))
        roots.update(identity.pid for identity in self._known if processes.is_alive(identity))
        below = {pid for root in roots for pid in processes.descendants(root, table)}
        found = roots | below | processes.family(self._process.pid, self._since_ticks, table)
        return found - {self._process.pid, os.getpid()}
