"""Real programs: their output, their limits, and that nothing of them is left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_daemon import processes
from agent_daemon.execution import (
    ATTEMPT_MARKER,
    RUN_MARKER,
    Finished,
    Invocation,
    ProcessLimits,
    StopRequest,
    run_process,
)
from tests.site import at_best

SCRIPTED_AGENT = Path(__file__).parents[1] / "fakes" / "scripted_agent.py"
PATIENT = ProcessLimits(wall_seconds=60)


class Run:
    """Runs programs in a folder and keeps their lines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "logs" / "cli.log"
        self.lines: list[tuple[str, str]] = []
        self.stop = StopRequest()
        # No two tests share a marker, for they may run at the same time.
        self.marker = f"{uuid.uuid4().hex}/1"
        self.invocation = Invocation(
            argv=(), cwd=folder, environment={"PATH": os.environ["PATH"]}, marker=self.marker
        )

    def python(self, code: str, *, limits: ProcessLimits = PATIENT, **changes: Any) -> Finished:
        return self.argv((sys.executable, "-c", code), limits=limits, **changes)

    def agent(self, script: list[Any], *, limits: ProcessLimits = PATIENT, **changes: Any) -> Finished:
        file = self.folder / "script.json"
        file.write_text(json.dumps(script))
        argv = (sys.executable, str(SCRIPTED_AGENT), "--script", str(file))
        return self.argv(argv, limits=limits, **{"stdin": b"", **changes})

    def argv(self, argv: tuple[str, ...], *, limits: ProcessLimits = PATIENT, **changes: Any) -> Finished:
        on_line = changes.pop("on_line", lambda stream, line: self.lines.append((stream, line)))
        on_tick = changes.pop("on_tick", None)
        return run_process(
            replace(self.invocation, argv=argv, **changes),
            limits=limits,
            on_line=on_line,
            stop=self.stop,
            log=self.log,
            on_tick=on_tick,
        )

    def stop_once(self, path: Path, reason: str = "interrupted") -> None:
        """Stop the run when the file appears: the program is where the test wants it."""

        def wait() -> None:
            wait_until(path.exists)
            self.stop.set(reason)

        threading.Thread(target=wait, daemon=True).start()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def wait_until(condition: Callable[[], object], deadline_seconds: float = 100) -> None:
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def pid_in(path: Path) -> int:
    return int(path.read_text())


def test_both_streams_come_by_lines_and_raw_in_the_log(run: Run) -> None:
    code = r"import sys; sys.stdout.write('one\r\ntwo\nlast'); sys.stderr.write('oops\n'); sys.exit(3)"
    finished = run.python(code)

    assert finished.exit_code == 3
    assert finished.reason == "exited"
    assert not finished.signalled_by_us
    assert not finished.succeeded
    assert [line for stream, line in run.lines if stream == "stdout"] == ["one", "two", "last"]
    assert [line for stream, line in run.lines if stream == "stderr"] == ["oops"]
    assert finished.output_bytes == len("one\r\ntwo\nlastoops\n")
    assert sorted(run.log.read_bytes()) == sorted(b"one\r\ntwo\nlastoops\n")


def test_exit_codes_that_the_operator_names_are_a_success(run: Run) -> None:
    assert run.python("raise SystemExit(7)", success_exit_codes=(0, 7)).succeeded


def test_the_environment_is_bare(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_TOKEN", "secret")
    run.agent(
        [{"save_environment": "names"}],
        environment={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "GIVEN": "1"},
    )

    assert set((run.folder / "names").read_text().split()) == {
        "PATH",
        "LC_ALL",
        "GIVEN",
        ATTEMPT_MARKER,
        RUN_MARKER,
    }


def test_neither_prompt_nor_environment_shows_in_repr(run: Run) -> None:
    shown = repr(replace(run.invocation, argv=("x",), stdin=b"the prompt", environment={"KEY": "sk-1"}))
    assert "sk-1" not in shown
    assert "the prompt" not in shown


def test_a_program_in_its_own_session_and_group(run: Run) -> None:
    run.python("import os; print(os.getsid(0) == os.getpid() == os.getpgid(0))")
    assert run.lines == [("stdout", "True")]


def test_a_big_prompt_and_much_output_at_once_do_not_block(run: Run) -> None:
    prompt = b"prompt\n" * 700_000
    code = (
        "import sys; sys.stdout.write('x' * 3_000_000 + '\\n'); sys.stdout.flush();"
        "print(len(sys.stdin.buffer.read()))"
    )
    finished = run.python(code, stdin=prompt)

    assert finished.succeeded
    assert run.lines[-1] == ("stdout", str(len(prompt)))


def test_a_prompt_that_nobody_reads_is_no_fault(run: Run) -> None:
    assert run.python("pass", stdin=b"x" * 5_000_000).succeeded


def test_without_a_prompt_standard_input_is_empty(run: Run) -> None:
    run.python("import sys; print(repr(sys.stdin.read()))")
    assert run.lines == [("stdout", "''")]


def test_long_lines_are_cut_for_the_callback_only(run: Run) -> None:
    limits = ProcessLimits(wall_seconds=60, line_bytes=1000)
    run.python("print('a' * 5_000_000); print('next')", limits=limits)

    assert run.lines == [("stdout", "a" * 1000), ("stdout", "next")]
    assert run.log.stat().st_size == 5_000_006


def test_broken_text_is_replaced(run: Run) -> None:
    run.python(r"import sys; sys.stdout.buffer.write(b'caf\xe9\xff\n')")
    assert run.lines == [("stdout", "caf\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}")]


def test_the_log_is_bounded_and_says_so(run: Run) -> None:
    limits = ProcessLimits(wall_seconds=60, log_bytes=10_000)
    assert run.agent([{"spam": 200_000}], limits=limits).succeeded
    text = run.log.read_text()

    assert len(text) < 10_100
    assert text.endswith("[the log was cut here, at 10000 bytes]\n")
    assert len(run.lines) > 190  # the callback still gets everything


def test_runs_are_appended_to_the_log(run: Run) -> None:
    run.python("print(1)")
    run.python("print(2)")
    assert run.log.read_text() == "1\n2\n"


def test_a_log_that_earlier_runs_have_filled_is_put_aside(run: Run) -> None:
    limits = ProcessLimits(wall_seconds=60, log_bytes=1000)
    for _ in range(3):
        run.agent([{"spam": 5000}], limits=limits)
    run.python("print('the newest')", limits=limits)
    assert run.log.read_text() == "the newest\n"
    assert {path.name for path in run.log.parent.iterdir()} == {"cli.log", "cli.log.1"}


def test_no_link_in_the_log_s_place_is_followed(run: Run) -> None:
    precious = run.folder / "precious"
    precious.write_text("kept")
    run.log.parent.mkdir()
    run.log.symlink_to(precious)

    assert run.python("print('text')").succeeded
    assert precious.read_text() == "kept"


def test_a_log_that_cannot_be_written_does_not_end_the_work(run: Run) -> None:
    run.log.parent.mkdir()
    os.mkfifo(run.log)
    assert run.python("print('text')").succeeded
    assert run.lines == [("stdout", "text")]


def test_too_much_output_ends_the_run(run: Run) -> None:
    limits = ProcessLimits(wall_seconds=60, output_bytes=1_000_000)
    finished = run.python("while True: print('x' * 1000)", limits=limits)

    assert finished.reason == "output_limit"
    assert finished.signalled_by_us
    assert not finished.succeeded


def test_the_time_limit_ends_the_run(run: Run) -> None:
    def take() -> float:
        finished = run.agent(["hang"], limits=ProcessLimits(wall_seconds=0.6))
        assert finished.reason == "timeout"
        assert finished.detail == "its time limit of 0.01 minutes"  # without the time that its end took
        assert finished.exit_code == -signal.SIGTERM
        assert finished.signalled_by_us
        return finished.duration_seconds

    assert at_best(take, 3) < 3


def test_a_stop_gives_its_reason(run: Run) -> None:
    run.stop_once(run.folder / "there", reason="hung")
    finished = run.agent([{"write": {"path": "there", "text": ""}}, "hang"])

    assert (finished.reason, finished.stop_reason) == ("stopped", "hung")


def test_a_plain_event_stops_it_too(run: Run) -> None:
    stop = threading.Event()
    stop.set()
    finished = run_process(
        replace(run.invocation, argv=("sleep", "60")),
        limits=PATIENT,
        on_line=lambda *_: None,
        stop=stop,
        log=run.log,
    )
    assert (finished.reason, finished.stop_reason) == ("stopped", "interrupted")


def test_a_program_may_say_its_last_words_when_stopped(run: Run) -> None:
    code = (
        "import signal, sys, time\n"
        "def last(*_):\n"
        "    sys.stdout.write('y' * 1_000_000 + '\\n'); sys.exit(0)\n"
        "signal.signal(signal.SIGINT, last)\n"
        "open('there', 'w').close()\n"
        "time.sleep(60)\n"
    )
    run.stop_once(run.folder / "there")
    finished = run.python(code, stop_signals=((signal.SIGINT, 5), (signal.SIGTERM, 1)))

    assert finished.exit_code == 0
    assert finished.signalled_by_us
    assert not finished.succeeded
    assert len(run.lines[-1][1]) == 1_000_000


def test_one_that_ignores_every_signal_is_killed(run: Run) -> None:
    def take() -> float:
        (run.folder / "there").unlink(missing_ok=True)
        run.stop = StopRequest()
        run.stop_once(run.folder / "there")
        script = ["ignore_sigterm", {"write": {"path": "there", "text": ""}}, "hang"]
        finished = run.agent(script, stop_signals=((signal.SIGTERM, 0.3),))
        assert finished.exit_code == -signal.SIGKILL
        return finished.duration_seconds

    assert at_best(take, 5) < 5


@pytest.mark.parametrize("by_itself", [True, False])
@pytest.mark.parametrize("stubborn", [True, False])
def test_a_double_forked_daemon_is_swept(run: Run, by_itself: bool, stubborn: bool) -> None:
    pid_file = run.folder / "daemon.pid"
    daemon = {"pid_file": "daemon.pid", "ignore_sigterm": stubborn, "hold_pipes": True}

    def take() -> float:
        pid_file.unlink(missing_ok=True)
        run.stop = StopRequest()
        run.stop_once(pid_file) if not by_itself else None
        finished = run.agent([{"fork_daemon": daemon}, *([] if by_itself else ["hang"])])
        assert finished.reason == ("exited" if by_itself else "stopped")
        assert processes.identify(pid_in(pid_file)) is None
        return finished.duration_seconds

    assert at_best(take, 10) < 10


def test_background_children_that_hold_the_pipes_do_not_hold_up_the_run(run: Run) -> None:
    def take() -> float:
        finished = run.argv(("sh", "-c", "sleep 300 & (while :; do echo noise; done) & echo $! > pid; exit 0"))
        assert finished.succeeded
        assert processes.identify(pid_in(run.folder / "pid")) is None
        return finished.duration_seconds

    assert at_best(take, 5) < 5


def test_a_subreaper_also_gets_those_without_marker_and_session(run: Run) -> None:
    """In a process of its own, for becoming a subreaper cannot be undone."""
    program = f"""
import os, sys, threading
from pathlib import Path
from agent_daemon import processes
from agent_daemon.execution import *
processes.become_subreaper()
assert processes.is_subreaper()
finished = run_process(
    Invocation(argv={(sys.executable, str(SCRIPTED_AGENT), "--script", "script.json")!r}, cwd=Path.cwd(),
               environment={{"PATH": os.environ["PATH"]}}, stdin=b""),
    limits=ProcessLimits(wall_seconds=30), on_line=lambda *_: None, stop=threading.Event(), log=Path("log"))
assert finished.succeeded, finished
children = processes.descendants(os.getpid())
zombies = [stat.pid for stat in processes.process_table().values() if stat.parent == os.getpid()]
print(children, zombies)
"""
    hidden = {"pid_file": "daemon.pid", "clear_environment": True, "ignore_sigterm": True}
    quick = {"run": "(setsid true &)"}
    (run.folder / "script.json").write_text(json.dumps([{"fork_daemon": hidden}, quick]))
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=run.folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "[] []\n"
    assert processes.identify(pid_in(run.folder / "daemon.pid")) is None


def test_only_what_belongs_to_the_run_is_ended(run: Run) -> None:
    """Another run of the same attempt is not touched: each has a marker of its own."""
    other = subprocess.Popen(["sleep", "60"], env={**os.environ, ATTEMPT_MARKER: run.marker})
    try:
        assert run.agent([{"fork_daemon": "daemon.pid"}]).succeeded
        assert other.poll() is None
        assert processes.find_marked(ATTEMPT_MARKER, run.marker) == [other.pid]
        assert processes.sweep(lambda: processes.find_marked(ATTEMPT_MARKER, run.marker), grace_seconds=1) == ()
    finally:
        other.kill()
        other.wait()


def test_a_callback_that_fails_ends_the_program_and_is_told(run: Run) -> None:
    def fail(_stream: str, line: str) -> None:
        raise RuntimeError(f"cannot take {line}")

    with pytest.raises(RuntimeError, match="cannot take first"):
        run.python(
            "import os, time; open('pid', 'w').write(str(os.getpid())); "
            "print('first', flush=True); time.sleep(60)",
            on_line=fail,
        )
    assert processes.identify(pid_in(run.folder / "pid")) is None


def test_a_tick_that_fails_ends_the_program_and_is_told(run: Run) -> None:
    def fail(pid: int, _output_bytes: int) -> None:
        raise RuntimeError(f"tick {pid}")

    with pytest.raises(RuntimeError, match="tick") as caught:
        run.argv(("sleep", "60"), on_tick=fail)
    assert processes.identify(int(str(caught.value).split()[1])) is None


def test_ticks_come_while_it_runs(run: Run) -> None:
    pids: list[int] = []

    def tick(pid: int, _output_bytes: int) -> None:
        pids.append(pid)
        if len(pids) == 3:
            run.stop.set()

    run.argv(("sleep", "60"), on_tick=tick)
    assert len(pids) == 3
    assert len(set(pids)) == 1


@pytest.mark.parametrize("argv", [("no-such-program",), ("/",), ("sh\0",)])
def test_what_cannot_be_started_is_told(run: Run, argv: tuple[str, ...]) -> None:
    finished = run.argv(argv)

    assert (finished.reason, finished.exit_code) == ("not_started", None)
    assert finished.detail.startswith("could not start")
    assert finished.detail in run.log.read_text()


def test_a_process_is_known_by_more_than_its_pid() -> None:
    child = subprocess.Popen(["sleep", "60"])
    identity = processes.identify(child.pid)
    assert identity is not None
    assert processes.is_alive(identity)
    assert child.pid in processes.descendants(os.getpid())
    assert not processes.is_alive(replace(identity, start_ticks=identity.start_ticks - 1))
    assert not processes.is_alive(replace(identity, boot_id="another"))

    child.kill()
    wait_until(lambda: processes.identify(child.pid) is None)  # a zombie is dead
    assert processes.read_stat(child.pid) is not None
    child.wait()
    assert processes.read_stat(child.pid) is None


def test_a_name_with_brackets_and_blanks_is_read(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "60"])
    try:
        wait_until(lambda: b"a) Z" in Path(f"/proc/{child.pid}/comm").read_bytes())
        stat = processes.read_stat(child.pid)
        assert stat is not None
        assert stat.parent == os.getpid()
        assert stat.alive
    finally:
        child.kill()
        child.wait()


def test_processor_time_grows_with_work() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    idle = subprocess.Popen(["sleep", "60"])
    try:
        wait_until(lambda: processes.cpu_ticks([found]) > 5 if (found := processes.read_stat(busy.pid)) else False)
        still = processes.read_stat(idle.pid)
        assert still is not None and processes.cpu_ticks([still]) <= 1
    finally:
        for child in (busy, idle):
            child.kill()
            child.wait()


def test_a_zombie_thread_leader_counts_as_alive() -> None:
    """A program may end its first thread and live on in another; it must not escape the sweep by that."""
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (stat := processes.read_stat(child.pid)) is not None and stat.state == "Z")
        assert processes.identify(child.pid) is not None
        assert processes.sweep(lambda: [child.pid], grace_seconds=0) == ()
        assert processes.read_stat(child.pid) is None
    finally:
        child.poll()
