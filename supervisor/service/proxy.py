"""The egress proxy at an upgrade: its connections are agents', and no restart cuts them unsaid."""

import sys
import time
from collections.abc import Sequence

from agent_daemon.protocol.paths import Root
from supervisor.core.words import some
from supervisor.egress.files import running_proxy
from supervisor.egress.program import OPTION, UNIT, installed_program, is_installed
from supervisor.errors import CloudCodeError
from supervisor.service.host import call
from supervisor.service.steps import Step

RESTART_SECONDS = 30.0


def egress_step(root: Root, at_work: Sequence[str]) -> Step:
    """A proxy of this version instead of one that is another program, unless there are tasks `at_work`.

    It carries the connections of their agents, of which each would break off.
    """

    def is_done() -> bool:
        return is_installed(running_proxy(root))

    def kept() -> str:
        if not at_work:
            return ""
        return (
            f"it goes on as it was, for a restart would cut the connections of {some(at_work)}. When nothing is "
            "under way (`cloud-code drain --wait`), give this command again; or now, with --egress"
        )

    def do() -> None:
        if at_work:
            return
        if not installed_program():
            message = "The egress proxy of this version cannot be started; the one that runs was left alone."
            raise CloudCodeError("E_INSTALL", message, f"{sys.executable} -m supervisor.egress {OPTION}")
        before, deadline = running_proxy(root), time.monotonic() + RESTART_SECONDS
        call("systemctl", "restart", UNIT)
        while (running := running_proxy(root)) is None or running == before:
            if time.monotonic() > deadline:
                raise CloudCodeError("E_INSTALL", "The egress proxy does not come back.", f"journalctl -u {UNIT}")
            time.sleep(0.1)

    return Step(
        what="the egress proxy runs as this version's program",
        command=f"systemctl restart {UNIT}",
        is_done=is_done,
        kept=kept,
        do=do,
    )
