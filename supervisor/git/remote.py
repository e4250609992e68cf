"""Push one commit to one branch, never over anything that is not expected there."""

from pathlib import Path

from supervisor.git.command import Credential, GitError, open_git
from supervisor.git.errors import first_line
from supervisor.git.mirror import Mirror, descends, fetch, header_for, remote_tip, resolve
from supervisor.git.names import check_generated_branch, check_url, is_sha

_PUSH_SECONDS = 600
_MAX_ANSWER_BYTES = 64 * 1024


def push(
    quarantine: Path,
    url: str,
    sha: str,
    branch: str,
    expected: str | None,
    credential: Credential | None = None,
    *,
    timeout_seconds: float = _PUSH_SECONDS,
) -> None:
    """Put `sha` on the remote's branch, if that is at `expected` (None: does not exist).

    Again is a success, also where somebody has gone on from it since.

    GitError: E_BRANCH_MOVED (nothing overwritten), E_PUSH_REFUSED with the server's words, E_AUTHENTICATION,
    E_NO_REPOSITORY, E_UNREACHABLE (retryable; the push may have arrived).
    """
    check_url(url)
    check_generated_branch(branch)
    if not is_sha(sha) or not (expected is None or is_sha(expected)):
        raise GitError("E_SHA", "A push needs whole hashes.")
    ref = f"refs/heads/{branch}"
    arguments = ["push", "--porcelain", "--no-verify", f"--force-with-lease={ref}:{expected or ''}"]
    printed = b""
    try:
        with open_git(
            [*arguments, "--", url, f"{sha}:{ref}"],
            git_dir=quarantine,
            environment=header_for(url, credential),
            timeout_seconds=timeout_seconds,
        ) as output:
            printed = output.read(_MAX_ANSWER_BYTES)
    except GitError as error:
        reason = _refusal(printed)
        if reason is None:
            raise
        tip = remote_tip(url, branch, credential, owner=quarantine)
        # An earlier try of ours arrived, and its answer was lost; somebody may have gone on from it since.
        if tip == sha or (tip is not None and holds(quarantine, url, branch, sha, credential)):
            return
        if "stale info" in reason or tip != expected:
            raise GitError(
                "E_BRANCH_MOVED", f"Somebody else changed {branch} meanwhile.", error.stderr_tail
            ) from None
        unpacking = first_line(error.stderr_tail, "error: remote unpack failed: ")
        said = first_line(error.stderr_tail, "remote: ") or unpacking or reason
        raise GitError("E_PUSH_REFUSED", f"The remote refused the push: {said}", error.stderr_tail) from None


def holds(quarantine: Path, url: str, branch: str, sha: str, credential: Credential | None = None) -> bool:
    """Whether the remote's branch has this commit, by a look at the branch; it passes through the quarantine."""
    seen = "refs/seen/tip"
    fetch(quarantine, url, (f"+refs/heads/{branch}:{seen}",), credential)
    tip = resolve(Mirror(quarantine), seen)
    known = Mirror(quarantine)
    return tip is not None and resolve(known, sha) is not None and descends(quarantine, sha, tip)


def _refusal(printed: bytes) -> str | None:
    """Why the ref was not taken, from the lines ``FLAG<tab>FROM:TO<tab>SUMMARY``; None when there is none."""
    for line in printed.decode("utf-8", "replace").splitlines():
        if line.startswith("!\t"):
            return first_line(line.split("\t")[-1])
    return None
