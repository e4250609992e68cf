"""What an agent tells while it works: one small file each in the attempt's `notes/`, folded into the report.

An agent writes them, so they are read as what the other side wrote: no link, no pipe, small, framed.
"""

import re
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from agent_daemon.protocol.model import PROTOCOL_VERSION, Count, Line, Time, Wire

MAX_NOTES: Final = 200
MAX_NOTE_BYTES: Final = 16 * 1024
MAX_NOTE_CHARACTERS: Final = 2000
# All that is taken of one attempt: a report repeats it, and may have 256 KiB.
MAX_NOTES_BYTES: Final = 64 * 1024
NOTE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,58}\.yaml")

NoteKind = Literal["note", "decision", "criterion", "blocked", "credential", "handoff", "specialist"]
# What an agent may wait for; the other reasons are the daemon's and the supervisor's to give.
BlockedBy = Literal["question", "credential", "conflict", "human"]
NoteText = Annotated[str, StringConstraints(max_length=MAX_NOTE_CHARACTERS)]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,60}$")]

_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "note": ("text",),
    "decision": ("text",),
    "criterion": ("number", "status"),
    "blocked": ("reason", "text"),
    "credential": ("type", "text"),
    "handoff": ("to",),
    "specialist": ("to", "text"),
}


class Note(Wire):
    """One thing told. `text` is what is said: a note, a decision, a question, a reason, evidence.

    `criterion`: `number` (from 1) and `status`. `blocked`: `reason`. `credential`: `type`, `access`, `scope`.
    `handoff` and `specialist`: `to`, a coding CLI or a type of workstation.
    """

    version: Literal[1] = PROTOCOL_VERSION
    revision: Count
    at: Time | None = None
    kind: NoteKind
    text: NoteText = ""
    number: Annotated[int, Field(ge=1)] | None = None
    status: Literal["done", "left"] | None = None
    reason: BlockedBy | None = None
    type: Word | None = None
    access: Word | None = None
    scope: Line | None = None
    to: Word | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> "Note":
        for name in _NEEDS[self.kind]:
            value = getattr(self, name)
            if value is None or (isinstance(value, str) and not value.strip()):
                raise ValueError(f"a note of the kind {self.kind} needs `{name}`")
        return self
