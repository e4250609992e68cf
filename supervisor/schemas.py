"""JSON Schemas of every file of the protocol, generated from the models."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.model import AgentConfig, FeedbackFile, Reporting, Tasking, WorkstationFile
from agent_daemon.protocol.notes import Note
from supervisor.core.commands import Command, CommandAnswer
from supervisor.core.record import TaskRecord
from supervisor.core.settings import Config
from supervisor.core.task_file import TaskFile
from supervisor.packaged import packaged_file

# name → (model, whether the file carries the trailer `end`)
SCHEMAS: dict[str, tuple[type[BaseModel], bool]] = {
    "config": (Config, False),
    "task": (TaskFile, False),
    "tasking": (Tasking, False),
    "agent-config": (AgentConfig, False),
    "feedback": (FeedbackFile, False),
    "reporting": (Reporting, True),
    "note": (Note, True),
    "workstation": (WorkstationFile, True),
    "record": (TaskRecord, False),
    "command": (Command, False),
    "command-answer": (CommandAnswer, False),
}


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one file; raises KeyError for an unknown name."""
    model, framed = SCHEMAS[name]
    body = model.model_json_schema()
    body["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    if framed:
        end = {"type": "integer", "minimum": 0, "description": "Equals `revision`, or the file is not finished."}
        body["properties"]["end"] = end
        body["required"] = [*body.get("required", []), "end"]
    return body


def schema_text(name: str) -> str:
    return json.dumps(schema_of(name), indent=2, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> None:
    """Write those that are missing or out of date, for the editors of people who write these files.

    They come with the program: to make them takes half the time of a start.
    """
    for name in SCHEMAS:
        path = folder / f"{name}.schema.json"
        text = packaged_file(f"schemas/{path.name}").read_bytes()
        if not path.exists() or path.read_bytes() != text:
            write_file(path, text)


if __name__ == "__main__":
    import sys

    for known in SCHEMAS:
        write_file(Path(sys.argv[1]) / f"{known}.schema.json", schema_text(known).encode())
