"""A coding CLI that follows a script; the real thing's stand-in, run through the adapter ``command``.

``python tests/fakes/scripted_agent.py --script FILE``: reads its prompt from standard input (or from
``--prompt-file``), then does what the list in FILE (JSON; YAML where PyYAML is there) says, in the current
folder. A step is a name, or a mapping of one name to its value:

=========================  =================================================================================
``say: TEXT``              a JSON progress line; ``print: TEXT`` is a plain line, ``complain: TEXT`` on stderr
``event: {…}``             any JSON line
``save_prompt: FILE``      writes the prompt there
``save_environment: FILE`` writes the names of the variables it sees, one a line
``write: {path, text}``    writes a file; ``append: {path, text}``; ``remove: PATH``
``run: COMMAND``           a shell line; its failure is told and does not end the script
``commit: MESSAGE``        adds and commits everything
``wait_for: PATH``         goes on once the file is there
``fork_daemon: FILE``      leaves a process in a session of its own (a double fork) and writes its pid to FILE
``fork_daemon: {pid_file, clear_environment, ignore_sigterm, hold_pipes}``    the same, harder to find
``spam: BYTES``            that much output
``ignore_sigterm``         from now on
``hang``                   sleeps until it is killed
``once: {marker, steps}``  these steps only when the file `marker` is not there yet; makes it first
``exit: CODE``             ends here; the end of the script is ``exit: 0``
=========================  =================================================================================

Paths are relative to the current folder. ``{{prompt}}`` in a text stands for the prompt.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LOOK_AGAIN_SECONDS = 0.02


class Agent:
    """Plays steps; one method for each step's name."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt

    def play(self, steps: list[Any]) -> None:
        for step in steps:
            name, value = (step, None) if isinstance(step, str) else next(iter(step.items()))
            getattr(self, f"step_{name}")(value)

    def text(self, value: str) -> str:
        return value.replace("{{prompt}}", self.prompt)

    def step_say(self, value: str) -> None:
        self.step_event({"type": "progress", "message": self.text(value)})

    def step_event(self, value: dict[str, Any]) -> None:
        print(json.dumps(value), flush=True)

    def step_print(self, value: str) -> None:
        print(self.text(value), flush=True)

    def step_complain(self, value: str) -> None:
        print(self.text(value), file=sys.stderr, flush=True)

    def step_save_prompt(self, value: str) -> None:
        Path(value).write_text(self.prompt)

    def step_save_environment(self, value: str) -> None:
        Path(value).write_text("".join(f"{name}\n" for name in sorted(os.environ)))

    def step_write(self, value: dict[str, str]) -> None:
        path = Path(value["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text(value["text"]))

    def step_append(self, value: dict[str, str]) -> None:
        with Path(value["path"]).open("a") as file:
            file.write(self.text(value["text"]))

    def step_remove(self, value: str) -> None:
        Path(value).unlink()

    def step_run(self, value: str) -> None:
        ended = subprocess.run(["sh", "-c", value], check=False)
        self.step_event({"type": "progress", "command": value, "exit_code": ended.returncode})

    def step_commit(self, value: str) -> None:
        name = ("-c", "user.name=Scripted Agent", "-c", "user.email=agent@example.org")
        subprocess.run(["git", "add", "-A"], check=True)
        subprocess.run(["git", *name, "commit", "-q", "--no-verify", "-m", self.text(value)], check=True)

    def step_wait_for(self, value: str) -> None:
        while not Path(value).exists():
            time.sleep(LOOK_AGAIN_SECONDS)

    def step_fork_daemon(self, value: str | dict[str, Any]) -> None:
        options = {"pid_file": value} if isinstance(value, str) else value
        pid_file = Path(options["pid_file"]).absolute()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.setsid()
            if os.fork() == 0:
                leave_behind(pid_file, options)
            os._exit(0)
        os.waitpid(child, 0)
        self.step_wait_for(str(pid_file))

    def step_spam(self, value: int) -> None:
        line = "x" * 999 + "\n"
        for _ in range(value // len(line) + 1):
            sys.stdout.write(line)
        sys.stdout.flush()

    def step_ignore_sigterm(self, _: None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def step_hang(self, _: None) -> None:
        while True:
            signal.pause()

    def step_once(self, value: dict[str, Any]) -> None:
        marker = Path(value["marker"])
        if not marker.exists():
            marker.touch()
            self.play(value["steps"])

    def step_exit(self, value: int) -> None:
        sys.exit(value)


def leave_behind(pid_file: Path, options: dict[str, Any]) -> None:
    """The grandchild: becomes a program that sleeps and writes its pid once it is as asked for."""
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " if options.get("ignore_sigterm") else ""
    code = (
        f"import os, signal, sys; {ignore}"
        "temporary = sys.argv[1] + '.new'; "
        "open(temporary, 'w').write(str(os.getpid())); os.replace(temporary, sys.argv[1]); "
        "[signal.pause() for _ in iter(int, 1)]"
    )
    if not options.get("hold_pipes"):
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
    environment = {} if options.get("clear_environment") else dict(os.environ)
    os.execve(sys.executable, [sys.executable, "-c", code, str(pid_file)], environment)  # noqa: S606


def read_script(path: Path) -> list[Any]:
    text = path.read_text()
    if path.suffix == ".json":
        script = json.loads(text)
    else:
        import yaml

        script = yaml.safe_load(text)
    return list(script or [])


def main() -> None:
    parser = argparse.ArgumentParser(description="A coding CLI that follows a script.")
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--prompt-file", type=Path)
    options, _ = parser.parse_known_args()
    prompt = options.prompt_file.read_text() if options.prompt_file else sys.stdin.read()
    Agent(prompt).play(read_script(options.script))


if __name__ == "__main__":
    main()
