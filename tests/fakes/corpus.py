"""Coding CLIs that look hung and are not, and some that are: one function for each, chosen by the prompt.

``python tests/fakes/corpus.py FOLDER``: reads its prompt from standard input, takes the behaviour from the line
``behaviour: NAME``, and does that in the current folder. When a hang begins it writes the time (seconds since the
epoch) to FOLDER/NAME. The honest ones add a line to ``done.txt`` at the end.
"""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HONEST_SECONDS = 14.0  # well beyond the limit for one that waits for input, in the tests' settings


def until(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


def burn(seconds: float) -> None:
    """So much processor time, however long that takes."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))


# --- honest ---------------------------------------------------------------------------------------------


def quiet_build() -> None:
    """Works hard and says nothing."""
    going = until(HONEST_SECONDS)
    while going():
        burn(0.2)


def quiet_build_of_children() -> None:
    """The work is done by short-lived children, as with make; this process only waits for them."""
    going = until(HONEST_SECONDS)
    while going():
        subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)


def bursts() -> None:
    """Compiles and waits in turn."""
    going = until(HONEST_SECONDS)
    while going():
        burn(0.5)
        time.sleep(2)


def slow_printer() -> None:
    """A dot now and then, and never an end of line."""
    going = until(HONEST_SECONDS)
    while going():
        print(".", end="", flush=True)
        time.sleep(2)


def starved() -> None:
    """Works, but the machine lets it run only now and then: something stops it for seconds."""
    code = (
        "import os, signal, sys, time\n"
        "pid, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])\n"
        "while time.monotonic() < end:\n"
        "    os.kill(pid, signal.SIGSTOP); time.sleep(2); os.kill(pid, signal.SIGCONT); time.sleep(0.3)\n"
    )
    subprocess.Popen([sys.executable, "-c", code, str(os.getpid()), str(HONEST_SECONDS)])
    going = until(HONEST_SECONDS)
    while going():
        burn(0.05)


def awaits_the_network() -> None:
    """A child reads from a server that answers late; a shell stands open on a terminal beside it."""
    code = (
        "import socket, sys\n"
        "with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as s: assert s.recv(10) == b'late'\n"
    )
    _, terminal = pty.openpty()
    shell = subprocess.Popen(["cat"], stdin=terminal, stdout=subprocess.DEVNULL)
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = subprocess.Popen([sys.executable, "-c", code, str(server.getsockname()[1])])
        connection, _ = server.accept()
        time.sleep(9)  # longer than one that waits for input may, shorter than a quiet one may
        connection.sendall(b"late")
        child.wait()
        connection.close()
    shell.kill()


def double_forker() -> None:
    """Leaves a process behind that has left session and group, forgot its environment, and works on for ever."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            Path("left-behind.pid").write_text(str(os.getpid()))
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            code = "import time\nwhile True: sum(range(100_000)); time.sleep(0.01)"
            os.execve(sys.executable, [sys.executable, "-c", code], {})  # noqa: S606
        os._exit(0)
    os.wait()
    while not Path("left-behind.pid").exists():
        time.sleep(0.02)


# --- hung -----------------------------------------------------------------------------------------------


def asks_on_a_terminal() -> None:
    """A program that it started asks a question on the terminal that it was given."""
    pid, _ = pty.fork()
    if pid == 0:
        input("Proceed? [y/N] ")
    os.waitpid(pid, 0)


def reads_standard_input() -> None:
    """Waits for somebody to say more on its standard input."""
    if not Path("more").exists():
        os.mkfifo("more")
    os.dup2(os.open("more", os.O_RDWR), 0)
    sys.stdin.readline()


def sleeps() -> None:
    """A lost answer: it waits for ever, and for nothing."""
    signal.pause()


def deaf() -> None:
    """The same, and does not listen to being asked to end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        signal.pause()


def only_retries() -> None:
    """Tells every second that it tries again, and gets nowhere."""
    while True:
        print('{"type": "retry", "message": "waiting for network"}', flush=True)
        time.sleep(1)


def ticks() -> None:
    """Waits for ever with a timer that uses a little processor time, as event loops do."""
    while True:
        burn(0.001)
        time.sleep(0.1)


def stops() -> None:
    """Is stopped by a signal, and nobody lets it go on."""
    os.kill(os.getpid(), signal.SIGSTOP)


def hides_and_hangs() -> None:
    """Leaves a process behind, and is busy for ever itself, whatever it is asked."""
    double_forker()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        burn(0.2)
        time.sleep(0.4)


ENDLESS = (hides_and_hangs,)
HONEST = (quiet_build, quiet_build_of_children, bursts, slow_printer, starved, awaits_the_network, double_forker)
HUNG = (asks_on_a_terminal, reads_standard_input, sleeps, deaf, only_retries, ticks, stops)


def main() -> None:
    prompt, folder = sys.stdin.read(), Path(sys.argv[1])
    found = re.search(r"behaviour: (\w+)", prompt)
    assert found, prompt
    behaviour = next(one for one in (*HONEST, *HUNG, *ENDLESS) if one.__name__ == found[1])
    if behaviour in HUNG:
        Path("begun.txt").write_text(f"{prompt}\n")
        again = (folder / found[1]).exists()
        (folder / f"{found[1]}.new").write_text(str(time.time()))
        (folder / f"{found[1]}.new").rename(folder / (f"{found[1]}.again" if again else found[1]))
    behaviour()
    with Path("done.txt").open("a") as done:
        done.write(f"{found[1]}\n")


if __name__ == "__main__":
    main()
