"""The git half of a code host: one remote, with the credential that it takes."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from agent_daemon.protocol.paths import BRANCH_PREFIX
from supervisor.core.record import TaskRecord
from supervisor.git import mirror as mirrors
from supervisor.git import remote
from supervisor.git.credential import Credential
from supervisor.git.mirror import Mirror, StartBundle
from supervisor.git.mirror_repair import Renewed, renew_mirror

# A remote that hangs must not fill the pool with jobs that wait for its mirror.
MIRROR_LOCK_SECONDS = 20


class GitRemote:
    """Fetches from and pushes to `address`; `credential` is asked before each call, for tokens are renewed."""

    def __init__(self, address: str, credential: Callable[[], Credential | None] = lambda: None) -> None:
        self._address, self._credential = address, credential

    def url(self) -> str:
        return self._address

    def remote_tip(self, branch: str) -> str | None:
        return mirrors.remote_tip(self._address, branch, self._credential())

    def branch_tips(self) -> Mapping[str, str]:
        return mirrors.branch_tips(self._address, f"{BRANCH_PREFIX}*", self._credential())

    def default_branch(self) -> str:
        return mirrors.default_branch(self._address, self._credential())

    def fetch_mirror(self, mirror: Mirror) -> None:
        mirrors.fetch_mirror(mirror, self._address, self._credential(), lock_seconds=MIRROR_LOCK_SECONDS)

    def renew_mirror(self, mirror: Mirror) -> Renewed | None:
        return renew_mirror(mirror, self._address, self._credential())

    def push(self, quarantine: Path, sha: str, branch: str, expected: str | None) -> None:
        remote.push(quarantine, self._address, sha, branch, expected, self._credential())

    def fetch(self, repository: Path, refspecs: tuple[str, ...]) -> None:
        mirrors.fetch(repository, self._address, refspecs, self._credential())

    def make_start_bundle(
        self, mirror: Mirror, branch: str, base_commit: str, *, scratch: Path, target: Path
    ) -> StartBundle | None:
        return mirrors.make_start_bundle(
            mirror,
            self._address,
            branch,
            base_commit,
            scratch=scratch,
            target=target,
            credential=self._credential(),
        )

    def holds(self, quarantine: Path, branch: str, sha: str) -> bool:
        return remote.holds(quarantine, self._address, branch, sha, self._credential())

    def merged(self, mirror: Mirror, tasks: Iterable[TaskRecord]) -> Mapping[str, str]:
        """Of these tasks, those whose pushed head is in their base branch now, with that branch's name."""
        delivered = [(task, task.delivery.pushed_head) for task in tasks if task.delivery]
        heads: dict[str, set[str]] = {}
        for task, head in delivered:
            heads.setdefault(task.base_branch, set()).add(head)
        found = {branch: mirrors.contained(mirror, shas, branch) for branch, shas in heads.items()}
        return {task.id: task.base_branch for task, head in delivered if head in found[task.base_branch]}
