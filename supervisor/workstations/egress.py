"""The egress proxy as the driver of containers sees it: its policies written, its process kept running.

It is a process of its own, so that no restart of the supervisor cuts an agent off. Under systemd it is a unit of
its own, too, and is left to that: the service's control group would end it with this process.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.paths import Root
from agent_daemon.streams import put_aside_full
from supervisor.core.decision import Event
from supervisor.core.reach import allowed_by
from supervisor.core.settings import Config
from supervisor.egress.files import (
    PolicyFile,
    policy_names,
    remove_policy,
    running_proxy,
    write_policy,
)
from supervisor.egress.program import UNIT
from supervisor.errors import CloudCodeError
from supervisor.lasting import Lasting
from supervisor.workstations.local import is_service, own_cgroup, start_process

PASSED_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ")
LOG_BYTES = 5 * 1024 * 1024
# A proxy that ends at once is started again after this long.
RETRY_SECONDS = 5.0


class EgressProxy:
    """Keeps the proxy of a root running while a workstation needs it. Called from the loop and its threads.

    `in_service`: whether systemd looks after it; without a word, where this process is a service itself.
    """

    def __init__(
        self,
        root: Root,
        config: Config | None,
        *,
        in_service: bool | None = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._root, self._config = root, config
        self._in_service, self._retry_seconds = in_service, retry_seconds
        self._one_at_a_time = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._started = -retry_seconds
        self._told = Lasting()
        self._renewed = False

    def open(self, workstation: str, kind: str) -> Path:
        """Have a workstation connect by what is configured for its type; the folder with its socket."""
        folder = self._root.gate(workstation)
        make_folder(folder, 0o700)
        if self._config is not None:
            write_policy(self._root, workstation, wanted_policy(self._config, kind))
        self.ensure()
        return folder

    def shut(self, workstation: str) -> None:
        """Nothing of this workstation runs any more."""
        remove_policy(self._root, workstation)

    def ensure(self) -> CloudCodeError | None:
        """Start the proxy where none runs; why there is none, if it is not ours to start or does not stay."""
        with self._one_at_a_time:
            return self._ensure()

    def _ensure(self) -> CloudCodeError | None:
        if running_proxy(self._root) is not None:
            return None
        if self._in_service is None:
            self._in_service = is_service(os.environ, own_cgroup())
        if self._in_service:
            mend = f"sudo systemctl start {UNIT}"
            return CloudCodeError("E_EGRESS_AWAY", "The egress proxy does not run: no workstation connects.", mend)
        if self._child is not None and self._child.poll() is None:
            return None  # it is just coming up
        now = time.monotonic()
        if now - self._started < self._retry_seconds:
            message = "The egress proxy ended at once: no workstation connects."
            return CloudCodeError("E_EGRESS_AWAY", message, f"Its output is in {self._log}.")
        self._started = now
        make_folder(self._root.egress)
        put_aside_full(self._log, LOG_BYTES)
        passed = {name: os.environ[name] for name in PASSED_ENVIRONMENT if name in os.environ}
        argv = [sys.executable, "-m", "supervisor.egress", "--root", str(self._root.path)]
        with self._log.open("ab") as output:
            self._child = start_process(argv, self._root.path, passed, output)
        return None

    def look(self) -> Event | None:
        """Once a second: whether the proxy is there while somebody needs it; what there is to tell of that."""
        if not self._renewed:
            self._renewed = True
            self._renew()
        away = self.ensure() if policy_names(self._root) else None
        said = away.message if away else None
        if not self._told.is_told(said, time.monotonic()):
            return None
        if away is None:
            return Event(name="egress.back")
        details = {"code": away.code, "message": away.message.removesuffix("."), "mend": away.mend}
        return Event(name="egress.away", details=details)

    def _renew(self) -> None:
        """What is configured now counts for workstations that run, too."""
        for name in policy_names(self._root) if self._config is not None else ():
            kind = name.rpartition("-")[0]
            settings = self._config.workstations.get(kind) if self._config else None
            if self._config is not None and settings is not None and settings.controlled:
                write_policy(self._root, name, wanted_policy(self._config, kind))

    @property
    def _log(self) -> Path:
        return self._root.egress / "proxy.log"


def wanted_policy(config: Config, kind: str) -> PolicyFile:
    """The policy that workstations of a type are configured with."""
    networks = config.workstations[kind].egress_networks or ()
    return PolicyFile(allow=allowed_by(config, kind), networks=networks)
