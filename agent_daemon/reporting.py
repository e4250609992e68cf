"""The report of one attempt: kept as a frozen value, written as a whole."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loguru import logger
from pydantic import BaseModel

from agent_daemon.hiding import Mask
from agent_daemon.protocol.codec import decode_framed, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import make_folder, read_file, ring, write_file
from agent_daemon.protocol.model import (
    MAX_PROGRESS_ENTRIES,
    ProgressEntry,
    Reporting,
    ReportStatus,
    TaskReport,
    utc,
)

MAX_MESSAGE_CHARACTERS = 600
# Readers refuse a text of more than 16 KiB.
MAX_SUMMARY_BYTES = 12 * 1024
# Readers refuse 256 KiB (docs/protocol.md, "Reading").
MAX_REPORT_BYTES = 200 * 1024


def shortened(report: TaskReport) -> TaskReport:
    """The same report with its texts cut, so that it stays below what a reader takes."""

    def cut(text: str, characters: int) -> str:
        return text if len(text) <= characters else text[: characters - 1] + "…"

    return report.model_copy(
        update={
            "summary": cut(report.summary, 2000),
            "progress": report.progress[-10:],
            "acceptance_criteria": tuple(
                entry.model_copy(
                    update={"criterion": cut(entry.criterion, 200), "evidence": cut(entry.evidence, 100)}
                )
                for entry in report.acceptance_criteria
            ),
            "decisions": tuple(cut(text, 200) for text in report.decisions),
            "verification": tuple(
                entry.model_copy(update={"output_tail": cut(entry.output_tail, 200)})
                for entry in report.verification
            ),
            "commits": tuple(c.model_copy(update={"message": cut(c.message, 100)}) for c in report.commits),
            "files_modified": tuple(f for f in report.files_modified if len(f.path) <= 300),
        }
    )


def clip_bytes(text: str, most: int, note: str = "…") -> str:
    """`text` in at most so many bytes of UTF-8, cut at a character; `note` stands where something is missing."""
    data = text.encode(errors="replace")
    if len(data) <= most:
        return data.decode()
    return data[: most - len(note.encode())].decode(errors="ignore") + note


def without(value: Any, hide: Callable[[str], str]) -> Any:
    """The same with `hide` done to every text in it; an enumeration's words are none."""
    if type(value) is str:
        return hide(value)
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: without(item, hide) for name, item in value})
    if isinstance(value, tuple | list):
        return type(value)(without(item, hide) for item in value)
    if isinstance(value, dict):
        return {without(name, hide): without(item, hide) for name, item in value.items()}
    return value


def utc_now() -> datetime:
    return utc(datetime.now(UTC))


class AttemptReport:
    """Holds and writes `reporting.yaml` of one attempt. Used from the daemon's main thread only.

    `mask` hides what the attempt was given in secret, wherever in the report it may stand.
    """

    def __init__(
        self,
        folder: Path,
        bell: Path,
        *,
        task_id: str,
        attempt: int,
        agent_id: str,
        agent_type: str,
        cli: str = "",
        mask: Mask | None = None,
    ) -> None:
        self.folder, self._bell, self._mask = folder, bell, mask
        self._hidden: dict[tuple[int, str], str] = {}
        self.task_id, self._agent_id, self.agent_type = task_id, agent_id, agent_type
        self.cli = cli
        self.revision = 0
        self.written_at = 0.0
        self.changed = False
        self.value = TaskReport(attempt=attempt, status=ReportStatus.RECEIVED, started_at=utc_now())
        self._load()

    def _load(self) -> None:
        """Go on from what an earlier daemon wrote; a damaged file is started anew, its revision unknown."""
        try:
            data = read_file(self.folder, "reporting.yaml").data
            known = decode_framed(Reporting, data, file=str(self.folder / "reporting.yaml"))
        except (OSError, ProtocolError):
            return
        entry = known.tasks.get(self.task_id)
        self.revision = known.revision
        if entry is not None and entry.attempt == self.value.attempt:
            self.value = entry
            self.cli = self.cli or known.cli

    def update(self, **changes: Any) -> None:
        """Change fields; written at the next occasion, at once when the status changes."""
        if any(getattr(self.value, name) != value for name, value in changes.items()):
            self.value = self.value.model_copy(update=changes)
            self.changed = True

    def progress(self, message: str, details: dict[str, Any] | None = None) -> None:
        """Add an entry, keeping the last 50; the newest message is the current step."""
        text = " ".join(message.split())[:MAX_MESSAGE_CHARACTERS]
        entry = ProgressEntry(timestamp=utc_now(), status=self.value.status, message=text, details=details or {})
        self.update(progress=(*self.value.progress, entry)[-MAX_PROGRESS_ENTRIES:], current_step=text[:200])

    def write(self, monotonic: Callable[[], float]) -> None:
        """Write the report durably, then touch the bell; what the disk refuses is written a little later."""
        try:
            self._write()
        except OSError as error:
            logger.error("the report of {} is not written: {}; trying again", self.task_id, error)
            self.changed = True
        self.written_at = monotonic()

    def _told(self) -> TaskReport:
        """The report without what was given in secret. Most of its texts are those of the last time."""
        if not self._mask:
            return self.value
        mask, before, now = self._mask, self._hidden, {}

        def hide(text: str) -> str:
            key = (mask.changes, text)
            now[key] = found = before[key] if key in before else mask.hide(text)
            return found

        told: TaskReport = without(self.value, hide)
        self._hidden = now
        return told

    def _write(self) -> None:
        self.revision += 1
        reporting = Reporting(
            revision=self.revision,
            agent_type=self.agent_type,
            agent_id=self._agent_id,
            cli=self.cli,
            updated_at=utc_now(),
            status="working",
            tasks={self.task_id: self._told()},
        )
        make_folder(self.folder)
        data = encode(reporting, end=True)
        if len(data) > MAX_REPORT_BYTES:
            short = {self.task_id: shortened(reporting.tasks[self.task_id])}
            shorter = reporting.model_copy(update={"tasks": short})
            data = encode(shorter, end=True)
        path = self.folder / "reporting.yaml"
        if path.is_dir() and not path.is_symlink():
            path.rename(self.folder / f"reporting.yaml.folder-{self.revision}")  # in the way
        write_file(path, data)
        self.changed = False
        ring(self._bell)
