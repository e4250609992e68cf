"""One run of a coding CLI as the daemon does it, without a daemon: for tests, and for benchmarks."""

from pathlib import Path
from typing import Any

from agent_daemon.attempt import Attempt
from agent_daemon.clis.base import Verdict
from agent_daemon.coding import CodingRun
from agent_daemon.places import AttemptPlaces
from agent_daemon.protocol.model import (
    AgentConfig,
    CliConfig,
    Limits,
    Price,
    ReportStatus,
    TaskReport,
    VerificationCommand,
)
from tests.unit.conftest import make_tasking


class Run:
    """All that is told and kept of a run in the folder `tree`."""

    def __init__(
        self,
        folder: Path,
        cli: CliConfig,
        *,
        checks: tuple[VerificationCommand, ...] = (),
        limits: Limits | None = None,
        prices: dict[str, Price] | None = None,
    ) -> None:
        self.tree, self.out, self.home = folder / "tree", folder / "out" / "demo.fix" / "1", folder / "homes"
        self.told: list[tuple[dict[str, Any], str | None]] = []
        task = make_tasking(id="demo.fix", verification=checks, limits=limits or Limits())
        places = AttemptPlaces(
            inbox=folder / "in", outbox=self.out, clone=self.tree, worktree=self.tree, homes=self.home
        )
        places.logs.mkdir(parents=True)
        self.attempt = Attempt(
            task=task,
            config=AgentConfig(revision=1, cli=cli, prices=prices or {}),
            places=places,
            agent_type="backend",
            known=TaskReport(attempt=1, status=ReportStatus.IN_PROGRESS),
            tell=lambda fields, text: self.told.append((fields, text)),
            latest=lambda: self.attempt.task,
        )

    def code(self) -> Verdict:
        return CodingRun(self.attempt).run()

    def kept(self) -> str:
        files = [path.read_text(errors="replace") for path in self.out.rglob("*") if path.is_file()]
        return "\n".join([*files, repr(self.told)])
