"""Where everything lies, and how things are called: pure, without a look at the disk.

Names and task ids are checked wherever they become a part of a path.
"""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CONFIG: Final = "config.yaml"
TASKING: Final = "tasking.yaml"
TASKING_REJECTED: Final = "tasking.yaml.rejected"
FEEDBACK: Final = "feedback.yaml"
START_BUNDLE: Final = "start.bundle"
DESCRIPTION: Final = "description.md"
CREDENTIALS: Final = "credentials"
REPORTING: Final = "reporting.yaml"
CLEANUP_WANTED: Final = "cleanup/wanted.yaml"  # in a folder, for `cleanup.yaml` could be a task of a project
CLEANUP_DONE: Final = "cleanup/done.yaml"
WORKSTATION: Final = "workstation.yaml"
RESULT_BUNDLE: Final = "result.bundle"
SALVAGE_BUNDLE: Final = "salvage.bundle"
DOCUMENT: Final = "document.md"
NOTES: Final = "notes"
ARTIFACTS: Final = "artifacts"
LOGS: Final = "logs"
BELL: Final = "bell"
LINKS: Final = ".cloud-code"

NAME: Final = re.compile("[a-z][a-z0-9-]{0,40}")
MAX_NAME_CHARACTERS: Final = 41
BRANCH: Final = re.compile("[a-z0-9][a-z0-9/_.-]{0,120}")
MAX_TASK_ID_CHARACTERS: Final = 100  # so that every file name and branch name made of it fits

_NUMBER: Final = "[1-9][0-9]{0,11}"
_REST: Final = re.compile(rf"(?:{_NUMBER}|pr{_NUMBER}|(?!pr[0-9]+(?:\.|$)){NAME.pattern})(?:\.{_NUMBER})*")
_UUID: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BRANCH_PREFIX: Final = "cloud-code/"
_MAX_SLUG_CHARACTERS: Final = 60


@dataclass(frozen=True)
class TaskId:
    """A task id in its two parts: `rest` is ``42``, ``pr7``, ``fix-login``, or one of these and ``.<n>``."""

    project: str
    rest: str

    def __str__(self) -> str:
        return f"{self.project}.{self.rest}"


def check_name(text: str) -> str:
    """A name of a project, workstation, trust domain or file stem, unchanged; ValueError when it is none."""
    if not NAME.fullmatch(text):
        raise ValueError(f"{_shown(text)} is not a name: a small letter, then up to 40 of a-z, 0-9 and -")
    return text


def check_project(text: str) -> str:
    """A project's name, unchanged; ValueError when it is none, or is that of a folder beside the clones."""
    if text == "isolated":
        raise ValueError("a project cannot be called 'isolated', for a folder beside its clones is")
    return check_name(text)


def check_stem(text: str) -> str:
    """The stem of a hand-written task's file, unchanged; ValueError when it is none.

    Nor is what looks like a pull request, or like a later run of another task (see `branch_name`).
    """
    if re.fullmatch("pr[0-9]+", text):
        raise ValueError(f"{_shown(text)} is how pull requests are called: choose another file name")
    if re.search("-r[0-9]+$", text):
        raise ValueError(f"{_shown(text)} ends as the branch of a task's later run does: choose another file name")
    return check_name(text)


def parse_task_id(text: str) -> TaskId:
    """Read ``<project>.<n>``, ``<project>.pr<n>``, ``<project>.<stem>`` or ``<parent>.<n>``; else ValueError."""
    project, _, rest = text.partition(".")
    if len(text) > MAX_TASK_ID_CHARACTERS or not NAME.fullmatch(project) or not _REST.fullmatch(rest):
        raise ValueError(
            f"{_shown(text)} is not a task id such as acme-app.42, acme-app.pr7 or acme-app.fix-login"
        )
    return TaskId(check_project(project), rest)


def is_task_id(text: str) -> bool:
    """Whether `parse_task_id` accepts it."""
    try:
        parse_task_id(text)
    except ValueError:
        return False
    return True


def is_project(text: str) -> bool:
    """Whether `check_project` accepts it."""
    try:
        check_project(text)
    except ValueError:
        return False
    return True


def branch_name(task_id: str, title: str, rerun: int = 1) -> str:
    """The branch of a task: ``cloud-code/42-implement-user-login-form``, from the second run on ``…-r2``.

    A hand-written task's is its file's stem alone: two files never get one branch, whatever their titles.

    Matches `BRANCH` and is a name to git. Raises ValueError for a bad task id, or a run not in 1 … 999,999.
    """
    rest = parse_task_id(task_id).rest
    if not 1 <= rerun < 1_000_000:
        raise ValueError(f"runs are counted from 1, and {rerun} is none")
    suffix = f"-r{rerun}" if rerun > 1 else ""
    numbered = re.match("(pr)?[0-9]", rest)
    name = f"{rest}-{_slug(title)}".removesuffix("-") if numbered else rest
    longest = min(len(rest) + _MAX_SLUG_CHARACTERS, 120 - len(BRANCH_PREFIX + suffix))
    if len(name) > longest:
        name = name[: longest + 1].rpartition("-")[0]
    if name != rest:  # a title's own "r2" must not look like a second run
        name = re.sub("-r([0-9]+)$", r"-r-\1", name)
    return BRANCH_PREFIX + name + suffix


def _slug(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title[:1000].casefold()).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


@dataclass(frozen=True)
class Workspace:
    """Where a task is worked on: its git worktree, and the clone that this belongs to.

    `own` is the folder that the task has for itself, clone and worktree in it; None where it shares the clone.
    """

    worktree: Path
    clone: Path
    own: Path | None = None


@dataclass(frozen=True)
class Root:
    """The root folder of one supervisor, and the path of everything below it.

    Methods that take names, task ids, attempts (from 1) or ids of commands raise ValueError for bad ones.
    """

    path: Path

    # What the operator writes.

    @property
    def config(self) -> Path:
        return self.path / CONFIG

    @property
    def tasks(self) -> Path:
        return self.path / "tasks"

    def task_file(self, stem: str) -> Path:
        return self.tasks / f"{check_stem(stem)}.yaml"

    # What the supervisor keeps.

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def root_id(self) -> Path:
        return self.state / "root-id"

    @property
    def lock(self) -> Path:
        return self.state / "supervisor.lock"

    @property
    def supervisor(self) -> Path:
        """Who works on this root: process, start, configuration."""
        return self.state / "supervisor.yaml"

    @property
    def secret_uses(self) -> Path:
        """When each secret was last used."""
        return self.state / "secret-uses.json"

    @property
    def vault_session(self) -> Path:
        """What the supervisor signed in to Vault with, encrypted."""
        return self.state / "vault-session.age"

    @property
    def leases(self) -> Path:
        """What was lent for tasks and is not known to be revoked."""
        return self.state / "leases"

    @property
    def minted(self) -> Path:
        """Tokens that a forge made for attempts, and that are not known to be revoked."""
        return self.state / "minted"

    @property
    def records(self) -> Path:
        return self.state / "tasks"

    def record(self, task: str) -> Path:
        return self.records / f"{_task(task)}.yaml"

    @property
    def archive(self) -> Path:
        return self.state / "archive"

    def archived(self, task: str) -> Path:
        return self.archive / f"{_task(task)}.yaml"

    @property
    def projects(self) -> Path:
        return self.state / "projects"

    def project(self, name: str) -> Path:
        return self.projects / f"{check_project(name)}.yaml"

    @property
    def workstations(self) -> Path:
        return self.state / "workstations"

    def workstation(self, name: str) -> Path:
        return self.workstations / f"{check_name(name)}.yaml"

    @property
    def requests(self) -> Path:
        return self.state / "requests"

    def request(self, task: str) -> Path:
        return self.requests / f"{_task(task)}.md"

    @property
    def commands(self) -> Path:
        return self.state / "commands"

    def command(self, command_id: str) -> Path:
        return self.commands / f"{_command(command_id)}.yaml"

    def answer(self, command_id: str) -> Path:
        return self.commands / f"{_command(command_id)}.answer.yaml"

    @property
    def spending(self) -> Path:
        """What was spent, a file for each day."""
        return self.state / "spending"

    @property
    def salvage(self) -> Path:
        return self.state / "salvage"

    def salvaged(self, task: str, attempt: int) -> Path:
        return self.salvage / _task(task) / f"{_attempt(attempt)}.bundle"

    @property
    def held(self) -> Path:
        return self.state / "held"

    def held_bundle(self, task: str, attempt: int) -> Path:
        return self.held / _task(task) / f"{_attempt(attempt)}.bundle"

    @property
    def events(self) -> Path:
        return self.state / "events.jsonl"

    @property
    def quarantine(self) -> Path:
        return self.state / "quarantine"

    @property
    def temporary(self) -> Path:
        """Files of the running supervisor that nobody needs after it, such as the homes of its git calls."""
        return self.state / "tmp"

    @property
    def schemas(self) -> Path:
        """JSON Schemas of the files that people write, for their editors."""
        return self.state / "schemas"

    @property
    def egress(self) -> Path:
        """Where workstations may connect to, what was refused, and which process sees to it."""
        return self.state / "egress"

    def egress_policy(self, workstation: str) -> Path:
        return self.egress / f"{check_name(workstation)}.yaml"

    def egress_refused(self, workstation: str) -> Path:
        return self.egress / f"{check_name(workstation)}.refused.jsonl"

    @property
    def mirrors(self) -> Path:
        return self.path / "mirrors"

    def mirror(self, domain: str, project: str) -> Path:
        return self.mirrors / check_name(domain) / f"{check_project(project)}.git"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def gates(self) -> Path:
        return self.run / "egress"

    def gate(self, workstation: str) -> Path:
        """The folder with the socket through which a workstation connects; never made anew while one runs."""
        return self.gates / check_name(workstation)

    # What passes between the supervisor and a workstation.

    @property
    def mail(self) -> Path:
        return self.path / "mail"

    def mail_in(self, workstation: str) -> Path:
        return self.mail / check_name(workstation) / "in"

    def mail_out(self, workstation: str) -> Path:
        return self.mail / check_name(workstation) / "out"

    def bell_in(self, workstation: str) -> Path:
        return self.mail_in(workstation) / BELL

    def bell_out(self, workstation: str) -> Path:
        return self.mail_out(workstation) / BELL

    def attempt_in(self, workstation: str, task: str, attempt: int) -> Path:
        return self.mail_in(workstation) / _task(task) / _attempt(attempt)

    def attempt_out(self, workstation: str, task: str, attempt: int) -> Path:
        return self.mail_out(workstation) / _task(task) / _attempt(attempt)

    # What a workstation works on; the supervisor never reads in it.

    @property
    def workspaces(self) -> Path:
        return self.path / "workspaces"

    def workspace(self, workstation: str) -> Path:
        return self.workspaces / check_name(workstation)

    def clone(self, workstation: str, project: str) -> Path:
        return self.workspace(workstation) / check_project(project)

    def worktree(self, workstation: str, project: str, task: str) -> Path:
        return self.workspace(workstation) / f"{check_project(project)}.worktrees" / _task(task)

    def cloned(self, workstation: str, task: str) -> Path:
        parsed = parse_task_id(task)
        return self.workspace(workstation) / f"{parsed.project}.clones" / str(parsed)

    def isolated(self, workstation: str, task: str) -> Path:
        return self.workspace(workstation) / "isolated" / _task(task)

    def task_workspace(self, workstation: str, task: str, mode: str) -> Workspace:
        """Where a task is worked on in a workspace mode: ``shared``, ``copy_on_write`` or ``isolated``."""
        project = parse_task_id(task).project
        if mode == "shared":
            return Workspace(self.worktree(workstation, project, task), self.clone(workstation, project))
        if mode not in ("copy_on_write", "isolated"):
            raise ValueError(f"{_shown(mode)} is not a workspace mode")
        own = self.isolated(workstation, task) if mode == "isolated" else self.cloned(workstation, task)
        return Workspace(own / "worktree", own / "repository", own)


def _task(text: str) -> str:
    return str(parse_task_id(text))


def _attempt(number: int) -> str:
    if number < 1:
        raise ValueError(f"attempts are counted from 1, and {number} is none")
    return str(number)


def _command(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise ValueError(f"{_shown(text)} is not the id of a command: a UUID in small letters")
    return text
