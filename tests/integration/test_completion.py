"""Completion in real shells, at a terminal: what a person gets for the TAB key."""

import os
import pty
import re
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site import PATIENCE_SECONDS, Site

# What the documents tell people to write into their shell's start file, with the script where they put it.
SET_UP = {
    "bash": ["bash --norc -i", "source {folder}/cloud-code.bash"],
    "zsh": ["zsh -f -i", "fpath=({folder} $fpath)", "autoload -U compinit && compinit -u -D"],
}
FILES = {"bash": "cloud-code.bash", "zsh": "_cloud-code"}


class Terminal:
    """A shell at a terminal of its own."""

    def __init__(self, command: str, environment: dict[str, str], cwd: Path) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            argv = command.split()
            os.execvpe(argv[0], argv, environment)  # noqa: S606

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def read_until(self, pattern: str, timeout_seconds: float = PATIENCE_SECONDS) -> str:
        """What is shown until this is; escape sequences are taken out."""
        deadline, seen = time.monotonic() + timeout_seconds, ""
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self.descriptor], [], [], 0.2)
            if ready:
                try:
                    seen += os.read(self.descriptor, 65536).decode(errors="replace")
                except OSError:
                    break
            plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r|\x07|.\x08", "", seen)
            if re.search(pattern, plain):
                return plain
        raise AssertionError(f"{pattern!r} does not come: {seen!r}")

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.descriptor)


@pytest.fixture(params=list(SET_UP))
def shell(request: pytest.FixtureRequest, site: Site) -> Iterator[Terminal]:
    """A shell in which the completion is set up, on a root with some tasks."""
    name = request.param
    needs(name)
    site.write_config()
    for folder in (site.root.records, site.root.workstations):
        folder.mkdir(parents=True)
    for task in ("demo.fix-add", "demo.fix-sub"):
        (site.root.records / f"{task}.yaml").touch()
    (site.root.workstations / "backend-1.yaml").touch()
    programs = site.folder / "bin"
    programs.mkdir()
    program = programs / "cloud-code"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m supervisor "$@"\n')
    program.chmod(0o755)
    (site.folder / FILES[name]).write_text(site.cli("completion", name).stdout)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(site.folder),
        "TERM": "dumb",
        "LANG": "C.UTF-8",
        "PS1": "$ ",
        "CLOUD_CODE_ROOT": str(site.root.path),
    }
    command, *lines = SET_UP[name]
    terminal = Terminal(command, environment, site.folder)
    try:
        for line in [*lines, "echo re''ady"]:
            terminal.type(line.format(folder=site.folder) + "\n")
        terminal.read_until(r"(?m)^ready")
        yield terminal
    finally:
        terminal.close()


def needs(name: str) -> None:
    if shutil.which(name) is None:
        reason = f"{name} is not installed"
        if name in os.environ.get("CLOUD_CODE_TEST_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)


def test_the_tab_key_completes_a_command_a_task_and_a_workstation(shell: Terminal) -> None:
    shell.type("cloud-code stat\t")
    shell.read_until(r"cloud-code status ?$")
    shell.type("\x15cloud-code task show fix-a\t")
    shell.read_until(r"task show fix-add ?$")
    shell.type("\x15cloud-code workstation stop b\t")
    shell.read_until(r"workstation stop backend-1 ?$")
    shell.type("\x15cloud-code task show \t\t")
    shell.read_until(r"task show demo\.fix-")


def test_the_tab_key_completes_names_of_the_configuration(shell: Terminal) -> None:
    shell.type("cloud-code task add x --specialist b\t")
    shell.read_until(r"--specialist backend ?$")
    shell.type("\x15cloud-code task list --root $CLOUD_CODE_ROOT --state rev\t")
    shell.read_until(r"--state review ?$")
