"""`cloud-code demo`, run as a person runs it: what it says at the end must be true."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from agent_daemon.protocol.paths import Root
from supervisor.core.states import State
from supervisor.records import RecordStore
from tests.fakes.scripted_model import ScriptedModel
from tests.real_clis import need, program
from tests.site import PATIENCE_SECONDS, Pace, git, wait_for
from tests.thorough import where_there_is_time

KEY = "sk-demo-key-of-this-test"
TASK = "shop.fix-free-shipping"
BRANCH = "cloud-code/fix-free-shipping"
PATCH = (
    "*** Begin Patch\n*** Update File: shipping.py\n@@\n"
    "-    if goods_cents > FREE_FROM_CENTS:\n+    if goods_cents >= FREE_FROM_CENTS:\n*** End Patch\n"
)


def demo_argv(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "supervisor", "demo", "--dir", str(folder), *arguments]


def bare_environment(home: Path, **more: str) -> dict[str, str]:
    home.mkdir(exist_ok=True)
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **more}


def run_demo(folder: Path, *arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        demo_argv(folder, *arguments), env=dict(env), capture_output=True, text=True, timeout=240, check=False
    )


def processes_of(folder: Path) -> list[int]:
    """Processes that name the folder in their command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                known = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"{folder}/".encode() in known:
                found.append(int(entry.name))
    return found


def files_with(folder: Path, text: str) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and text.encode() in p.read_bytes()]


def check_it_happened(folder: Path, output: str) -> None:
    """Look at the remote, the clones and the record, not at what the demo says of them."""
    remote, root = folder / "remote.git", Root(folder / "root")
    tip = git("rev-parse", f"refs/heads/{BRANCH}", cwd=remote)
    assert git("rev-list", "--count", "main", cwd=remote) == "1"
    assert git("rev-list", "--count", f"main..{BRANCH}", cwd=remote) == "1"
    assert git("log", "-1", "--format=%an <%ae>", BRANCH, cwd=remote) == "Cloud Code <cloud-code@localhost>"
    assert git("diff", "--name-only", "main", BRANCH, cwd=remote) == "shipping.py"
    assert git("rev-parse", "HEAD", cwd=folder / "after") == tip
    for checkout, code in (("before", 1), ("after", 0)):
        ran = subprocess.run(
            [sys.executable, "-B", "-m", "unittest"], cwd=folder / checkout, capture_output=True, check=False
        )
        assert ran.returncode == code
    task = RecordStore(root).read(TASK)
    assert task.state is State.REVIEW
    assert task.delivery is not None
    assert task.delivery.pushed_head == tip
    for shown in (
        root.request(TASK).read_text(),
        "+    if goods_cents >= FREE_FROM_CENTS:",
        "FAILED (failures=1)",
        "exit code 0",
        f"{root.path}/tasks/fix-free-shipping.yaml",
        f"{root.mail}/backend-1/out/{TASK}/1/reporting.yaml",
    ):
        assert shown in output
    assert processes_of(folder) == []


def test_the_whole_way_in_under_a_minute(tmp_path: Path) -> None:
    folder, started, pace = tmp_path / "demo", time.monotonic(), Pace()
    done = run_demo(folder, env=bare_environment(tmp_path / "home"))
    seconds = time.monotonic() - started
    pace.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert seconds < 60 * pace.slowest
    assert "a small scripted program" in done.stdout
    assert "not a model" in done.stdout
    assert "supervisor   wrote mail/backend-1/in/" in done.stdout
    assert "workstation  Edited shipping.py" in done.stdout
    assert "\x1b" not in done.stdout
    check_it_happened(folder, done.stdout)


def test_a_coding_cli_that_fails_is_told_and_the_key_does_not_stay(tmp_path: Path) -> None:
    folder, programs = tmp_path / "demo", tmp_path / "programs"
    programs.mkdir()
    (programs / "codex").write_text('#!/bin/sh\nexec >/dev/null\ntest -n "$DEMO_KEY" && exit 7\nexit 9\n')
    (programs / "codex").chmod(0o755)
    env = bare_environment(tmp_path / "home", DEMO_KEY=KEY)
    env["PATH"] = f"{programs}:{env['PATH']}"
    done = run_demo(folder, "--cli", "codex", "--key-env", "DEMO_KEY", env=env)
    assert done.returncode == 1
    assert "E_DEMO" in done.stderr
    assert "exit code 7" in done.stderr  # the program was given the key
    assert "Done in" not in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert files_with(folder, KEY) == []
    assert yaml.safe_load((folder / "root/config.yaml").read_text())["clis"]["codex"]["pass_environment"] == [
        "DEMO_KEY"
    ]
    assert processes_of(folder) == []


def test_sigterm_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            demo_argv(folder, "--remove"), env=bare_environment(tmp_path / "home"), stdout=output, stderr=output
        )
    report = Root(folder / "root").attempt_out("backend-1", TASK, 1) / "reporting.yaml"

    def works() -> bool:
        assert process.poll() is None, (tmp_path / "output").read_text()
        return report.exists() and "in_progress" in report.read_text()

    try:
        wait_for(works, what="the agent works")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_SECONDS) == 130
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert processes_of(folder) == []
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "code"),
    [
        (["--cli", "codex"], {"PATH": "/nonexistent"}, "E_NO_CLI"),
        (["--cli", "claude-code"], {"PATH": "/nonexistent"}, "E_NO_CLI"),
        (["--dir", "/proc"], {}, "E_DEMO_FOLDER"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], code: str
) -> None:
    done = run_demo(tmp_path / "demo", *arguments, env=bare_environment(tmp_path / "home") | environment)
    assert done.returncode == 1
    assert code in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "demo").exists()


def environment_with(name: str, folder: Path) -> dict[str, str]:
    """PATH with a real coding CLI first; a skip, or a failure where it is required, when there is none."""
    found = program(name)
    need(found, name)
    programs = folder / "programs"
    programs.mkdir()
    if name == "opencode":  # in a new home it would fetch a package, in the background
        wrapper = programs / name
        wrapper.write_text(f'#!/bin/sh\nexport npm_config_registry=http://127.0.0.1:9\nexec {found} "$@"\n')
        wrapper.chmod(0o755)
    else:
        (programs / name).symlink_to(str(found))
    env = bare_environment(folder / "home", DEMO_KEY=KEY)
    return env | {"PATH": f"{programs}:{env['PATH']}"}


@pytest.mark.parametrize(
    ("cli", "name", "model"),
    [
        ("codex", "codex", "gpt-5.5"),
        ("claude-code", "claude", "sonnet"),
        *where_there_is_time(("aider", "aider", "openai/gpt-4o")),  # which `test_real_clis` takes the whole way
        ("gemini", "gemini", "gemini-2.5-pro"),
        ("opencode", "opencode", "scripted"),
    ],
)
def test_a_real_one_does_the_same(tmp_path: Path, cli: str, name: str, model: str) -> None:
    folder, environment = tmp_path / "demo", environment_with(name, tmp_path)
    with ScriptedModel(steps=[{"patch": PATCH}, {"shell": "python3 -m unittest"}]) as endpoint:
        bare = cli in ("claude-code", "gemini")
        url = endpoint.base_url.removesuffix("/v1") if bare else endpoint.base_url
        arguments = ("--cli", cli, "--base-url", url, "--key-env", "DEMO_KEY", "--model", model)
        done = run_demo(folder, *arguments, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    headers = endpoint.requests[0].headers
    places = ("authorization", "x-api-key", "x-goog-api-key")
    assert any(KEY in headers.get(place, "") for place in places)
    assert "scripted program" not in done.stdout
    check_it_happened(folder, done.stdout)
    assert files_with(folder, KEY) == []


def test_a_model_that_only_says_that_it_is_done_is_not_believed(tmp_path: Path) -> None:
    environment = environment_with("codex", tmp_path)
    with ScriptedModel("says-done-without-edit") as model:
        arguments = ("--cli", "codex", "--base-url", model.base_url, "--key-env", "DEMO_KEY")
        done = run_demo(tmp_path / "demo", *arguments, env=environment)
    assert done.returncode == 1
    assert "verification failed" in done.stderr
    assert processes_of(tmp_path / "demo") == []
