"""Take a bundle that an agent's side made: look at it in a throw-away repository, refuse it or make it pushable.

The order is that of the recipe that held against hostile bundles: header, fresh repository
that sees upstream's objects only, unpacking within limits, history, paths and sizes, identity and messages.
"""

import re
import shutil
import threading
from pathlib import Path

from supervisor.git.bundle import BundleHeader, Rejected, parse_header, refuse
from supervisor.git.command import GitError, Limits, open_git, run_git
from supervisor.git.content import (
    FileChange,
    check_content,
    describe_files,
    read_changes,
    scan_content,
    scan_names,
    summarise,
)
from supervisor.git.errors import first_line
from supervisor.git.history import (
    History,
    Known,
    check_claimed_base,
    check_closed,
    check_nothing_lost,
    check_prerequisites,
    read_commits,
    read_history,
)
from supervisor.git.lfs import check_lfs
from supervisor.git.mirror import Mirror, fetch, make_repository, resolve
from supervisor.git.names import check_branch, check_url
from supervisor.git.objects import TooManyChangesError, beginnings, changes_in
from supervisor.git.request import SALVAGE_LIMITS, Imported, ImportLimits, ImportRequest
from supervisor.git.rewrite import CommitInfo, Identity, describe, rewrite

__all__ = [
    "SALVAGE_LIMITS",
    "CommitInfo",
    "FileChange",
    "Identity",
    "ImportLimits",
    "ImportRequest",
    "Imported",
    "Rejected",
    "diff_text",
    "discard",
    "import_bundle",
]

_COMMIT_BYTES = 256 * 1024
_REMOTE_REF = "refs/remote/tip"

# What `git index-pack` says about a pack that it refuses, and what that means to the one who made it.
_PACK_FAULTS = (
    (r"exceeds maximum allowed size", "E_BUNDLE_TOO_BIG", "The bundle is too big."),
    (r"hasDotgit", "E_PATH_GIT", "On some systems a part of a path is git's own folder."),
    (r"hasDot\b|hasDotdot|fullPathname|emptyName", "E_PATH_COMPONENT", "A path has an empty, . or .. part."),
    (
        r"did not receive expected object|unresolved delta",
        "E_NOT_CLOSED",
        "The bundle lacks objects that its commits need.",
    ),
)


# Each may use as much memory as its limits allow, and all of them the same machine.
_ROOM = {"result": threading.BoundedSemaphore(2), "salvage": threading.BoundedSemaphore(1)}


def import_bundle(request: ImportRequest) -> Imported:
    """Check a bundle and make its commits ready for pushing from `request.quarantine`; waits for its turn.

    Rejected: the bundle is at fault, nothing of it is left. GitError: it is not, and may be tried again.
    """
    with _ROOM[request.purpose]:
        return _import(request)


def _import(request: ImportRequest) -> Imported:
    header = _read_header(request)
    discard(request.quarantine)
    try:
        make_repository(request.quarantine, Mirror(request.mirror))
        known = _find_known(request)
        return _inspect(request, header, known)
    except BaseException:
        discard(request.quarantine)
        raise


def _read_header(request: ImportRequest) -> BundleHeader:
    limits = request.limits
    size = request.bundle.stat().st_size
    if size > limits.bundle_bytes:
        raise _too_big(f"The bundle has {size} bytes.", f"at most {limits.bundle_bytes} bytes")
    with request.bundle.open("rb") as file:
        header = parse_header(file)
    if header.objects > limits.objects:
        raise _too_big(f"The bundle holds {header.objects} objects.", f"at most {limits.objects}")
    if request.claimed_head is not None and header.tip != request.claimed_head:
        raise refuse(
            "E_HEAD_MISMATCH",
            "The bundle's branch is not at the commit that was reported.",
            place=header.tip,
            expected=request.claimed_head,
            mend="Write the bundle and the report from the same commit.",
        )
    return header


def _too_big(message: str, expected: str) -> Rejected:
    mend = "Leave generated files and dependencies out of the commits."
    return refuse("E_BUNDLE_TOO_BIG", message, expected=expected, mend=mend)


def _find_known(request: ImportRequest) -> Known:
    """What upstream and the remote branch have, as of now; people's commits are brought into the quarantine."""
    mirror = Mirror(request.mirror)
    if resolve(mirror, request.base_commit) is None:
        raise GitError("E_NO_COMMIT", f"The mirror has no commit {request.base_commit}.")
    if request.remote_tip is not None and request.branch_url is not None and request.branch is not None:
        check_url(request.branch_url)
        check_branch(request.branch)
        refspec = f"+refs/heads/{request.branch}:{_REMOTE_REF}"
        fetch(request.quarantine, request.branch_url, (refspec,), request.credential)
        fetched = run_git(["rev-parse", "--verify", _REMOTE_REF], git_dir=request.quarantine).decode().strip()
        if fetched != request.remote_tip:
            raise GitError("E_BRANCH_MOVED", "The remote branch moved during the import.", retryable=True)
    elif request.remote_tip is not None and resolve(mirror, request.remote_tip) is None:
        raise GitError("E_NO_COMMIT", f"The mirror has no commit {request.remote_tip}, and no branch to fetch.")
    heads = run_git(["for-each-ref", "--format=%(objectname)", "refs/heads/"], git_dir=request.mirror)
    return Known(
        base_commit=request.base_commit,
        base_tip=resolve(mirror, f"refs/heads/{request.base_branch}"),
        remote_tip=request.remote_tip,
        other_branches=tuple(dict.fromkeys(heads.decode().split())),
    )


def _inspect(request: ImportRequest, header: BundleHeader, known: Known) -> Imported:
    """Everything from here on works on the bundle alone: what exceeds the limits is the bundle's fault."""
    git_dir, limits = request.quarantine, request.limits.process
    try:
        check_prerequisites(git_dir, header, known, limits)
        _unpack(request, header)
        check_closed(git_dir, header, known, limits)
        history = read_history(git_dir, header.tip, known, request.limits.commits, limits)
        if request.claimed_base is not None:
            check_claimed_base(git_dir, request.claimed_base, header.tip, known, limits)
        if request.purpose == "salvage":
            return _salvaged(request, header, history)
        check_nothing_lost(git_dir, header.tip, known, request.identity.bot_email, limits)
        return _accept(request, header.tip, history, known)
    except GitError as error:
        if error.code not in ("E_GIT_LIMIT", "E_GIT_TIMEOUT", "E_GIT_OUTPUT"):
            raise
        raise refuse(
            "E_BUNDLE_RESOURCES",
            f"Looking at the bundle takes more than is allowed: {error.message}",
            mend="Make the commits smaller.",
        ) from None


def _unpack(request: ImportRequest, header: BundleHeader) -> None:
    maximum = request.limits.bundle_bytes
    with request.bundle.open("rb", buffering=0) as pack:
        pack.seek(header.offset)
        try:
            run_git(
                ["index-pack", "--stdin", "--fix-thin", "--strict", "--threads=1", f"--max-input-size={maximum}"],
                git_dir=request.quarantine,
                stdin=pack,
                timeout_seconds=request.limits.timeout_seconds,
                limits=request.limits.process,
            )
        except GitError as error:
            if error.exit_code is None or error.code == "E_STATE_DISK":
                raise
            raise _pack_refused(error.stderr_tail) from None


def _pack_refused(said: str) -> Rejected:
    for pattern, code, message in _PACK_FAULTS:
        if re.search(pattern, said):
            tree = re.search(rf"object ([0-9a-f]{{40}}): (?:{pattern})", said)
            if tree is not None:
                shown = f"Rename it: `git ls-tree {tree[1]}` shows its folder."
                return refuse(code, message, place=f"tree {tree[1]}", mend=shown)
            return refuse(code, message, mend="Write the bundle again, from commits that git itself made.")
    reason = first_line(said, "error: ") or first_line(said, "fatal: ") or "no reason given"
    return refuse("E_BUNDLE_PACK", f"The bundle's objects are damaged: {reason}.", mend="Write the bundle again.")


def _salvaged(request: ImportRequest, header: BundleHeader, history: History) -> Imported:
    _keep(request.quarantine, header.tip)
    return Imported(
        head=header.tip,
        pushed_head=header.tip,
        base=history.base,
        commits=describe(request.quarantine, history.commits, request.limits.process),
        files=(),
        diff_stat="",
        held=(),
        quarantine=request.quarantine,
        holds_secret=_holds_secret(request, history),
    )


def _holds_secret(request: ImportRequest, history: History) -> bool:
    """Whether the scan finds something in saved work, which is kept nevertheless: it leaves in another way."""
    if request.scan is None:
        return False
    limits = request.limits.process
    try:
        messages = [data for _, data in beginnings(request.quarantine, history.commits, _COMMIT_BYTES, limits)]
        changes = changes_in(request.quarantine, history.commits, limits)
        scan_names(changes, request.scan)
        scan_content(request.quarantine, changes, messages, request.scan, limits)
    except Rejected:
        return True
    except TooManyChangesError:
        return False
    return False


def _accept(request: ImportRequest, head: str, history: History, known: Known) -> Imported:
    git_dir, limits = request.quarantine, request.limits
    changes = read_changes(git_dir, head, history, known, limits.process)
    if request.scan is not None:  # (what the checks refuse they name)
        scan_names(changes.judged, request.scan)
    if not changes.whole and not request.allow_empty:
        raise refuse("E_EMPTY_RESULT", "The result changes nothing.", place=head, expected="a change")
    held = check_content(
        git_dir,
        head,
        [commit for commit in (history.base, known.remote_tip) if commit is not None],
        changes,
        protected_paths=request.protected_paths,
        max_files=limits.files,
        max_blob_bytes=limits.blob_bytes,
        max_unpacked_bytes=limits.unpacked_bytes,
        limits=limits.process,
    )
    check_lfs(git_dir, history.base, head, changes.judged, limits.process)
    rewritten = rewrite(git_dir, head, history.commits, request.identity, limits.process)
    if request.scan is not None:
        scan_content(git_dir, changes.judged, rewritten.contents, request.scan, limits.process)
    files = describe_files(git_dir, history.base, head, changes, limits.process)
    _keep(git_dir, rewritten.head)
    return Imported(
        head=head,
        pushed_head=rewritten.head,
        base=history.base,
        commits=rewritten.commits,
        files=files,
        diff_stat=summarise(files),
        held=() if request.approved else held,
        quarantine=git_dir,
        earlier=_earlier(request, rewritten.head, rewritten.commits, known),
    )


def _earlier(
    request: ImportRequest, head: str, new: tuple[CommitInfo, ...], known: Known
) -> tuple[CommitInfo, ...]:
    """What the branch had before: it stands in the request as well. Oddly written ones of people are left out."""
    if known.remote_tip is None:
        return ()
    made = {commit.sha for commit in new}
    listed = read_commits(request.quarantine, head, known, request.limits.commits, request.limits.process)
    try:
        return describe(request.quarantine, [sha for sha in listed if sha not in made], request.limits.process)
    except Rejected:
        return ()


def _keep(git_dir: Path, sha: str) -> None:
    run_git(["update-ref", "refs/heads/result", sha], git_dir=git_dir)


def diff_text(quarantine: Path, base: str, head: str, max_bytes: int) -> str:
    """The change as text, cut after `max_bytes`; read it as hostile text."""
    arguments = [
        "diff-tree",
        "-p",
        "-r",
        "--no-color",
        "--no-renames",
        "--no-ext-diff",
        "--no-textconv",
        base,
        head,
    ]
    with open_git(arguments, git_dir=quarantine, limits=Limits()) as output:
        text = output.read(max_bytes)
    return text.decode("utf-8", "replace")


def discard(quarantine: Path) -> None:
    """Remove a quarantine, or what is left of one."""
    shutil.rmtree(quarantine, ignore_errors=True)
    if quarantine.exists():
        raise GitError("E_QUARANTINE", f"The quarantine {quarantine.name} cannot be removed.")
