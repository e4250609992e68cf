"""`task add`, `task edit` and the reading verbs, on a root where no supervisor runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_daemon.protocol.model import WaitReason
from supervisor.cli.task_add import add, stem_of
from supervisor.cli.task_text import task_text
from supervisor.core.record import TaskRecord, Wait
from supervisor.core.states import State
from supervisor.core.task_file import TaskFile
from tests.site import Site
from tests.unit.conftest import make_attempt, make_task


@pytest.fixture
def ready(site: Site) -> Site:
    site.write_config()
    return site


def keep(site: Site, stem: str, *, archived: bool = False, **fields: Any) -> TaskRecord:
    """Put a record where the supervisor would have it."""
    for folder in (site.root.records, site.root.archive):
        folder.mkdir(parents=True, exist_ok=True)
    task = site.store.save(make_task(id=f"demo.{stem}", project="demo", **fields))
    if archived:
        site.store.archive(task)
    return task


class TestAdd:
    def test_everything_that_is_given_stands_in_the_file(self, ready: Site) -> None:
        options = ["--description", "-", "--label", "api", "--label", "db", "--priority", "high"]
        options += ["--criterion", "it works", "--depends-on", "other", "--depends-on", "demo.more:merged"]
        options += ["--type", "bugfix", "--specialist", "backend", "--file", "a.py", "--file", "b.py"]
        options += ["--limit", "timeout_minutes=60", "--limit", "cost_usd=1.50", "--max-failures", "2"]
        options += ["--base-branch", "next", "--expects", "document", "--allow-empty"]
        options += ["--workspace-mode", "isolated"]
        options += ["--verify", "unit tests=pytest -q -k 'a=b'"]
        title = "Fix the Login: now!"
        done = subprocess.run(
            [sys.executable, "-m", "supervisor", "--root", str(ready.root.path), "task", "add", title, *options],
            input="First line\n\n  # not a comment\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        path = ready.root.tasks / "fix-the-login-now.yaml"
        assert str(path) in done.stdout and "demo.fix-the-login-now" in done.stdout
        assert f"(`cloud-code --root {ready.root.path} run`)" in done.stderr
        written = yaml.safe_load(path.read_text())
        assert written == {
            "title": "Fix the Login: now!",
            "project": "demo",
            "description": "First line\n\n  # not a comment\n",
            "priority": "high",
            "labels": ["api", "db"],
            "acceptance_criteria": ["it works"],
            "verification": [{"name": "unit tests", "command": "pytest -q -k 'a=b'"}],
            "depends_on": ["other", {"task": "demo.more", "until": "merged"}],
            "type": "bugfix",
            "specialist": "backend",
            "related_files": ["a.py", "b.py"],
            "limits": {"timeout_minutes": 60, "cost_usd": 1.5},
            "max_failures": 2,
            "base_branch": "next",
            "expects": "document",
            "allow_empty": True,
            "workspace_mode": "isolated",
        }
        assert "description: |" in path.read_text() and "$schema" in path.read_text()
        assert ready.cli("check", "tasks").returncode == 0

    def test_a_second_project_makes_no_problem_of_what_was_added(self, ready: Site) -> None:
        ready.cli("task", "add", "First")
        (ready.root.tasks / "by-hand.yaml").write_text("title: By hand\n")
        ready.config["projects"]["second"] = {"repository": str(ready.remote)}
        ready.write_config()
        checked = ready.cli("check", "tasks", check=False)
        assert "first.yaml" not in checked.stdout
        assert "E_NO_PROJECT" in checked.stdout and "project: one of demo, second" in checked.stdout
        assert "write the one that it is for into the file" in checked.stdout

    def test_there_is_an_option_for_each_key_of_a_task_file(self) -> None:
        assert set(TaskFile.model_fields) - {"cancel"} <= {parameter.name for parameter in add.params}

    def test_an_existing_name_is_refused_whether_file_or_ended_task(self, ready: Site) -> None:
        ready.cli("task", "add", "Same")
        before = (ready.root.tasks / "same.yaml").read_bytes()
        again = ready.cli("task", "add", "Same", check=False)
        assert again.returncode == 1 and "E_TASK_EXISTS" in again.stderr
        assert (ready.root.tasks / "same.yaml").read_bytes() == before
        keep(ready, "old", archived=True, state=State.COMPLETED)
        ended = ready.cli("task", "add", "Old", check=False)
        assert ended.returncode == 1 and "cloud-code task retry demo.old" in ended.stderr

    def test_what_cannot_be_a_task_is_not_written(self, ready: Site) -> None:
        ready.config["projects"]["second"] = {"repository": str(ready.remote)}
        ready.write_config()
        for arguments, code in (
            (["A"], "E_TASK"),
            (["A", "--project", "third"], "E_TASK"),
            (["A", "--project", "second", "--name", "pr7"], "E_NAME"),
            (["A", "--project", "second", "--name", "No Name"], "E_NAME"),
            (["", "--project", "second"], "The title is empty"),
            ([" \n", "--project", "second"], "The title is empty"),
        ):
            done = ready.cli("task", "add", *arguments, check=False)
            assert done.returncode == 1 and code in done.stderr, arguments
        for option, value, said in (
            ("--base-branch", "a..b", "not the name of a branch"),
            ("--depends-on", "a b", "'a b' is not the name of a task (depends_on[0])"),
            ("--specialist", "nobody", "one of backend"),
        ):
            done = ready.cli("task", "add", "A", "--project", "second", option, value, check=False)
            assert done.returncode == 1 and said in done.stderr
        assert ready.cli("task", "add", "A", "--verify", "no command", check=False).returncode == 2
        assert ready.cli("task", "add", "A", "--limit", "cost_usd", check=False).returncode == 2
        wrong = ready.cli("task", "add", "A", "--project", "second", "--limit", "cost=1", check=False)
        assert wrong.returncode == 1 and "did you mean `cost_usd`?" in wrong.stderr
        assert ready.cli("task", "add", "A", "--priority", "urgent", check=False).returncode == 2
        assert list(ready.root.tasks.iterdir()) == []
        ready.cli("task", "add", "A", "--project", "second")

    @pytest.mark.parametrize(
        ("title", "stem"),
        [
            ("Fix the login redirect", "fix-the-login-redirect"),
            ("Größe prüfen: ÄÖÜ", "grosse-prufen-aou"),
            ("42 things", "task-42-things"),
            ("日本語", "task"),
            ("Upgrade to R2", "upgrade-to-r-2"),
            ("--upload-pack=x $(y)", "upload-pack-x-y"),
            ("a" * 100, "a" * 41),
            ("several words that together are much longer than forty", "several-words-that-together-are-much"),
        ],
    )
    def test_a_title_makes_a_name(self, title: str, stem: str) -> None:
        assert stem_of(title) == stem

    @pytest.mark.parametrize("text", ["no", "1:30", "- x", "a: b", "tab\there", "x\n  y\n", "*a", "'", "# c", ""])
    def test_any_text_survives_the_file(self, text: str) -> None:
        written = yaml.safe_load(task_text("T", {"description": text, "acceptance_criteria": [text or "x"]}))
        assert written.get("description", "") == text and written["acceptance_criteria"] == [text or "x"]


class TestEdit:
    def edit(self, site: Site, task_id: str, script: str) -> subprocess.CompletedProcess[str]:
        editor = site.folder / "editor.sh"
        editor.write_text(script)
        site.environment["VISUAL"] = f"bash {editor}"
        return site.cli("task", "edit", task_id, check=False)

    def test_the_file_is_opened_and_checked(self, ready: Site) -> None:
        path = ready.write_task("login")
        done = self.edit(ready, "login", 'echo "priority: high" >> "$1"')
        assert done.returncode == 0 and "changed" in done.stdout
        assert yaml.safe_load(path.read_text())["priority"] == "high"
        assert "not changed" in self.edit(ready, "login", "true").stdout

    def test_a_mistake_is_told_with_its_line_and_the_file_is_left(self, ready: Site) -> None:
        path = ready.write_task("login")
        done = self.edit(ready, "login", 'echo "priorty: high" >> "$1"')
        assert done.returncode == 1
        assert "tasks/login.yaml:2: E_UNKNOWN_KEY" in done.stderr and "did you mean `priority`?" in done.stderr
        assert "priorty" in path.read_text()

    def test_an_editor_that_fails_is_an_error(self, ready: Site) -> None:
        ready.write_task("login")
        done = self.edit(ready, "login", "exit 3")
        assert done.returncode == 1 and "E_EDITOR" in done.stderr
        assert "exit code 3" in done.stderr and "is not changed" in done.stderr and done.stdout == ""
        ready.environment["VISUAL"] = "no-such-editor"
        assert ready.cli("task", "edit", "login", check=False).returncode == 1

    def test_a_task_is_found_by_its_id_and_needs_its_file(self, ready: Site) -> None:
        keep(ready, "login")
        done = self.edit(ready, "demo.login", "true")
        assert done.returncode == 1 and "E_NO_FILE" in done.stderr
        ready.write_task("login")
        assert self.edit(ready, "demo.login", "true").returncode == 0
        assert "E_NO_TASK" in self.edit(ready, "nothing", "true").stderr

    def test_without_an_editor_it_says_so(self, ready: Site) -> None:
        ready.write_task("login")
        ready.environment["VISUAL"] = "no-such-editor"
        done = ready.cli("task", "edit", "login", check=False)
        assert done.returncode == 1 and "E_NO_EDITOR" in done.stderr


class TestReading:
    def test_lists_are_for_people_and_for_programs(self, ready: Site) -> None:
        keep(
            ready, "works", state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),), title="[bold]x[/bold]"
        )
        keep(ready, "asks", state=State.BLOCKED, waits_for=(Wait(reason=WaitReason.QUESTION, message="[red]?"),))
        keep(ready, "done", state=State.COMPLETED, archived=True)
        ready.write_task("new")
        shown = ready.cli("task", "list").stdout
        assert (
            "demo.works" in shown and "[red]?" in shown and "tasks/new.yaml" in shown and "demo.done" not in shown
        )
        assert "demo.done" in ready.cli("task", "list", "--all").stdout
        rows = json.loads(ready.cli("task", "list", "--json", "--state", "blocked").stdout)
        assert [(row["id"], row["doing"]) for row in rows] == [("demo.asks", "[red]?")]
        rows = json.loads(ready.cli("task", "list", "--json", "--state", "completed").stdout)
        assert [row["id"] for row in rows] == ["demo.done"]

    def test_status_is_the_whole_picture(self, ready: Site) -> None:
        keep(ready, "asks", state=State.BLOCKED, waits_for=(Wait(reason=WaitReason.QUESTION, message="Which?"),))
        (ready.root.records / "demo.bad.yaml").write_text("{")
        (ready.root.tasks / "typo.yaml").write_text("titel: A\n")
        ready.write_task("new")
        shown = ready.cli("status").stdout
        for part in (
            "NO supervisor is running",
            "backend-1",
            "demo.asks",
            f"cloud-code --root {ready.root.path} task answer demo.asks",
            "tasks/new.yaml",
            "tasks/typo.yaml:1: E_UNKNOWN_KEY",
            "demo.bad.yaml",
        ):
            assert part in shown, part
        found = json.loads(ready.cli("status", "--json").stdout)
        assert not found["running"] and found["waiting"][0]["task"] == "demo.asks"
        assert [station["state"] for station in found["workstations"]] == ["down"]
        assert [file["task"] for file in found["files"]] == ["demo.new"]
        assert (ready.root.records / "demo.bad.yaml").exists(), "a reader moves nothing"

    def test_status_of_a_root_with_a_broken_configuration_still_shows_the_tasks(self, ready: Site) -> None:
        keep(ready, "asks", state=State.BLOCKED)
        ready.root.config.write_text("projekts: {}\n")
        shown = ready.cli("status").stdout
        assert "demo.asks" in shown and "E_UNKNOWN_KEY" in shown

    def test_explain_and_show_answer_for_a_task_by_the_end_of_its_id(self, ready: Site) -> None:
        keep(ready, "asks", state=State.BLOCKED, waits_for=(Wait(reason=WaitReason.QUESTION, message="Which?"),))
        shown = ready.cli("task", "explain", "asks").stdout
        assert "It waits for an answer: Which?" in shown
        found = json.loads(ready.cli("task", "explain", "asks", "--json").stdout)
        assert found["state"] == "blocked" and found["can"][0]["command"].startswith("cloud-code task answer")
        assert "demo.asks: Fix the login" in ready.cli("task", "show", "asks").stdout
        assert json.loads(ready.cli("task", "show", "asks", "--json").stdout)["task"]["id"] == "demo.asks"

    def test_a_damaged_record_is_one_sentence(self, ready: Site) -> None:
        keep(ready, "bad")
        (ready.root.records / "demo.bad.yaml").write_text("state: [")
        done = ready.cli("task", "show", "bad", check=False)
        assert done.returncode == 1 and "E_RECORD_DAMAGED" in done.stderr and "Traceback" not in done.stderr


class TestHostileLogs:
    @pytest.fixture
    def logs(self, ready: Site) -> Path:
        keep(ready, "works", state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),))
        folder = ready.root.attempt_out("backend-1", "demo.works", 1) / "logs"
        folder.mkdir(parents=True)
        return folder

    def test_what_an_agent_printed_cannot_steer_the_terminal(self, ready: Site, logs: Path) -> None:
        (logs / "cli.log").write_bytes(b"\x1b[2J\x1b]0;owned\x07one\r\ntwo\xff\x9b31m\n\x1b[31")
        done = ready.cli("task", "logs", "works")
        assert done.stdout.splitlines()[:2] == ["one", "two\ufffd\ufffd31m"]
        assert "\x1b" not in done.stdout and "owned" not in done.stdout
        (logs / "odd name.log").touch()
        (logs / "prompt.md").touch()
        missing = ready.cli("task", "logs", "works", "--log", "verify-1", check=False)
        assert missing.returncode == 1 and "There are cli, prompt." in missing.stderr
        (logs / "verify-1.log").write_text("1 failed\n")
        assert ready.cli("task", "logs", "works", "--log", "verify-1").stdout == "1 failed\n"

    def test_a_readable_transcript_comes_before_the_raw_output(self, ready: Site, logs: Path) -> None:
        (logs / "cli.log").write_text("{}\n")
        (logs / "transcript.log").write_text("said something\n")
        assert ready.cli("task", "logs", "works").stdout == "said something\n"

    @pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "folder", "linked folder"])
    def test_only_a_plain_file_is_read(self, ready: Site, logs: Path, kind: str) -> None:
        secret = ready.root.state / "secret"
        secret.write_text("the secret\n")
        log = logs / "cli.log"
        if kind == "link":
            log.symlink_to(secret)
        elif kind == "hard link":
            log.hardlink_to(secret)
        elif kind == "fifo":
            os.mkfifo(log)
        elif kind == "folder":
            log.mkdir()
        else:
            logs.rmdir()
            logs.symlink_to(ready.root.state)
            (ready.root.state / "cli.log").write_text("the secret\n")
        done = ready.cli("task", "logs", "works", check=False)
        assert done.returncode == 1 and "the secret" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("name", ["../reporting", "/etc/passwd", "a/b", ""])
    def test_a_log_is_named_and_not_a_path(self, ready: Site, logs: Path, name: str) -> None:
        assert ready.cli("task", "logs", "works", "--log", name, check=False).returncode == 2

    def test_a_huge_log_is_shown_from_near_its_end(self, ready: Site, logs: Path) -> None:
        with (logs / "cli.log").open("wb") as file:
            file.truncate(300 * 1024 * 1024)
            file.seek(0, os.SEEK_END)
            file.write(b"\nthe end\n")
        done = ready.cli("task", "logs", "works")
        assert done.stdout.endswith("the end\n") and len(done.stdout) < 8 * 1024 * 1024
        assert "bytes are left out" in done.stderr

    def test_a_task_without_an_attempt_has_no_log(self, ready: Site) -> None:
        keep(ready, "fresh")
        done = ready.cli("task", "logs", "fresh", check=False)
        assert done.returncode == 1 and "E_NO_ATTEMPT" in done.stderr
        done = ready.cli("task", "diff", "fresh", check=False)
        assert done.returncode == 1 and "E_NO_WORK" in done.stderr
