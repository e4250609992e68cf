"""Named places where a test kills the process with SIGKILL; without the variable they do nothing.

``CLOUD_CODE_FAILPOINT=name`` kills at each passage; ``name=FILE`` kills as many times as the number in FILE
says, which is counted down first, so that a restarted process gets past it.
"""

import os
import signal
from pathlib import Path

VARIABLE = "CLOUD_CODE_FAILPOINT"

SUPERVISOR_FAILPOINTS = (
    "intake.before_record",
    "record.saved_before_mail",
    "mail.written_before_assigned_event",
    "report.taken_before_save",
    "inspect.imported",
    "push.marked_sending",
    "push.done_before_record",
    "request.written_before_record",
    "save.copied_before_record",
    "merge.seen_before_record",
)
DAEMON_FAILPOINTS = (
    "daemon.received",
    "daemon.worktree_made",
    "daemon.cli_running",
    "daemon.cli_finished",
    "daemon.committed",
    "daemon.verified",
    "daemon.bundled_before_report",
    "daemon.worktree_removed",
    "daemon.released_before_report",
)
# Passed only when what ended tasks left behind is cleaned up.
CLEANUP_FAILPOINTS = (
    "cleanup.let_go",
    "cleanup.put_aside",
    "cleanup.unlinked",
    "cleanup.asked",
    "cleanup.request_removed",
    "cleanup.forgotten_before_event",
    "clearing.emptied",
    "daemon.cleanup_renamed",
    "daemon.cleanup_removed",
    "daemon.cleaned_before_answer",
)
# Passed only where a project is on a forge.
FORGE_FAILPOINTS = (
    "forge.news_before_record",
    "forge.news_before_cursor",
    "forge.post_marked_sending",
    "forge.story_marked_sending",
    "forge.told_before_record",
)
# Passed only where a Vault lends something.
LEASE_FAILPOINTS = ("lease.token_made", "lease.token_noted", "lease.lent", "lease.noted", "lease.revoked")
# Passed only where a forge makes tokens for agents.
MINT_FAILPOINTS = ("mint.page_written", "mint.made", "mint.noted", "mint.revoked")
# Passed only where the base branch has moved.
MOVED_BASE_FAILPOINTS = ("daemon.switching_base",)
# Passed only where the tools of a workstation are restored.
RESTORE_FAILPOINTS = ("restore.filled", "restore.replaced")


def reach(name: str) -> None:
    """Pass the named place, or die there."""
    wanted, _, counter = os.environ.get(VARIABLE, "").partition("=")
    if wanted != name:
        return
    if counter:
        file = Path(counter)
        left = int(file.read_text() or 0) if file.exists() else 0
        if left <= 0:
            return
        file.write_text(str(left - 1))
    os.kill(os.getpid(), signal.SIGKILL)
