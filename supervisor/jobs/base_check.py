"""Would work merge with what its base branch is by now? Tried on paper, in a throw-away repository."""

from pathlib import Path

from supervisor.core.record import BaseConflict
from supervisor.git.command import Limits
from supervisor.git.merging import try_merge

MAX_FILES = 20


def find_conflict(repository: Path, base: str, head: str) -> BaseConflict | None:
    """The conflict of `head` with the base branch at `base`, if there is one. GitError where git cannot tell."""
    merge = try_merge(repository, base, head, Limits())
    if merge.clean:
        return None
    return BaseConflict(base=base, head=head, files=merge.conflicts[:MAX_FILES], files_total=len(merge.conflicts))
