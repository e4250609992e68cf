"""`workspaces.example/` is a root as a running supervisor leaves it: every file reads, and they fit each other."""

import hashlib
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from agent_daemon.protocol.codec import decode, decode_framed
from agent_daemon.protocol.model import (
    AgentConfig,
    FeedbackFile,
    Reporting,
    ReportStatus,
    Tasking,
    TaskingStatus,
    WorkstationFile,
)
from agent_daemon.protocol.paths import Root
from supervisor.config import load_config
from supervisor.core.commands import Command, CommandAnswer
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.render import render_request
from supervisor.core.settings import Config
from supervisor.core.task_file import TaskFile
from supervisor.events import read_events
from supervisor.forges.task_folder import read_draft
from supervisor.records import RECORD_LIMITS
from supervisor.root_identity import RootIdentity
from supervisor.schemas import schema_of
from supervisor.stations import StationFile

HERE = Path(__file__).parents[2]
EXAMPLE = HERE / "workspaces.example"
ROOT = Root(EXAMPLE)

# pattern of the path → the schema's name and the model; the state of a workstation has no schema
KINDS: dict[str, tuple[str | None, type[BaseModel]]] = {
    r"config\.yaml": ("config", Config),
    r"tasks/[^/]+\.yaml": ("task", TaskFile),
    r"state/(tasks|archive)/[^/]+\.yaml": ("record", TaskRecord),
    r"state/workstations/[^/]+\.yaml": (None, StationFile),
    r"state/commands/[^/]+\.answer\.yaml": ("command-answer", CommandAnswer),
    r"state/commands/[^/.]+\.yaml": ("command", Command),
    r"mail/[^/]+/in/[^/]+/[0-9]+/tasking\.yaml": ("tasking", Tasking),
    r"mail/[^/]+/in/[^/]+/[0-9]+/config\.yaml": ("agent-config", AgentConfig),
    r"mail/[^/]+/in/[^/]+/[0-9]+/feedback\.yaml": ("feedback", FeedbackFile),
    r"mail/[^/]+/out/[^/]+/[0-9]+/reporting\.yaml": ("reporting", Reporting),
    r"mail/[^/]+/out/workstation\.yaml": ("workstation", WorkstationFile),
}
FILES = sorted(str(path.relative_to(EXAMPLE)) for path in EXAMPLE.rglob("*.yaml"))


class _Loader(yaml.SafeLoader):
    """YAML as JSON has it: a time stays a text."""


_Loader.yaml_implicit_resolvers = {
    sign: [entry for entry in entries if entry[0] != "tag:yaml.org,2002:timestamp"]
    for sign, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def kind_of(file: str) -> tuple[str | None, type[BaseModel]]:
    return next(kind for pattern, kind in KINDS.items() if re.fullmatch(pattern, file))


def read(file: str) -> Any:
    _, model = kind_of(file)
    data = (EXAMPLE / file).read_bytes()
    if "/out/" in file:
        return decode_framed(model, data, file=file)
    return decode(model, data, file=file, limits=RECORD_LIMITS)


def records() -> dict[str, TaskRecord]:
    return {Path(f).stem: read(f) for f in FILES if kind_of(f)[1] is TaskRecord}


def attempts() -> list[tuple[TaskRecord, Attempt, Path, Path]]:
    """Every attempt that was made, with its two folders, as paths relative to the example."""
    return [
        (task, attempt, folder("in", attempt, task), folder("out", attempt, task))
        for task in records().values()
        for attempt in task.attempts
    ]


def folder(direction: str, attempt: Attempt, task: TaskRecord) -> Path:
    return Path("mail", attempt.workstation, direction, task.id, str(attempt.number))


@pytest.mark.parametrize("file", FILES)
def test_each_file_reads_and_fits_its_schema(file: str) -> None:
    name, _ = kind_of(file)
    read(file)
    if name is not None:
        written = yaml.load((EXAMPLE / file).read_text(), Loader=_Loader)  # noqa: S506 (a kind of SafeLoader)
        jsonschema.validate(written, schema_of(name), cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("file", [file for file in FILES if kind_of(file)[0]])
def test_each_file_names_its_schema_for_editors(file: str) -> None:
    name, _ = kind_of(file)
    first = (EXAMPLE / file).read_text().splitlines()[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found, first
    assert ((EXAMPLE / file).parent / found[1]).resolve() == HERE / f"docs/schemas/{name}.schema.json"


def test_every_kind_of_file_is_there() -> None:
    shown = {pattern for file in FILES for pattern in KINDS if re.fullmatch(pattern, file)}
    assert shown == set(KINDS)


def test_the_configuration_can_be_used_and_covers_the_rest() -> None:
    config = load_config(ROOT)
    stations = {f"{kind}-{n}" for kind, s in config.workstations.items() for n in range(1, s.least + 1)}
    assert {Path(f).stem for f in FILES if kind_of(f)[1] is StationFile} == stations
    assert {path.name for path in ROOT.mail.iterdir()} == stations
    for task in records().values():
        assert task.project in config.projects
        assert task.specialist in config.workstations


def test_each_task_comes_from_its_file() -> None:
    config = load_config(ROOT)
    drafts = [read_draft(ROOT.tasks, path.name, config) for path in sorted(ROOT.tasks.iterdir())]
    known = records()
    assert {draft.id for draft in drafts} == set(known)
    for draft in drafts:
        assert known[draft.id].source == draft.source
        assert known[draft.id].title == draft.text.title
    for name, task in known.items():
        assert task.id == name
        assert {dependency.task for dependency in task.depends_on} <= set(known)
        assert task.ended == (ROOT.archived(name)).exists()


def test_the_workstations_were_told_what_the_records_say() -> None:
    identity = decode(RootIdentity, ROOT.root_id.read_bytes(), file="root-id")
    for task, attempt, inbox, _ in attempts():
        data = (EXAMPLE / inbox / "tasking.yaml").read_bytes()
        tasking = read(f"{inbox}/tasking.yaml")
        assert hashlib.sha256(data).hexdigest() == attempt.mail.digest
        assert tasking.revision == attempt.mail.revision
        assert (tasking.supervisor.id, tasking.supervisor.epoch) == (identity.id, identity.epoch)
        entry = tasking.task
        assert (entry.id, entry.attempt, entry.title) == (task.id, attempt.number, task.title)
        assert (entry.branch, entry.base_commit) == (task.branch, task.base_commit)
        assert (entry.status is TaskingStatus.RELEASED) == attempt.released
        assert tasking.workspace.endswith(f"workspaces/{attempt.workstation}/{task.project}.worktrees/{task.id}")
        assert read(f"{inbox}/config.yaml").cli.name == attempt.cli
        assert (EXAMPLE / inbox / "description.md").read_text() == task.description
    told = {path.parent.relative_to(EXAMPLE) for path in EXAMPLE.rglob("tasking.yaml")}
    assert told == {inbox for _, _, inbox, _ in attempts()}


def test_the_reports_fit_the_records() -> None:
    for task, attempt, inbox, outbox in attempts():
        reporting = read(f"{outbox}/reporting.yaml")
        report = reporting.tasks[task.id]
        assert (reporting.agent_id, reporting.cli) == (attempt.workstation, attempt.cli)
        assert report.attempt == attempt.number
        assert report.observed_revision <= read(f"{inbox}/tasking.yaml").revision
        assert (report.status is ReportStatus.RELEASED) == attempt.released
        if report.result is not None:
            assert report.result.sha256 == attempt.bundle_sha256
            assert report.result.head == attempt.bundle_head
    for file in FILES:
        if kind_of(file)[1] is WorkstationFile:
            assert read(file).agent_id == file.split("/")[1]


def test_each_delivered_task_has_its_request() -> None:
    delivered = {task.id: task for task in records().values() if task.delivery}
    assert {path.stem for path in ROOT.requests.iterdir()} == set(delivered)
    for name, task in delivered.items():
        assert ROOT.request(name).read_text() == render_request(task)


def test_the_answer_belongs_to_the_command() -> None:
    command, answer = (read(f) for f in sorted(FILES, reverse=True) if f.startswith("state/commands/"))
    assert command.id == answer.id
    assert command.target in records()


def test_the_events_are_numbered_and_name_known_tasks() -> None:
    events = list(read_events(ROOT.events))
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    times = [datetime.fromisoformat(event["ts"]) for event in events]
    assert times == sorted(times)
    assert {event["task"] for event in events if "task" in event} <= set(records())
    assert len(events) == len(ROOT.events.read_text().splitlines()) == len({json.dumps(e) for e in events})
    told = {event["task"] for event in events if event["event"] == "task.created"}
    assert told == set(records())
