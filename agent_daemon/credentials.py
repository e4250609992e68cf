"""What an attempt is given in secret: opened with a key that only this process has, kept in memory only.

The coding CLI and the verification get each value in its variable. What comes while a program runs lies in
the attempt's folder, of which `$CLOUD_CODE_CREDENTIALS` tells: in memory-backed storage, for this user alone.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pyrage
from loguru import logger
from pydantic import ValidationError

from agent_daemon.git_credential import for_git
from agent_daemon.hiding import Mask
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file
from agent_daemon.protocol.model import SealedCredential, TaskingTask
from agent_daemon.protocol.paths import CREDENTIALS

VARIABLE = "CLOUD_CODE_CREDENTIALS"
_MAX_BYTES = 256 * 1024
# Times of files are coarser than the clock.
_COARSE_NS = 1_000_000_000
# So many values are hidden still in what later attempts of their tasks write.
_FORMER = 200
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 (a folder for this user alone is made in it)


class Given:
    """What one attempt has been given. Changed by the daemon's loop, read by the thread that works.

    `everything` hides all that it was ever given, and `former` values that earlier attempts of its task were: what
    those left may hold them. `since` is when the first of that came, as files tell times.
    """

    def __init__(self, folder: Path | None, former: Iterable[str] = ()) -> None:
        self.folder = folder
        self._held: dict[str, SealedCredential] = {}
        self._ends: dict[str, float] = {}
        self.everything = Mask(former)
        self.since = time.time_ns() - _COARSE_NS if self.everything else 0
        self._masks = [self.everything]

    def __repr__(self) -> str:
        return f"Given({', '.join(self._held)})"

    def environment(self) -> dict[str, str]:
        """The variables in which a program finds the values, and the one that says where later ones will lie."""
        held = list(self._held.values())
        found = {one.env: one.value for one in held if one.deliver == "environment"}
        if self.folder is not None:
            found |= {one.env: str(self.folder / one.env) for one in held if one.deliver == "file"}
        return found | ({VARIABLE: str(self.folder)} if self.folder is not None else {})

    def git_hosts(self) -> list[str]:
        """The hosts for which git can be told what is held."""
        urls = (one.git_url for one in list(self._held.values()) if self.folder is not None)
        return sorted({url for url in urls if url is not None})

    def hidden_by(self, mask: Mask) -> Mask:
        """The mask, which hides what is given now and what will be."""
        self._masks.append(mask)
        mask.add_all(self.everything)
        return mask

    def take(self, credential: SealedCredential) -> None:
        """Hold it, and lay it where programs that run already find it."""
        before = self._held.get(credential.id)
        if before == credential:
            return
        self.since = self.since or time.time_ns() - _COARSE_NS
        self._held[credential.id] = credential
        if before is None or before.expires_at != credential.expires_at:
            self._ends[credential.id] = _end_of(credential)
        for mask in self._masks:
            mask.add([credential.value])
        self._lay(credential)

    def _lay(self, credential: SealedCredential) -> None:
        if self.folder is not None:
            try:
                _write(self.folder, credential)
            except OSError as error:
                logger.warning("{} cannot be laid into {}: {}", credential.id, self.folder, error)

    def keep(self, ids: set[str] | None = None) -> list[str]:
        """Forget what is over, and of the rest all but these; the ids of what was forgotten."""
        now = time.monotonic()
        gone = [name for name in self._held if (ids is not None and name not in ids) or self._ends[name] <= now]
        for name in gone:
            credential = self._held.pop(name)
            if self.folder is not None:
                _remove(self.folder / credential.env)
                _remove(self.folder / for_git(credential.env))
            others = [other for other in self._held.values() if other.env == credential.env]
            if others:  # such as the one for reading, where the one for publishing is over
                self._lay(others[-1])
        return gone

    def has(self, name: str) -> bool:
        return name in self._held

    def holds_another(self, credential: SealedCredential) -> bool:
        """Whether it was given with another value before."""
        before = self._held.get(credential.id)
        return before is not None and before.value != credential.value

    def drop(self) -> None:
        """Forget everything, and remove it."""
        self._held.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # another attempt of the task may have one
                self.folder.parent.rmdir()


class Keyring:
    """This daemon's key and what the attempts of its workstation were given; none of it outlives the process."""

    def __init__(self, workstation_folder: Path) -> None:
        self._identity = pyrage.x25519.Identity.generate()
        self.recipient = str(self._identity.to_public())
        self._base = _base_folder(workstation_folder)
        self._given: dict[tuple[str, int], Given] = {}
        # (what a daemon left that was killed is not used, but what its attempts wrote may hold it)
        self._former = deque(_left_in(self._base) if self._base is not None else (), maxlen=_FORMER)
        self._mask = Mask(value for _, value in self._former)
        self.close()

    def of(self, task_id: str, attempt: int) -> Given:
        """What this attempt has been given."""
        key = (task_id, attempt)
        if key not in self._given:
            former = {value for owner, value in self._former if owner == task_id}
            place = None if self._base is None else self._base / task_id / str(attempt)
            self._given[key] = Given(place, former)
        return self._given[key]

    def take(self, inbox: Path, task: TaskingTask) -> list[str]:
        """Bring what the attempt has to what its tasking says; one sentence for each thing that is new or gone."""
        given = self.of(task.id, task.attempt)
        injected = [] if task.ended else [c for c in task.credentials if c.status == "injected" and c.file]
        wanted = {credential.id: credential for credential in injected if credential.recipient == self.recipient}
        said = [f"{name} is taken back" for name in given.keep(set(wanted))]
        for name, told in wanted.items():
            try:
                data = read_file(inbox, f"{CREDENTIALS}/{told.file}", max_bytes=_MAX_BYTES).data
                opened = SealedCredential.model_validate_json(pyrage.decrypt(data, [self._identity]))
                if (opened.task, opened.attempt, opened.id) != (task.id, task.attempt, name):
                    raise ValueError("it is for another attempt")
            except (OSError, ProtocolError, pyrage.DecryptError, ValidationError, ValueError) as error:
                why = "" if isinstance(error, ValidationError) else f": {error}"
                logger.warning("the credential {} of {} cannot be opened{}", name, task.id, why)
                continue
            if given.holds_another(opened):
                said.append(f"{name} has another value now: {told.type}, in {VARIABLE}/{opened.env}")
            elif not given.has(name):
                said.append(f"{name} is there: {told.type}, in ${opened.env} and {VARIABLE}/{opened.env}")
            given.take(opened)
            if (task.id, opened.value) not in self._former:
                self._former.append((task.id, opened.value))
                self._mask = Mask(value for _, value in self._former)
        return said

    def hide(self, text: str) -> str:
        """The text without what any attempt was given; called from any thread."""
        return self._mask.hide(text)

    def expire(self) -> None:
        """Forget what is over, whether or not a supervisor is there to say so."""
        for given in self._given.values():
            given.keep()

    def forget(self, task_id: str, attempt: int) -> None:
        """The attempt is over."""
        given = self._given.pop((task_id, attempt), None)
        if given is not None:
            given.drop()

    def close(self) -> None:
        """Remove everything that was laid down for programs."""
        for given in self._given.values():
            given.drop()
        self._given.clear()
        if self._base is not None:
            shutil.rmtree(self._base, ignore_errors=True)


def _base_folder(workstation_folder: Path) -> Path | None:
    """A folder in memory-backed storage that is this workstation's; None where there is no such storage."""
    if not os.access(_IN_MEMORY, os.W_OK | os.X_OK):
        return None
    if not is_in_memory(_IN_MEMORY, Path("/proc/self/mounts").read_text(errors="replace")):
        logger.warning("{} lies on a disk: credentials are given in variables alone", _IN_MEMORY)
        return None
    name = hashlib.sha256(os.fsencode(workstation_folder)).hexdigest()[:16]
    return _IN_MEMORY / f"cloud-code-{os.getuid()}-{name}"


def _left_in(base: Path) -> Iterator[tuple[str, str]]:
    """The values that lie there, each with the task that it was given for."""
    try:
        found = base.lstat()
        paths = list(islice(base.glob("*/*/[A-Z_]*"), _FORMER))
    except OSError:  # there is none
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return
    for path in paths:
        with contextlib.suppress(OSError, ProtocolError):  # (an agent could have put anything there)
            data = read_file(base, str(path.relative_to(base)), max_bytes=_MAX_BYTES).data
            yield path.parts[-3], data.decode(errors="replace").removesuffix("\n")


def is_in_memory(folder: Path, mounts: str) -> bool:
    """Whether what is written there reaches no disk, by the mounts as proc(5) lists them."""
    found = [fields for line in mounts.splitlines() if len(fields := line.split()) > 2]
    around = [(len(place), kind) for _, place, kind, *_ in found if folder.is_relative_to(place)]
    return max(around, default=(0, ""), key=lambda one: one[0])[1] in ("tmpfs", "ramfs")


def _end_of(credential: SealedCredential) -> float:
    """When it is over by the clock that does not jump."""
    if credential.expires_at is None:
        return float("inf")
    return time.monotonic() + (credential.expires_at - datetime.now(UTC)).total_seconds()


def _remove(path: Path) -> None:
    """Whatever its agent has put there instead. What cannot be removed goes with the folder."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write(folder: Path, credential: SealedCredential) -> None:
    for made in (folder.parents[1], folder.parent, folder):
        made.mkdir(mode=0o700, exist_ok=True)
        if made.is_symlink() or made.stat().st_uid != os.getuid():
            raise OSError(f"{made} is not ours")
    # (a key, of which programs want the last line whole)
    _lay(folder, credential.env, credential.value + ("\n" if "\n" in credential.value else ""))
    if credential.git_url is not None:
        _lay(folder, for_git(credential.env), f"{credential.git_url}\n{credential.git_user}\n")


def _lay(folder: Path, name: str, text: str) -> None:
    fresh = folder / f".{name}.new"
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.rename(folder / name)
