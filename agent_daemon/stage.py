"""How far an attempt has come, written beside its report for the daemon that goes on with it.

An agent may bend the file or remove it: then its CLI is run again, as if it had been interrupted.
"""

import hashlib
from pathlib import Path
from typing import Literal

from loguru import logger

from agent_daemon.protocol.codec import decode_framed, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file, write_file
from agent_daemon.protocol.model import Count, Digest, Sha, TaskingTask, Text, Wire

STAGE = "stage.yaml"
_ADDED = ("builds_on", "plan")


class Stage(Wire):
    """The CLI has been started with the text of `text_sha256`; the rest is known as it comes about.

    `finished`: it came to a good end, and said `message` last. `head`: all that it left is committed there, so
    that what is uncommitted now was made by the verification. `tree`: everything that lay in the worktree when
    the verification was stopped. `before_head`, `before_tree`: what lay there before an attempt that only plans.
    """

    version: Literal[1] = 1
    revision: Count = 1
    text_sha256: Digest
    finished: bool = False
    message: Text = ""
    head: Sha | None = None
    tree: Sha | None = None
    before_head: Sha | None = None
    before_tree: Sha | None = None


def read_stage(outbox: Path) -> Stage | None:
    """The stage that was written last; None when there is none that can be read."""
    try:
        return decode_framed(Stage, read_file(outbox, STAGE).data, file=str(outbox / STAGE))
    except FileNotFoundError:
        return None
    except (ProtocolError, OSError) as error:
        logger.warning("how far {} has come is not read: {}", outbox, error)
        return None


def write_stage(outbox: Path, stage: Stage) -> None:
    """Write it durably."""
    write_file(outbox / STAGE, encode(stage, end=True))


def text_digest(task: TaskingTask) -> str:
    """A digest of what the agent is told: another text interrupts it.

    What its context did not know at first is left out where it says nothing, and so it must be with whatever is
    added: else a new version would take the text of every attempt under way for new.
    """
    told = task.model_dump_json(
        include={"title", "description", "description_sha256", "acceptance_criteria", "context"},
        exclude={"context": {name for name in _ADDED if getattr(task.context, name) is None}},
    )
    return hashlib.sha256(told.encode(errors="replace")).hexdigest()
