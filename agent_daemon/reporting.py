"""The report of one attempt: kept as a frozen value, written as a whole."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_daemon.protocol.codec import decode_framed, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import make_folder, ring, write_file
from agent_daemon.protocol.model import (
    MAX_PROGRESS_ENTRIES,
    ProgressEntry,
    Reporting,
    ReportStatus,
    TaskReport,
    utc,
)

MAX_MESSAGE_CHARACTERS = 600


def utc_now() -> datetime:
    return utc(datetime.now(UTC))


class AttemptReport:
    """Holds and writes `reporting.yaml` of one attempt. Used from the daemon's main thread only."""

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
    ) -> None:
        self.folder, self._bell = folder, bell
        self.task_id, self._agent_id, self._agent_type = task_id, agent_id, agent_type
        self.cli = cli
        self.revision = 0
        self.written_at = 0.0
        self.changed = False
        self.value = TaskReport(attempt=attempt, status=ReportStatus.RECEIVED, started_at=utc_now())
        self._load()

    def _load(self) -> None:
        """Go on from what an earlier daemon wrote; a damaged file is started anew, its revision unknown."""
        try:
            data = (self.folder / "reporting.yaml").read_bytes()
            known = decode_framed(Reporting, data, file=str(self.folder / "reporting.yaml"))
        except (FileNotFoundError, ProtocolError):
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
        """Write the report durably, then touch the bell."""
        self.revision += 1
        reporting = Reporting(
            revision=self.revision,
            agent_type=self._agent_type,
            agent_id=self._agent_id,
            cli=self.cli,
            updated_at=utc_now(),
            status="working",
            tasks={self.task_id: self.value},
        )
        make_folder(self.folder)
        write_file(self.folder / "reporting.yaml", encode(reporting, end=True))
        self.changed, self.written_at = False, monotonic()
        ring(self._bell)
