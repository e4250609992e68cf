"""What an import is asked to do, and what it answers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from supervisor.git.command import Credential, Limits
from supervisor.git.content import FileChange, Scan
from supervisor.git.path_policy import MAX_BLOB_BYTES, MAX_FILES
from supervisor.git.rewrite import CommitInfo, Identity

_MEGABYTE = 1024 * 1024
_PROCESS_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class ImportLimits:
    """How much one import may hold (counts and bytes) and use (process, seconds)."""

    bundle_bytes: int = 50 * _MEGABYTE
    objects: int = 50_000
    commits: int = 500
    files: int = MAX_FILES
    blob_bytes: int = MAX_BLOB_BYTES
    unpacked_bytes: int = 1024 * _MEGABYTE
    process: Limits = _PROCESS_LIMITS
    timeout_seconds: float = 120


_LIMITS = ImportLimits()

# Salvage is kept, not pushed: it may hold what nobody would accept, but must not be lost.
SALVAGE_LIMITS = ImportLimits(
    bundle_bytes=500 * _MEGABYTE,
    objects=500_000,
    commits=10_000,
    process=Limits(cpu_seconds=300, file_bytes=2048 * _MEGABYTE),
    timeout_seconds=600,
)


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """A bundle that was copied out of a workstation's folder, and what it is held against.

    `quarantine` is a folder to be made (wiped if it is left over); `base_commit` is in the mirror.
    `remote_tip` is where the task's branch is on the remote, None if nowhere: with `branch_url` and `branch`
    its commits (people's among them) are fetched into the quarantine. `claimed_head` None is not compared.
    `scan` sees every new blob, path and commit, in chunks. For `salvage` the policy, the scan and the
    rewriting are left out.
    """

    quarantine: Path
    bundle: Path
    mirror: Path
    base_branch: str
    base_commit: str
    claimed_head: str | None
    claimed_base: str | None = None
    remote_tip: str | None = None
    branch_url: str | None = None
    branch: str | None = None
    credential: Credential | None = None
    allow_empty: bool = False
    protected_paths: tuple[str, ...] = ()
    approved: bool = False
    identity: Identity
    limits: ImportLimits = _LIMITS
    purpose: Literal["result", "salvage"] = "result"
    scan: Scan | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """An accepted bundle. `head` is the agent's, `pushed_head` what may be pushed, `base` upstream's below it.

    `commits` are the new ones, oldest first, as pushed, and `earlier` those below them that the remote branch had;
    `held` are paths that a person must approve first. `holds_secret`: the scan found something in saved work.
    """

    head: str
    pushed_head: str
    base: str
    commits: tuple[CommitInfo, ...]
    files: tuple[FileChange, ...]
    diff_stat: str
    held: tuple[str, ...]
    quarantine: Path
    earlier: tuple[CommitInfo, ...] = ()
    holds_secret: bool = False
