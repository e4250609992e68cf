"""What a running program is seen to do, tried on real ones: busy, sleeping, waiting for someone to type."""

import contextlib
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agent_daemon.activity import ActivityMeter, Look, control_group_seconds
from agent_daemon.execution import Invocation, ProcessLimits, StopRequest, run_process
from agent_daemon.processes import process_table
from agent_daemon.waiting import wait_for_input
from tests.site import wait_for

HERE = Path(__file__).parents[2]
CONTROL_GROUPS = Path("/sys/fs/cgroup")


class Watched:
    """A program that runs in a thread while the test looks at it."""

    def __init__(self, folder: Path, argv: tuple[str, ...]) -> None:
        self.meter, self.stop, self.folder = ActivityMeter(), StopRequest(), folder
        self.pid = 0
        invocation = Invocation(argv=argv, cwd=folder, environment={"PATH": os.environ["PATH"]}, marker="activity")

        def tick(pid: int, output_bytes: int) -> None:
            self.pid = pid
            self.meter.tick(pid, output_bytes)

        def body() -> None:
            self.meter.begin()
            run_process(
                invocation,
                limits=ProcessLimits(wall_seconds=120),
                on_line=lambda _stream, line: self.meter.heard(line, progress="retry" not in line),
                stop=self.stop,
                log=folder / "log",
                on_tick=tick,
            )
            self.meter.end()

        self._thread = threading.Thread(target=body)
        self._thread.start()

    def look(self) -> Look:
        return wait_for(self.meter.look)

    def look_at(self, name: str) -> Look:
        """Once the program has made the file `name`."""
        wait_for((self.folder / name).exists)
        return self.look()

    def end(self) -> None:
        self.stop.set()
        self._thread.join()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[object]:
    running: list[Watched] = []

    def start(*argv: str) -> Watched:
        running.append(Watched(tmp_path, argv))
        return running[-1]

    yield start
    for one in running:
        one.end()


def test_nothing_runs_nothing_is_seen() -> None:
    meter = ActivityMeter()
    assert meter.look() is None
    meter.begin()
    assert meter.look() is None, "not started yet"


def test_processor_time_of_children_that_have_ended_counts_and_never_falls(watch: type[Watched]) -> None:
    burn = "python3 -c 'import time; e = time.process_time; [0 for _ in iter(lambda: e() < 0.3, False)]'"
    one = watch("bash", "-c", f"for i in 1 2 3; do {burn}; done; (setsid {burn} &) ; touch done; sleep 60")
    seen = [one.look().cpu_seconds]
    while not (one.folder / "done").exists():
        seen.append(one.look().cpu_seconds)
        time.sleep(0.05)
    assert seen == sorted(seen)
    assert one.look().cpu_seconds >= 0.9
    before = one.look().cpu_seconds
    time.sleep(1)
    assert one.look().cpu_seconds - before < 0.05, "it sleeps"


def test_a_busy_thread_of_a_sleeping_process_is_seen(watch: type[Watched]) -> None:
    code = (
        "import threading, time\n"
        "def burn():\n    while True: pass\n"
        "threading.Thread(target=burn, daemon=True).start()\n"
        "open('ready', 'w')\ntime.sleep(60)\n"
    )
    one = watch(sys.executable, "-c", code)
    before = one.look_at("ready").cpu_seconds
    assert wait_for(lambda: one.look().cpu_seconds > before + 0.3)
    assert not one.look().waits_for_input


def test_time_in_line_for_a_processor_counts_where_it_gets_none(watch: type[Watched]) -> None:
    """Three that want the one processor that all of them may use."""
    burn = "import os\nos.sched_setaffinity(0, {0})\nwhile True: pass"
    crowd = [watch(sys.executable, "-c", burn) for _ in range(3)]
    assert wait_for(lambda: sum(one.look().queued_seconds for one in crowd) > 2)


def test_output_counts_also_without_an_end_of_line_but_not_waiting_for_another_try(watch: type[Watched]) -> None:
    code = (
        "import os, sys, time\n"
        "for n in range(1000):\n"
        "    print('retry in 1 s' if n < 5 else '.', end='\\n' if n < 5 else '', flush=True)\n"
        "    if n == 4:\n"
        "        open('retried', 'w')\n"
        "        while not os.path.exists('go'): time.sleep(0.01)\n"
        "    time.sleep(0.05)\n"
    )
    one = watch(sys.executable, "-c", code)
    look = one.look_at("retried")
    assert (look.output_bytes, look.steps) == (0, 0)
    (one.folder / "go").touch()
    assert wait_for(lambda: one.look().output_bytes > 3)
    assert wait_for(lambda: one.look().quiet_seconds < 1)  # (a busy machine may keep the program from it for long)


TERMINAL = "import os, pty, sys\nmaster, slave = pty.openpty()\nos.dup2(slave, 0)\nopen('ready', 'w')\n"
READERS = {
    "read": "os.read(0, 1)",
    "input": "input()",
    "poll": "import select; p = select.poll(); p.register(0, 1); p.poll()",
    "select": "import select; select.select([0], [], [])",
    "epoll": "import select; p = select.epoll(); p.register(0, 1); p.poll()",
    "a thread": "import threading as t; t.Thread(target=lambda: os.read(0, 1)).start(); t.Event().wait()",
    "a child": "import subprocess; subprocess.run(['cat'])",
    "a child in its own session": "import subprocess; subprocess.run(['cat'], start_new_session=True)",
}


@pytest.mark.parametrize("how", READERS)
def test_who_reads_a_terminal_waits_for_input(watch: type[Watched], how: str) -> None:
    one = watch(sys.executable, "-c", TERMINAL + READERS[how])
    one.look_at("ready")
    assert wait_for(lambda: one.look().waits_for_input)


def test_who_reads_its_own_standard_input_waits_for_it(watch: type[Watched]) -> None:
    one = watch("bash", "-c", "mkfifo fifo; exec 0<>fifo; touch ready; read -r answer")
    one.look_at("ready")
    assert wait_for(lambda: one.look().waits_for_input)


QUIET = {
    "sleeps": "time.sleep(60)",
    "reads what its child prints": "import subprocess; subprocess.run(['sleep', '60'], stdout=subprocess.PIPE)",
    "has a server that reads a pipe": (
        "import subprocess; subprocess.Popen(['cat'], stdin=subprocess.PIPE); time.sleep(60)"
    ),
    "looks after a terminal of its child": "import pty; m, s = pty.openpty(); os.read(m, 1)",
}


@pytest.mark.parametrize("how", QUIET)
def test_who_only_sleeps_does_not_wait_for_input(watch: type[Watched], how: str) -> None:
    one = watch(sys.executable, "-c", f"import os, time\nopen('ready', 'w')\n{QUIET[how]}")
    one.look_at("ready")
    assert not any(one.look().waits_for_input for _ in range(20))


def test_an_open_shell_counts_for_nothing_while_an_answer_is_awaited(watch: type[Watched]) -> None:
    code = (
        TERMINAL + "import socket, subprocess, time\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(server.getsockname())\n"
        "subprocess.Popen(['cat'])\n"
        "open('connected', 'w')\n"
        "while not os.path.exists('close'): time.sleep(0.01)\n"
        "client.shutdown(socket.SHUT_RDWR); client.close(); server.close()\n"
        "time.sleep(60)\n"
    )
    one = watch(sys.executable, "-c", code)
    one.look_at("connected")
    wait_for(lambda: wait_for_input([one.pid], one.pid) is False)
    assert not any(one.look().waits_for_input for _ in range(20))
    (one.folder / "close").touch()
    assert wait_for(lambda: one.look().waits_for_input)


def test_what_cannot_be_looked_at_waits_for_nothing() -> None:
    assert not wait_for_input([2**22 + 1], 2**22 + 1)


@contextlib.contextmanager
def control_group() -> Iterator[Path]:
    """A new control group that counts processor time; skips where none can be made."""
    name = f"cloud-code-test-{uuid.uuid4().hex[:8]}"
    made = next(filter(None, map(partial(make_control_group, name), ("cpuacct", "", "unified"))), None)
    if made is None:
        pytest.skip("no control group can be made here")
    try:
        yield made
    finally:
        wait_for(lambda: not (made / "cgroup.procs").read_text())
        made.rmdir()


def make_control_group(name: str, hierarchy: str) -> Path | None:
    made = CONTROL_GROUPS / hierarchy / name
    try:
        made.mkdir()
    except OSError:
        return None
    return made if (made / "cgroup.procs").exists() else None


def test_a_control_group_of_its_own_misses_nobody() -> None:
    """Also a process that was collected by somebody else counts; with a stranger inside nothing is counted."""
    code = (
        "import os, subprocess, sys, time\n"
        "from pathlib import Path\n"
        "from agent_daemon.activity import control_group_seconds, own_control_group\n"
        "from agent_daemon.processes import become_subreaper, process_table\n"
        "become_subreaper()\n"
        "group = Path(sys.argv[1])\n"
        "(group / 'cgroup.procs').write_text(str(os.getpid()))\n"
        "assert own_control_group() == group, own_control_group()\n"
        "before = control_group_seconds(group, process_table())\n"
        "burn = 'import time\\nwhile time.process_time() < 0.5: pass'\n"
        "subprocess.run(['setsid', '--fork', sys.executable, '-c', burn])\n"
        "while control_group_seconds(group, process_table()) < before + 0.4: time.sleep(0.1)\n"
        "print(before, control_group_seconds(group, process_table()), flush=True)\n"
        "input()\n"
        "print(control_group_seconds(group, process_table()))\n"
    )
    with control_group() as group:
        assert control_group_seconds(group, process_table()) is None, "this process is not in it"
        argv = [sys.executable, "-c", code, str(group)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        stranger = subprocess.Popen(["sleep", "60"])
        with subprocess.Popen(argv, cwd=HERE, text=True, **pipes) as child:
            try:
                assert child.stdout is not None and child.stdin is not None
                before, after = map(float, child.stdout.readline().split())
                assert 0.4 <= after - before < 5
                (group / "cgroup.procs").write_text(str(stranger.pid))
                child.stdin.write("\n")
                child.stdin.close()
                assert child.stdout.readline() == "None\n"
            finally:
                stranger.kill()
                stranger.wait()
                child.kill()
