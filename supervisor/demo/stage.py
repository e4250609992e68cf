"""The demo's folder: a remote with a real failing test, a root, and the two clones that prove the difference."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.paths import Root
from supervisor.demo.agents import DemoAgent
from supervisor.errors import CloudCodeError
from supervisor.git.command import run_git

REPOSITORY = Path(__file__).with_name("repository")
PROJECT, STEM, STATION = "shop", "fix-free-shipping", "backend-1"
TASK_ID = f"{PROJECT}.{STEM}"
TEST_SECONDS = 60

_AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Demo"), ("EMAIL", "demo@localhost"))
}

_TASK = """\
# yaml-language-server: $schema=../state/schemas/task.schema.json
title: Fix free shipping for an order of exactly 50.00
type: bugfix
description: |
  Orders of 50.00 or more ship for free, says the documentation of shipping_cents().
  An order of exactly 50.00 is charged 4.90, and a test fails for it.
acceptance_criteria:
  - An order of exactly 50.00 ships for free
  - Smaller orders still pay the flat price
related_files: [shipping.py]
verification:
  - name: tests
    command: {command}
    timeout_seconds: 60
"""


@dataclass(frozen=True)
class SuiteRun:
    """One run of the repository's tests in a clone: the exit code, and what it printed."""

    exit_code: int
    output: str


@dataclass(frozen=True)
class Stage:
    """Where everything of one demo lies."""

    folder: Path

    @property
    def remote(self) -> Path:
        return self.folder / "remote.git"

    @property
    def root(self) -> Root:
        return Root(self.folder / "root")

    @property
    def before(self) -> Path:
        return self.folder / "before"

    @property
    def after(self) -> Path:
        return self.folder / "after"

    @property
    def log(self) -> Path:
        return self.folder / "supervisor.log"

    @property
    def task_file(self) -> Path:
        return self.root.task_file(STEM)


def choose_folder(wanted: Path | None) -> Path:
    """The folder for a new demo: a fresh one, or the one that was asked for if nothing is in it."""
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="cloud-code-demo-")).resolve()
    folder = wanted.expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CloudCodeError("E_DEMO_FOLDER", f"{folder} is not empty.", "Name a folder that is new or empty.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build(folder: Path, agent: DemoAgent) -> Stage:
    """Make the remote, the clone that shows the failing test, and the root with its configuration."""
    stage = Stage(folder)
    _make_remote(stage.remote)
    clone(stage.remote, "main", stage.before)
    stage.root.tasks.mkdir(parents=True)
    write_config(stage, agent)
    return stage


def _make_remote(remote: Path) -> None:
    run_git(["init", "--quiet", "--bare", "--initial-branch=main", "--template=", "--", str(remote)])
    with tempfile.TemporaryDirectory(prefix="cloud-code-demo-files-") as scratch:
        files = Path(scratch) / "files"
        files.mkdir()
        for file in REPOSITORY.glob("*.txt"):  # the suffix keeps our own tools from taking them for our code
            shutil.copyfile(file, files / file.stem)
        environment = _AUTHOR | {"GIT_WORK_TREE": str(files), "GIT_INDEX_FILE": str(Path(scratch) / "index")}
        run_git(["add", "--all"], git_dir=remote, environment=environment)
        message = "Shipping is free from 50.00 on"
        run_git(["commit", "--quiet", f"--message={message}"], git_dir=remote, environment=environment)


def write_config(stage: Stage, agent: DemoAgent) -> None:
    """`config.yaml`, which names the variable of a key and never holds one."""
    station: dict[str, Any] = {"driver": "local", "count": 1, "clis": [agent.name]}
    config = {
        "version": 1,
        "projects": {
            PROJECT: {
                "repository": str(stage.remote),
                "base_branch": "main",
                "limits": {"timeout_minutes": 10, "max_failures": 2},
            }
        },
        "workstations": {STATION.rpartition("-")[0]: station},
        "clis": {agent.name: dict(agent.settings)},
        "retry": {"first_seconds": 2},
        "timing": {"report_interval_seconds": 0.2},
    }
    head = "# yaml-language-server: $schema=state/schemas/config.schema.json\n"
    text = head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    write_file(stage.root.config, text.encode(), mode=0o600)


def write_task(stage: Stage) -> None:
    """Save the task file, as a person would: this alone starts the task."""
    text = _TASK.format(command=json.dumps(verification_command()))
    write_file(stage.task_file, text.encode())


def verification_command() -> str:
    """How the verification runs the tests: with the machine's `python3` where there is one."""
    return f"{'python3' if shutil.which('python3') else sys.executable} -m unittest"


def clone(remote: Path, branch: str, target: Path) -> None:
    """A fresh clone of one branch, with nothing shared with the remote's folder."""
    arguments = ["clone", "--quiet", "--no-local", "--template=", f"--branch={branch}"]
    run_git([*arguments, "--", str(remote), str(target)], owner=target.parent)


def run_tests(checkout: Path) -> SuiteRun:
    """Run the repository's tests as they are in this clone."""
    ended = subprocess.run(
        [sys.executable, "-B", "-m", "unittest", "-v"],
        cwd=checkout,
        env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TEST_SECONDS,
        check=False,
    )
    return SuiteRun(ended.returncode, (ended.stdout + ended.stderr).decode(errors="replace").strip())


def difference(checkout: Path) -> str:
    """What the pushed branch changes against `main`, as a diff."""
    arguments = ["diff", "--no-color", "--no-ext-diff", "--no-textconv", "origin/main", "HEAD"]
    return run_git(arguments, git_dir=checkout / ".git").decode(errors="replace")
