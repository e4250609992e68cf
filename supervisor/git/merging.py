"""Would two commits merge, and to what? Only tried: nothing is checked out, committed or moved."""

from dataclasses import dataclass
from pathlib import Path

from supervisor.git.command import GitError, Limits, open_git, run_git
from supervisor.git.path_policy import display

_MAX_OUTPUT_BYTES = 4 * 1024 * 1024
_CONFLICT_EXIT = 1


@dataclass(frozen=True, kw_only=True)
class Merge:
    """The `tree` that a merge gives; where it is not `clean`, `conflicts` are the paths to be settled.

    A conflict may name no path at all (folders that were renamed in two ways), so only `clean` decides.
    """

    tree: str
    clean: bool
    conflicts: tuple[str, ...] = ()


def try_merge(git_dir: Path, ours: str, theirs: str, limits: Limits | None = None) -> Merge:
    """Merge two commits on paper, as git would on their newest common ancestor.

    The trees that this makes are written to `git_dir`: a throw-away repository, never the mirror. It reads
    no `.gitattributes`, so that a project's own merge drivers do not count. GitError: E_GIT without a common
    ancestor; E_GIT_LIMIT, E_GIT_TIMEOUT, E_GIT_OUTPUT.
    """
    arguments = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs]
    printed = b""
    clean = True
    try:
        with open_git(arguments, git_dir=git_dir, limits=limits) as output:
            printed = output.read(_MAX_OUTPUT_BYTES)
            if output.read(1):
                raise GitError("E_GIT_OUTPUT", "The merge has more conflicts than can be listed.")
    except GitError as error:
        if error.exit_code != _CONFLICT_EXIT or not printed:
            raise
        clean = False
    tree, *paths = printed.split(b"\0")[:-1]
    return Merge(tree=tree.decode("ascii"), clean=clean, conflicts=tuple(display(path) for path in paths))


def is_contained(git_dir: Path, commit: str, branch_tip: str, limits: Limits | None = None) -> bool:
    """Whether merging `commit` into the branch would change nothing: what it holds is there, under any name.

    True after a squash merge or a rebase merge; false when others changed the same lines again since. Of a commit
    that changes nothing only the commit itself tells whether it is there.
    """
    began = run_git(["merge-base", branch_tip, commit], git_dir=git_dir, limits=limits).decode().strip()
    if tree_of(git_dir, began) == tree_of(git_dir, commit):
        return began == commit
    merge = try_merge(git_dir, branch_tip, commit, limits)
    return merge.clean and merge.tree == tree_of(git_dir, branch_tip)


def tree_of(git_dir: Path, commit: str) -> str:
    """The tree of a commit that is there."""
    return run_git(["rev-parse", "--verify", f"{commit}^{{tree}}"], git_dir=git_dir).decode().strip()
