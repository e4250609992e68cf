"""Evidence that a commit works: the commands that its task asks for, run on that very commit."""

from dataclasses import dataclass, replace

from agent_daemon import checkout
from agent_daemon.attempt import Attempt
from agent_daemon.clis.base import bare_environment, mask_for
from agent_daemon.protocol.model import ReportStatus, VerificationCommand, VerificationResult
from agent_daemon.request import cli_settings
from agent_daemon.verification import VerificationPlace, run_verification


def verify(attempt: Attempt, head: str) -> tuple[VerificationResult, ...]:
    """Run the commands on the commit that is to be handed in; all anew when somebody edits them meanwhile."""
    while True:
        stop = _StopOrEdit(attempt, attempt.latest().verification)
        results = _run_commands(attempt, head, stop)
        stop.is_set()
        if attempt.asked_to_stop or not stop.edited:
            return results
        attempt.tell({}, "The verification commands were changed: running them anew")
        checkout.restore_tracked(attempt.places.worktree)


@dataclass
class _StopOrEdit:
    """Ends a run of commands that are wanted no more: someone asks for that, or wants others."""

    attempt: Attempt
    commands: tuple[VerificationCommand, ...]
    edited: bool = False

    def is_set(self) -> bool:
        self.edited = self.edited or self.attempt.latest().verification != self.commands
        return self.edited or self.attempt.stop.is_set()


def _run_commands(attempt: Attempt, head: str, stop: _StopOrEdit) -> tuple[VerificationResult, ...]:
    commands = stop.commands
    if not commands:
        return ()
    tell, places = attempt.tell, attempt.places
    tell({"status": ReportStatus.VERIFYING}, f"Running {len(commands)} verification command(s)")
    # The CLI's keys are not for the project's code.
    settings = replace(cli_settings(attempt), pass_environment=())
    place = VerificationPlace(
        worktree=places.worktree,
        commit=head,
        logs=places.logs,
        environment=bare_environment(settings),
        marker=places.marker,
        # The agent may have left them where a command finds them.
        mask=attempt.given.hidden_by(mask_for(cli_settings(attempt))),
    )
    results = run_verification(commands, place, stop=stop)
    for result in results:
        tell({}, f"Verification '{result.name}': exit code {result.exit_code}")
    dirt = checkout.dirt(places.worktree)
    if dirt:
        tell({}, f"Verification left {len(dirt)} uncommitted path(s): {', '.join(dirt[:5])}")
    return results
