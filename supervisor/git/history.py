"""Where an agent's commits come from: known prerequisites, a closed graph, the right base, nobody else's work."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from supervisor.git.bundle import BundleHeader, Rejected, refuse
from supervisor.git.command import GitError, Limits, run_git
from supervisor.git.mirror import descends
from supervisor.git.objects import kinds_and_sizes


@dataclass(frozen=True, kw_only=True)
class Known:
    """Commits that are not the agent's: the base branch's tip in the mirror, the task's base, the remote branch.

    `other_branches` are the tips of everything else upstream.
    """

    base_commit: str
    base_tip: str | None
    remote_tip: str | None
    other_branches: tuple[str, ...] = ()

    @property
    def upstream(self) -> tuple[str, ...]:
        return (self.base_commit,) if self.base_tip is None else (self.base_tip, self.base_commit)

    @property
    def all(self) -> tuple[str, ...]:
        return self.upstream if self.remote_tip is None else (*self.upstream, self.remote_tip)


@dataclass(frozen=True, kw_only=True)
class History:
    """The new commits, parents first, and the newest upstream commit that they build on."""

    base: str
    commits: tuple[str, ...]


def check_prerequisites(git_dir: Path, header: BundleHeader, known: Known, limits: Limits) -> None:
    """Every prerequisite must be a commit that the base branch or the remote branch reaches: E_PREREQUISITE."""
    kinds = kinds_and_sizes(git_dir, header.prerequisites, limits)
    unknown = [sha for sha in header.prerequisites if kinds.get(sha, ("", 0))[0] != "commit"]
    if not unknown and header.prerequisites:
        unknown = _rev_list(git_dir, ["--max-count=1"], header.prerequisites, known.all, limits)
    if unknown:
        raise refuse(
            "E_PREREQUISITE",
            "The bundle builds on a commit that the base branch does not have.",
            place=unknown[0],
            expected="commits of the base branch or of the task's own branch",
            mend="Bundle everything since the base commit.",
        )


def check_closed(git_dir: Path, header: BundleHeader, known: Known, limits: Limits) -> None:
    """The tip must be a commit, and everything that it reaches must be here: E_NOT_COMMIT, E_NOT_CLOSED."""
    kind, _ = kinds_and_sizes(git_dir, [header.tip], limits).get(header.tip, ("", 0))
    if not kind:
        raise _not_closed(header.tip)
    if kind != "commit":
        raise refuse("E_NOT_COMMIT", f"The bundle's branch is a {kind}.", place=header.tip, expected="a commit")
    try:
        _rev_list(git_dir, ["--objects", "--quiet"], [header.tip], known.all, limits)
    except GitError as error:
        if error.exit_code is None:
            raise
        raise _not_closed(header.tip) from None


def _not_closed(tip: str) -> Rejected:
    return refuse(
        "E_NOT_CLOSED",
        "The bundle lacks objects that its commits need.",
        place=tip,
        mend="Bundle everything since the base commit.",
    )


def read_history(git_dir: Path, head: str, known: Known, max_commits: int, limits: Limits) -> History:
    """The agent's commits. Rejected: E_NOT_DESCENDANT, E_TOO_MANY_COMMITS, E_FOREIGN_COMMITS."""
    if not descends(git_dir, known.base_commit, head, limits):
        raise refuse(
            "E_NOT_DESCENDANT",
            "The result does not build on the commit that the task began with.",
            place=head,
            expected=f"a descendant of {known.base_commit}",
            mend="Put the work on top of the base commit.",
        )
    options = ["--topo-order", "--reverse", f"--max-count={max_commits + 1}"]
    commits = _rev_list(git_dir, options, [head], known.all, limits)
    if len(commits) > max_commits:
        raise refuse(
            "E_TOO_MANY_COMMITS",
            f"The result has more than {max_commits} new commits.",
            expected=f"at most {max_commits}",
            mend="Squash them.",
        )
    _check_foreign(git_dir, head, commits, known, limits)
    return History(base=merge_base(git_dir, head, known), commits=tuple(commits))


def read_commits(git_dir: Path, head: str, known: Known, max_commits: int, limits: Limits) -> list[str]:
    """The newest commits of a branch that upstream does not have, parents first."""
    options = ["--topo-order", "--reverse", f"--max-count={max_commits}"]
    return _rev_list(git_dir, options, [head], known.upstream, limits)


def _check_foreign(git_dir: Path, head: str, commits: Sequence[str], known: Known, limits: Limits) -> None:
    """Refuse merged-in histories: those without a common root, and people's branches that are not the base."""
    foreign = _rev_list(git_dir, ["--max-parents=0"], [head], known.all, limits)
    if not foreign and commits and known.other_branches:
        own = set(_rev_list(git_dir, [], [head], (*known.all, *known.other_branches), limits))
        foreign = [commit for commit in commits if commit not in own]
    if foreign:
        raise refuse(
            "E_FOREIGN_COMMITS",
            "The result brings commits of another branch or history along.",
            place=foreign[0],
            expected="the agent's own commits on top of the base branch",
            mend="Merge or rebase onto the base branch only.",
        )


def merge_base(git_dir: Path, commit: str, known: Known) -> str:
    """The newest upstream commit below `commit`; the task's base when upstream was rewritten meanwhile."""
    if known.base_tip is None or not descends(git_dir, known.base_commit, known.base_tip):
        return known.base_commit
    return run_git(["merge-base", known.base_tip, commit], git_dir=git_dir).decode().strip()


def check_claimed_base(git_dir: Path, claimed: str, head: str, known: Known, limits: Limits) -> None:
    """The claimed base lies between the task's base and the head, and is upstream's: E_BASE_MISMATCH."""
    kind, _ = kinds_and_sizes(git_dir, [claimed], limits).get(claimed, ("", 0))
    if (
        kind == "commit"
        and descends(git_dir, known.base_commit, claimed, limits)
        and descends(git_dir, claimed, head, limits)
        and not _rev_list(git_dir, ["--max-count=1"], [claimed], known.upstream, limits)
    ):
        return
    raise refuse(
        "E_BASE_MISMATCH",
        "The reported base is not a commit of the base branch that the result builds on.",
        place=claimed,
        expected=f"a commit of the base branch, {known.base_commit} or a later one",
    )


def check_nothing_lost(git_dir: Path, head: str, known: Known, bot_email: str, limits: Limits) -> None:
    """A push must not drop commits that people put on the remote branch: E_PEOPLE_COMMITS."""
    if known.remote_tip is None or descends(git_dir, known.remote_tip, head, limits):
        return
    listing = _lines(
        run_git(
            ["log", "--format=%H %ae %ce", known.remote_tip, "--not", head, *known.upstream],
            git_dir=git_dir,
            limits=limits,
        )
    )
    for line in listing:
        sha, _, emails = line.partition(" ")
        if emails != f"{bot_email} {bot_email}":
            raise refuse(
                "E_PEOPLE_COMMITS",
                "The result leaves out a commit that somebody pushed to the task's branch.",
                place=sha,
                expected=f"a descendant of {known.remote_tip}",
                mend="Start from the branch's tip, and merge instead of rebasing.",
            )


def _rev_list(
    git_dir: Path, options: Sequence[str], included: Iterable[str], excluded: Iterable[str], limits: Limits
) -> list[str]:
    revisions = [*included, *(f"^{sha}" for sha in excluded)]
    output = run_git(
        ["rev-list", *options, "--stdin"],
        git_dir=git_dir,
        stdin="".join(f"{revision}\n" for revision in revisions).encode(),
        limits=limits,
    )
    return _lines(output)


def _lines(output: bytes) -> list[str]:
    return output.decode("utf-8", "replace").splitlines()
