"""Names, task ids, branch names and the places of everything."""

import inspect
import re
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_daemon.protocol.paths import (
    BRANCH,
    MAX_TASK_ID_CHARACTERS,
    Root,
    TaskId,
    branch_name,
    check_name,
    check_project,
    check_stem,
    is_task_id,
    parse_task_id,
)

NAMES = st.from_regex("[a-z][a-z0-9-]{0,40}", fullmatch=True).filter(lambda name: name != "isolated")
NUMBERS = st.integers(1, 10**12 - 1)
STEMS = NAMES.filter(lambda stem: not re.fullmatch("pr[0-9]+", stem))
RESTS = st.one_of(NUMBERS.map(str), NUMBERS.map("pr{}".format), STEMS)
CHILDREN = st.lists(st.integers(1, 9999).map(".{}".format), max_size=2).map("".join)
TASKS = st.builds("{}.{}{}".format, NAMES, RESTS, CHILDREN).filter(
    lambda text: len(text) <= MAX_TASK_ID_CHARACTERS
)
TITLES = st.one_of(
    st.text(max_size=200),
    st.text(string.ascii_letters + string.digits + "-_/. :~^@{}\\", max_size=200),
    st.sampled_from(
        ["", "…", ".lock", "x.lock", "../..", "@{", "--upload-pack=x", "$(x)", "a\nb", "\ud800", "r2", "Ⅷ ½ ﬁ"]
    ),
)


@pytest.mark.parametrize("text", ["a", "acme-app", "a1-", "a" + "b" * 40])
def test_names_are_taken(text: str) -> None:
    assert check_name(text) == text
    assert check_stem(text) == text


@pytest.mark.parametrize(
    "text", ["", "1a", "-a", "A", "a.b", "a_b", "a/b", "..", "a\n", "é", "a" + "b" * 41, "a\0", " a", "ａ"]
)
def test_other_names_are_refused(text: str) -> None:
    for check in (check_name, check_project, check_stem):
        with pytest.raises(ValueError, match="is not a name"):
            check(text)


@pytest.mark.parametrize("stem", ["pr7", "pr0", "pr007"])
def test_a_stem_like_a_request_is_refused(stem: str) -> None:
    with pytest.raises(ValueError, match="pull requests"):
        check_stem(stem)


@pytest.mark.parametrize("stem", ["a-r2", "a-r10", "a-r0", "fix-login-r007"])
def test_a_stem_like_a_later_run_is_refused(stem: str) -> None:
    with pytest.raises(ValueError, match="later run"):
        check_stem(stem)
    assert is_task_id(f"acme.{stem}"), "a task that is there already can still be read"


@given(NAMES, NAMES, st.integers(2, 999))
def test_no_two_task_files_share_a_branch(one: str, other: str, rerun: int) -> None:
    taken = [stem for stem in (one, other, f"{one}-r{rerun}") if _is_stem(stem)]
    branches = [branch_name(f"acme.{stem}", "t", run) for stem in set(taken) for run in (1, rerun)]
    assert len(set(branches)) == len(branches)


def _is_stem(text: str) -> bool:
    try:
        check_stem(text)
    except ValueError:
        return False
    return True


def test_a_project_does_not_take_the_place_of_another_folder() -> None:
    with pytest.raises(ValueError, match="isolated"):
        check_project("isolated")
    assert not is_task_id("isolated.42")
    assert check_name("isolated") == "isolated"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("acme-app.42", ("acme-app", "42")),
        ("acme-app.pr7", ("acme-app", "pr7")),
        ("acme-app.fix-login", ("acme-app", "fix-login")),
        ("acme-app.pr", ("acme-app", "pr")),
        ("acme-app.pr7-login", ("acme-app", "pr7-login")),
        ("acme-app.42.1", ("acme-app", "42.1")),
        ("acme-app.pr7.2.13", ("acme-app", "pr7.2.13")),
        ("acme-app.fix-login.1", ("acme-app", "fix-login.1")),
    ],
)
def test_task_ids_are_read(text: str, parts: tuple[str, str]) -> None:
    assert parse_task_id(text) == TaskId(*parts)
    assert str(parse_task_id(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *["", ".", "acme", "acme.", ".42", "acme.0", "acme.042", "acme.-1", "acme.4a", "acme.pr0", "acme.pr07"],
        *["acme.pr07.1", "acme.42.", "acme.42..1", "acme.42.0", "acme.42.x", "acme.Fix", "Acme.42", "acme.42\n"],
        *["acme.42/..", "../acme.42", "acme..42", "acme.x.y", "acme.x.pr7", "acme.٤٢", "acme.1234567890123"],
        "acme." + "x" * 41 + ".1" * 40,
    ],
)
def test_other_task_ids_are_refused(text: str) -> None:
    assert not is_task_id(text)
    with pytest.raises(ValueError, match="is not a task id"):
        parse_task_id(text)


@given(st.one_of(TASKS, st.text(max_size=20), st.text("ap.r17-", max_size=12)))
def test_what_is_a_task_id_is_one_part_of_a_path(text: str) -> None:
    if is_task_id(text):
        assert text not in (".", "..")
        assert re.fullmatch(r"[a-z0-9.-]{3,100}", text)
        project, rest = text.split(".", 1)
        assert parse_task_id(text) == TaskId(check_project(project), rest)


@pytest.mark.parametrize(
    ("task", "title", "rerun", "branch"),
    [
        ("acme-app.42", "Implement user login form", 1, "cloud-code/42-implement-user-login-form"),
        ("acme-app.42", "Implement user login form", 2, "cloud-code/42-implement-user-login-form-r2"),
        ("acme-app.42.1", "Write tests", 1, "cloud-code/42.1-write-tests"),
        ("acme-app.pr7", "Fix: the `Login`!", 12, "cloud-code/pr7-fix-the-login-r12"),
        ("acme-app.fix-login", "Fix login", 1, "cloud-code/fix-login"),
        ("acme-app.fix", "Fix login", 1, "cloud-code/fix"),
        ("acme-app.fix-login", "Fix the login", 2, "cloud-code/fix-login-r2"),
        ("acme-app.fix-login.3", "Write tests", 1, "cloud-code/fix-login.3"),
        ("acme-app.42", "Änderung der Größe für Ørsted", 1, "cloud-code/42-anderung-der-grosse-fur-rsted"),
        ("acme-app.42", "修复登录 🚀", 1, "cloud-code/42"),
        ("acme-app.42", "修复登录 🚀", 3, "cloud-code/42-r3"),
        ("acme-app.42", "Upgrade to r2", 1, "cloud-code/42-upgrade-to-r-2"),
        ("acme-app.42", "../../etc/passwd.lock", 1, "cloud-code/42-etc-passwd-lock"),
        ("acme-app.42", "a" * 30 + " " + "b" * 200, 1, "cloud-code/42-" + "a" * 30),
    ],
)
def test_branch_names(task: str, title: str, rerun: int, branch: str) -> None:
    assert branch_name(task, title, rerun) == branch


@given(TASKS, TITLES, st.integers(1, 999_999))
def test_a_branch_name_keeps_to_the_rules(task: str, title: str, rerun: int) -> None:
    name = branch_name(task, title, rerun)
    assert BRANCH.fullmatch(name)
    assert name.startswith("cloud-code/" + parse_task_id(task).rest)
    assert name.count("/") == 1
    assert ".." not in name
    assert not name.endswith((".lock", "/", "."))
    assert name == branch_name(task, title, rerun)


@given(TASKS, TITLES, TITLES, st.integers(2, 99))
def test_no_title_makes_a_first_run_look_like_a_later_one(task: str, title: str, other: str, rerun: int) -> None:
    assert branch_name(task, title) != branch_name(task, other, rerun)


@settings(max_examples=40)
@given(TASKS, TITLES, st.integers(1, 20))
def test_git_takes_the_branch_name(task: str, title: str, rerun: int) -> None:
    name = branch_name(task, title, rerun)
    checked = subprocess.run(
        ["git", "check-ref-format", "--branch", name], cwd="/", capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout) == (0, name + "\n")


@pytest.mark.parametrize(("task", "rerun"), [("acme", 1), ("acme.pr07", 1), ("acme.42", 0), ("acme.42", -1)])
def test_no_branch_for_a_bad_task_or_run(task: str, rerun: int) -> None:
    with pytest.raises(ValueError, match=r"not a task id|counted from 1"):
        branch_name(task, "title", rerun)


COMMAND = "0b8a2c1e-7d34-4c55-9f0e-3a1b2c3d4e5f"


def test_places() -> None:
    root = Root(Path("/srv/cc"))
    places = {
        root.config: "config.yaml",
        root.tasks: "tasks",
        root.task_file("fix-login"): "tasks/fix-login.yaml",
        root.state: "state",
        root.root_id: "state/root-id",
        root.lock: "state/supervisor.lock",
        root.supervisor: "state/supervisor.yaml",
        root.records: "state/tasks",
        root.record("acme.42"): "state/tasks/acme.42.yaml",
        root.archive: "state/archive",
        root.archived("acme.42"): "state/archive/acme.42.yaml",
        root.projects: "state/projects",
        root.project("acme"): "state/projects/acme.yaml",
        root.workstations: "state/workstations",
        root.workstation("backend-1"): "state/workstations/backend-1.yaml",
        root.requests: "state/requests",
        root.request("acme.42"): "state/requests/acme.42.md",
        root.commands: "state/commands",
        root.command(COMMAND): f"state/commands/{COMMAND}.yaml",
        root.answer(COMMAND): f"state/commands/{COMMAND}.answer.yaml",
        root.salvage: "state/salvage",
        root.salvaged("acme.42", 1): "state/salvage/acme.42/1.bundle",
        root.held: "state/held",
        root.held_bundle("acme.42", 12): "state/held/acme.42/12.bundle",
        root.events: "state/events.jsonl",
        root.quarantine: "state/quarantine",
        root.temporary: "state/tmp",
        root.mirrors: "mirrors",
        root.mirror("default", "acme"): "mirrors/default/acme.git",
        root.run: "run",
        root.mail: "mail",
        root.mail_in("backend-1"): "mail/backend-1/in",
        root.mail_out("backend-1"): "mail/backend-1/out",
        root.bell_in("backend-1"): "mail/backend-1/in/bell",
        root.bell_out("backend-1"): "mail/backend-1/out/bell",
        root.attempt_in("backend-1", "acme.42", 2): "mail/backend-1/in/acme.42/2",
        root.attempt_out("backend-1", "acme.42", 2): "mail/backend-1/out/acme.42/2",
        root.workspaces: "workspaces",
        root.workspace("backend-1"): "workspaces/backend-1",
        root.clone("backend-1", "acme"): "workspaces/backend-1/acme",
        root.worktree("backend-1", "acme", "acme.42"): "workspaces/backend-1/acme.worktrees/acme.42",
        root.cloned("backend-1", "acme.42"): "workspaces/backend-1/acme.clones/acme.42",
        root.isolated("backend-1", "acme.42"): "workspaces/backend-1/isolated/acme.42",
    }
    assert {str(place): relative for place, relative in places.items()} == {
        f"/srv/cc/{relative}": relative for relative in places.values()
    }


@pytest.mark.parametrize("bad", ["..", "a/b", "", "../../etc", "acme.42/..", "a\0"])
def test_nothing_that_is_no_name_becomes_part_of_a_path(bad: str) -> None:
    root = Root(Path("/srv/cc"))
    good = {"task": "acme.42", "attempt": 1, "command_id": COMMAND, "mode": "isolated"}
    methods = [pair for pair in inspect.getmembers(root, inspect.ismethod) if not pair[0].startswith("_")]
    assert len(methods) > 15
    for name, method in methods:
        parameters = list(inspect.signature(method).parameters)
        for parameter in parameters:
            values = {each: good.get(each, "acme") for each in parameters}
            method(**values)
            values[parameter] = 0 if parameter == "attempt" else bad
            with pytest.raises(ValueError, match=r"is not|counted from 1"):
                method(**values)
                pytest.fail(f"{name} takes {parameter}={bad!r}")
