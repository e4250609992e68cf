"""`cloud-code` as a program: help, the root, exit codes, errors, completion."""

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from supervisor.cli.main import COMMANDS
from supervisor.cli.place import find_root, resolve_id
from supervisor.cli.task import ENTRIES as TASK_VERBS
from supervisor.cli.workstation import ENTRIES as WORKSTATION_VERBS
from supervisor.errors import CloudCodeError
from tests import preloaded
from tests.site import PATIENCE_SECONDS, Site, at_best, wait_for


def program(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "supervisor", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8"} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def forked(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same without the time of a start, where the start is not what is tested."""
    known = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8"}
    return preloaded.run(arguments, known | environment, cwd, PATIENCE_SECONDS)


def test_the_listing_names_every_command_and_imports_none_of_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "supervisor", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"pydantic", "rich", "loguru", "apscheduler", "supervisor.app"} & imported


@pytest.mark.parametrize("module", sorted({entry.place.partition(":")[0] for entry in COMMANDS.values()}))
def test_a_command_imports_all_that_it_needs(module: str) -> None:
    """Most tests run commands where everything has been imported already (`preloaded`)."""
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["task", "show", "nothing"],
        ["task", "list", "--json"],
        ["check"],
        ["nonsense"],
        ["run", "--help"],
    ],
    ids=" ".join,
)
def test_a_run_that_is_forked_is_as_one_that_is_started(site: Site, words: list[str]) -> None:
    site.write_config()
    site.write_task("a", title="Ünïcode")
    forked, started = (
        site.cli(*words, check=False),
        program("--root", str(site.root.path), *words, cwd=site.folder),
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


@pytest.mark.parametrize(
    "words",
    [
        *([name] for name in COMMANDS),
        *(["task", verb] for verb in TASK_VERBS),
        *(["workstation", verb] for verb in WORKSTATION_VERBS),
    ],
    ids=" ".join,
)
def test_every_command_explains_itself(words: list[str], tmp_path: Path) -> None:
    from click.testing import CliRunner

    from supervisor.cli.main import cli

    done = CliRunner().invoke(cli, [*words, "--help"])
    assert done.exit_code == 0, done.output
    assert f"Usage: cli {' '.join(words)}" in done.output
    assert len(done.output.splitlines()) > 4


def test_a_mistyped_command_is_a_usage_error_with_the_nearest_right_one(tmp_path: Path) -> None:
    done = forked("statsu", cwd=tmp_path)
    assert done.returncode == 2 and "Did you mean 'status'?" in done.stderr
    done = forked("task", "exlpain", "x", cwd=tmp_path)
    assert done.returncode == 2 and "Did you mean 'explain'?" in done.stderr


def test_a_folder_that_is_no_root_is_the_users_mistake_with_the_way_out(tmp_path: Path) -> None:
    done = forked("--root", str(tmp_path / "nothing"), "status", cwd=tmp_path)
    assert done.returncode == 1
    assert "E_NO_ROOT" in done.stderr and f"cloud-code init {tmp_path}/nothing" in done.stderr
    assert not (tmp_path / "nothing").exists()


def test_the_root_is_the_option_then_the_variable_then_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "c" / "config.yaml").touch()
    monkeypatch.chdir(tmp_path / "c")
    monkeypatch.setenv("CLOUD_CODE_ROOT", str(tmp_path / "b"))
    assert find_root(str(tmp_path / "a")).path == tmp_path / "a"
    assert find_root(None).path == tmp_path / "b"
    monkeypatch.delenv("CLOUD_CODE_ROOT")
    assert find_root(None).path == tmp_path / "c"
    monkeypatch.chdir(tmp_path)
    assert find_root(None).path == Path("/srv/cloud-code")


def test_a_folder_that_is_closed_to_this_user_is_no_root_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLOUD_CODE_ROOT", raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    (tmp_path / "home").chmod(0)
    me = os.geteuid()
    os.seteuid(me or 65534)  # (nothing is closed to root)
    try:
        assert find_root(None).path == Path("/srv/cloud-code")
    finally:
        os.seteuid(me)


def test_the_root_may_be_named_after_the_command_too(site: Site, tmp_path: Path) -> None:
    site.write_config()
    root = str(site.root.path)
    for words in (["task", "list", "--root", root], ["task", "--root", root, "list"], ["check", f"--root={root}"]):
        done = forked(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    done = forked("--root", "/nowhere", "task", "add", "More", "--root", root, cwd=tmp_path)
    assert done.returncode == 0 and (site.root.tasks / "more.yaml").exists()
    shown = forked("status", "--root", root, cwd=tmp_path).stdout
    assert shown.startswith(f"{root}: NO supervisor is running")
    assert forked("task", "list", "--root", cwd=tmp_path).returncode == 2


def test_a_task_is_found_by_a_unique_end_of_its_id() -> None:
    ids = ["acme.login", "acme.logout", "shop.login", "shop.cart"]
    assert resolve_id("shop.login", ids) == "shop.login"
    assert resolve_id("cart", ids) == "shop.cart"
    with pytest.raises(CloudCodeError, match=r"E_AMBIGUOUS_TASK.*acme\.login, shop\.login"):
        resolve_id("login", ids)
    with pytest.raises(CloudCodeError, match=r"E_NO_TASK.*Did you mean 'logout'"):
        resolve_id("logot", ids)


def test_a_bug_leaves_a_log_that_can_be_pasted_and_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import click\n\n@click.command()\ndef command():\n    raise KeyError('never\\x1b[31m')\n"
    )
    code = (
        "from supervisor.cli import main\nfrom supervisor.cli.lazy import Entry\n"
        "main.COMMANDS['broken'] = Entry('broken:command', 'fails')\nmain.main()\n"
    )
    root = tmp_path / "root"
    (root / "state").mkdir(parents=True)
    for given, folder in ((root, root / "state"), (tmp_path / "elsewhere", tmp_path / "temporary")):
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", code, "--root", str(given), "broken"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path / "temporary")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 3, done.stderr
        (log,) = folder.glob("cloud-code-bug-*.md")
        assert str(log) in done.stderr and "Traceback" not in done.stderr and "\x1b" not in done.stderr
        assert "Traceback" in log.read_text() and "broken" in log.read_text()


def test_a_reader_that_has_had_enough_is_no_error(site: Site) -> None:
    site.write_config()
    site.root.events.parent.mkdir()
    site.root.events.write_text("".join(f'{{"seq": {n}, "event": "x.y"}}\n' for n in range(1, 20_000)))
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"set -o pipefail; {sys.executable} -m supervisor --root {site.root.path} events | head -1",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "redirection"),
    [
        *(
            (words, ">/dev/full")
            for words in ("status --json", "status", "task list", "events", "check", "--help")
        ),
        *(("schema task", redirection) for redirection in (">&-", ">/dev/full", ">&- 2>&-", "<&- >/dev/full")),
    ],
)
def test_output_that_cannot_be_written_is_one_sentence(site: Site, words: str, redirection: str) -> None:
    site.write_config()
    site.root.state.mkdir()
    site.root.events.write_text('{"seq": 1, "event": "x.y"}\n')
    line = f"{sys.executable} -m supervisor --root {site.root.path} {words} {redirection}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout == "" and not list(site.root.state.glob("*bug*"))
    if "2>&-" not in redirection:
        (sentence,) = done.stderr.splitlines()
        assert sentence.startswith("cloud-code: standard output cannot be written: ")


def test_errors_that_nobody_can_read_change_nothing(site: Site) -> None:
    site.write_config()
    for redirection in ("2>&-", "2>/dev/full"):
        line = f"{sys.executable} -m supervisor --root {site.root.path} status --json {redirection}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and done.stdout.startswith("{")


def as_a_stranger(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as somebody who may write only what its permissions let its owner write; root may otherwise all."""
    rights = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--"] if os.getuid() == 0 else []
    return subprocess.run(
        [*rights, sys.executable, "-m", "supervisor", "--root", str(site.root.path), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(site.folder), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_may_not_be_written_is_named_with_its_owner(site: Site) -> None:
    site.write_config()
    site.write_task("a")
    site.cli("run", "--once")
    folders = (site.root.path, site.root.tasks, site.root.state, site.root.commands, site.root.records)
    for path in folders:
        path.chmod(0o555)
    site.root.lock.chmod(0o444)
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
        for words, place in (
            (["task", "add", "More"], site.root.tasks),
            (["task", "cancel", "a"], site.root.commands),
            (["run", "--once"], site.root.lock),
            (["init"], site.root.tasks),
        ):
            done = as_a_stranger(site, *words)
            assert done.returncode == 1, words
            assert f"E_NOT_WRITABLE: {place} cannot be written: Permission denied." in done.stderr, words
            assert f"You are {user}." in done.stderr and f"belongs to {user}" in done.stderr
        site.root.commands.chmod(0o777)

        def take() -> float:
            began = time.monotonic()
            done = as_a_stranger(site, "task", "cancel", "a")
            assert done.returncode == 1 and f"E_NOT_WRITABLE: {site.root.lock}" in done.stderr
            return time.monotonic() - began

        assert at_best(take, 8) < 8, "nobody is waited for who does not run"
        assert as_a_stranger(site, "status").returncode == 0
    finally:
        for path in folders:
            path.chmod(0o755)


def test_a_file_in_a_folders_place_is_named_with_the_way_out(site: Site) -> None:
    site.write_config()
    site.root.state.mkdir()
    site.root.commands.touch()
    done = site.cli("run", "--once", check=False)
    assert done.returncode == 1
    assert f"{site.root.commands}: File exists." in done.stderr and "move away" in done.stderr
    site.root.commands.unlink()
    site.root.events.mkdir()
    assert site.cli("status").returncode == 0
    done = site.cli("run", "--once", check=False)
    assert done.returncode == 1 and f"{site.root.events}: Is a directory." in done.stderr
    site.root.config.unlink()
    site.root.config.mkdir()
    done = site.cli("check", check=False)
    assert done.returncode == 1 and "E_CONFIG_UNREADABLE" in done.stdout and "move the folder away" in done.stdout


def test_ctrl_c_ends_what_follows_with_130(site: Site) -> None:
    site.write_config()
    site.root.events.parent.mkdir()
    site.root.events.write_text('{"seq": 1, "event": "x.y"}\n')
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "supervisor", "--root", str(site.root.path), "events", "--follow"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "x.y" in process.stdout.readline()
    with site.root.events.open("a") as file:
        file.write('{"seq": 2, "event": "x.z", "task": "demo.a"}\n')
    assert "x.z" in process.stdout.readline()
    site.root.events.rename(site.root.events.with_suffix(".jsonl.1"))
    site.root.events.write_text('{"seq": 3, "event": "after.rotation"}\n')
    assert "after.rotation" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=100) == 130
    process.stdout.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_script_for_each_shell(shell: str, tmp_path: Path) -> None:
    done = forked("completion", shell, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "_CLOUD_CODE_COMPLETE" in done.stdout and "cloud-code" in done.stdout


def test_the_shell_completes_commands_tasks_and_workstations(site: Site) -> None:
    site.write_config()
    for folder in (site.root.records, site.root.workstations):
        folder.mkdir(parents=True)
    for name in ("demo.fix-add", "demo.fix-sub", "demo.other"):
        (site.root.records / f"{name}.yaml").touch()
    (site.root.workstations / "backend-1.yaml").touch()

    def completed(words: str) -> list[str]:
        asked = f"cloud-code --root {site.root.path} {words}"
        done = forked(
            cwd=site.folder,
            _CLOUD_CODE_COMPLETE="bash_complete",
            COMP_WORDS=asked,
            COMP_CWORD=str(len(asked.split(" ")) - 1),
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line]

    assert completed("stat") == ["status"]
    assert completed("task show fi") == ["fix-add", "fix-sub"]
    assert completed("task cancel demo.fix-a") == ["demo.fix-add"]
    assert completed("task diff ") == ["demo.fix-add", "demo.fix-sub", "demo.other"]
    assert completed("workstation stop ") == ["backend-1"]
    assert completed("schema repo") == ["reporting"]
    assert completed("check c") == ["config"]
    assert completed("task add x --specialist ") == ["backend"]
    site.root.config.write_text("projects: [")
    assert completed("task add x --specialist ") == []
    assert not list(site.root.state.glob("*bug*"))


def test_schemas_are_listed_and_printed(tmp_path: Path) -> None:
    names = forked("schema", cwd=tmp_path).stdout
    assert "reporting" in names and "config" in names
    assert "config" in json.loads(forked("schema", "--json", cwd=tmp_path).stdout)
    assert (
        '"$schema": "https://json-schema.org/draft/2020-12/schema"'
        in forked("schema", "task", cwd=tmp_path).stdout
    )
    done = forked("schema", "taks", cwd=tmp_path)
    assert done.returncode == 1 and "Did you mean 'task'?" in done.stderr


def test_a_follower_waits_for_the_first_event(site: Site) -> None:
    site.write_config()
    site.root.state.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "supervisor", "--root", str(site.root.path), "events", "-f", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: process.poll() is None)
        site.root.events.write_text('{"seq": 1, "event": "first.one", "details": {"said": "\\u001b[2J"}}\n')
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "first.one" in line and "\x1b" not in line
        process.stdout.close()
    finally:
        process.kill()
        process.wait()
