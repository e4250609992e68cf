"""Files between two programs that do not trust each other: the safe read, and the durable write.

What the other side wrote is opened beneath a trusted folder without following any link, looked at before
it is opened for reading (so that pipes and devices never block), and read only when it is one plain file.
"""

import ctypes
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

from agent_daemon.protocol.errors import Problem, ProtocolError

_LOOKS: Final = 5  # how often a file that is being replaced or written is looked at again
_CHUNK_BYTES: Final = 1024 * 1024
_USUAL: Final = 256 * 1024  # bytes
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY  # a lease of the writer would block
_NEW_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


@dataclass(frozen=True)
class Signature:
    """What tells one content of a path from the next: identity, size in bytes, times in nanoseconds."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True)
class FileContent:
    """The bytes of a file, and the signature that it had while they were read."""

    data: bytes
    signature: Signature


@dataclass(frozen=True)
class Copied:
    """Size in bytes and SHA-256, in hex, of what was copied."""

    size: int
    sha256: str


def signature(path: Path) -> Signature | None:
    """The signature of a path, of a link its own; None when there is nothing."""
    try:
        return signature_of(os.lstat(path))
    except FileNotFoundError:
        return None


def signature_of(status: os.stat_result) -> Signature:
    """What a look at a path tells of its content."""
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_OPENAT2: Final = 437  # on every architecture but Alpha
_RESOLVE: Final = 0x08 | 0x04 | 0x02 | 0x01  # BENEATH | NO_SYMLINKS | NO_MAGICLINKS | NO_XDEV
_LOOK: Final = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE)
Opener = Callable[[int, str], int]


def open_at_once(folder: int, relative: str) -> int:
    """Look (O_PATH) at `relative` below the descriptor `folder` with openat2; links are OSError ELOOP."""
    result = _syscall()(_OPENAT2, folder, os.fsencode(relative), ctypes.byref(_LOOK), ctypes.sizeof(_LOOK))
    if result < 0:
        raise OSError(number := ctypes.get_errno(), os.strerror(number), relative)
    return int(result)


def open_by_parts(folder: int, relative: str) -> int:
    """The same part by part, for kernels before 5.6 and for sandboxes that do not let openat2 through."""
    current = os.dup(folder)
    try:
        device = os.fstat(current).st_dev
        for part in relative.split("/"):
            outer, current = current, os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=current)
            os.close(outer)
            status = os.fstat(current)
            if stat.S_ISLNK(status.st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), relative)
            if stat.S_ISDIR(status.st_mode) and status.st_dev != device:  # an overlay's files differ anyway
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), relative)
    except BaseException:
        os.close(current)
        raise
    return current


@cache
def _syscall() -> Callable[..., int]:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
    call.restype = ctypes.c_long
    return call


@cache
def usual_opener() -> Opener:
    """`open_at_once` where this kernel and this sandbox have it, else `open_by_parts`."""
    with _closing(os.open("/", os.O_PATH)) as root:
        try:
            os.close(open_at_once(root, "."))
        except OSError:
            return open_by_parts
    return open_at_once


def look_beneath(folder: int, relative: str, opener: Opener | None = None) -> os.stat_result | None:
    """What `relative` below the descriptor of a trusted folder is, no link in it followed; None for nothing.

    OSError when something stands in the way, such as a link (ELOOP) or a file in a folder's place (ENOTDIR).
    """
    try:
        with _closing((opener or usual_opener())(folder, relative)) as found:
            return os.fstat(found)
    except FileNotFoundError:
        return None


def read_file(root: Path, relative: str, *, max_bytes: int = _USUAL, opener: Opener | None = None) -> FileContent:
    """The safe read of `relative` beneath the trusted folder `root`; nothing in it can make it wait.

    Raises `ProtocolError` (the codes of `_MEND`), and FileNotFoundError for a missing file or folder.
    """
    chunks: list[bytes] = []
    found = _Source(root, relative, max_bytes, opener).read(chunks.clear, chunks.append)
    return FileContent(b"".join(chunks), found)


def copy_file(root: Path, relative: str, target: Path, *, max_bytes: int, opener: Opener | None = None) -> Copied:
    """The safe read into the new file `target` (0600, durable); on any failure `target` is removed.

    Raises as `read_file` does, and OSError for `target`, FileExistsError when something is there.
    """
    with (
        _closing(os.open(target.parent, os.O_DIRECTORY)) as folder,
        _closing(os.open(target.name, _NEW_FILE | os.O_APPEND, 0o600, dir_fd=folder)) as descriptor,
    ):
        try:
            restart, take = partial(os.ftruncate, descriptor, 0), partial(_write, descriptor)
            found = _Source(root, relative, max_bytes, opener).read(restart, take)
            os.fsync(descriptor)
            os.fsync(folder)
            with open(descriptor, "rb", closefd=False) as copy:
                copy.seek(0)
                return Copied(found.size, hashlib.file_digest(copy, "sha256").hexdigest())
        except BaseException:
            os.unlink(target.name, dir_fd=folder)
            raise


_MEND: Final = {
    "E_SYMLINK": ("no link in the path", "put the file itself there"),
    "E_NOT_REGULAR": ("a regular file", "put a regular file there"),
    "E_HARD_LINK": ("a file with one name", "write a new file and rename it into place"),
    "E_TOO_BIG": ("a smaller file", "shorten it"),
    "E_UNREADABLE": ("a readable file inside the folder", "mend its path, its permissions or its disk"),
    "E_CHANGING": ("a file that stays as it is", "write under another name, then rename it into place"),
}
_TOLD: Final = {
    errno.ELOOP: ("E_SYMLINK", "a link stands in the path"),
    errno.ENOTDIR: ("E_NOT_REGULAR", "something in the path is not a folder"),
    errno.EXDEV: ("E_UNREADABLE", "the path leads to another file system"),
    errno.EAGAIN: ("E_CHANGING", "the writer holds the file"),
}


class _Source:
    """One file that the other side wrote."""

    def __init__(self, root: Path, relative: str, max_bytes: int, opener: Opener | None) -> None:
        self.root, self.relative, self.max_bytes = root, relative, max_bytes
        self.opener = opener or usual_opener()
        if "\0" in relative or any(part in ("", ".", "..") for part in relative.split("/")):
            raise self.refusal("E_UNREADABLE", "the path leads out of its folder")

    def read(self, restart: Callable[[], object], take: Callable[[bytes], object]) -> Signature:
        """Give the bytes to `take`; when they changed meanwhile, all of them again after `restart`."""
        for _ in range(_LOOKS):
            restart()
            with self.told(), _closing(os.open(self.root, os.O_PATH | os.O_DIRECTORY)) as root:
                folder = self.opener(root, self.relative.rpartition("/")[0] or ".")
            with _closing(folder):
                if found := self.read_once(folder, take):
                    return found
        raise self.refusal("E_CHANGING", "the file changes while it is read")

    def read_once(self, folder: int, take: Callable[[bytes], object]) -> Signature | None:
        """The signature of what was given to `take`; None when it changed meanwhile."""
        name = self.relative.rpartition("/")[2]
        with self.told():
            look = self.opener(folder, name)
        with _closing(look):
            before = os.fstat(look)
            self.check(before)
            with self.told():
                descriptor = os.open(f"/proc/self/fd/{look}", _READ)
        with _closing(descriptor):
            size = 0
            while size <= before.st_size:  # one byte more than there should be, to see that it grew
                with self.told():
                    chunk = os.read(descriptor, min(_CHUNK_BYTES, before.st_size - size + 1))
                if not chunk:
                    break
                take(chunk)
                size += len(chunk)
        # A foreign file, linked here and replaced once it is open, has one name again: its own. So the path
        # must still lead to it, and the time of change say that no name came or went. Listing the folder
        # waits for a rename under way, which takes the name from the file before the path follows.
        with self.told(), os.scandir(f"/proc/self/fd/{folder}") as entries:
            next(entries, None)
            after = os.stat(name, dir_fd=folder, follow_symlinks=False)
        same = signature_of(after) == signature_of(before) and size == before.st_size
        return signature_of(before) if same and before.st_nlink == after.st_nlink == 1 else None

    def check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise self.refusal("E_NOT_REGULAR", "this is not a regular file")
        if status.st_nlink > 1:
            raise self.refusal("E_HARD_LINK", f"the file has {status.st_nlink} names")
        if status.st_size > self.max_bytes:
            raise self.refusal("E_TOO_BIG", f"the file has {status.st_size} bytes, more than {self.max_bytes}")

    @contextmanager
    def told(self) -> Iterator[None]:
        """Failures to read become a `ProtocolError`; only "not there" stays what it is."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, UnicodeEncodeError) as error:  # a lone surrogate cannot be part of a file's name
            why = getattr(error, "strerror", "its name is not UTF-8")
            usual = ("E_UNREADABLE", f"the file cannot be read: {why}")
            raise self.refusal(*_TOLD.get(getattr(error, "errno", 0), usual)) from None

    def refusal(self, code: str, message: str) -> ProtocolError:
        file, (expected, mend) = f"{self.root}/{self.relative}", _MEND[code]
        return ProtocolError(Problem(code=code, message=message, file=file, expected=expected, mend=mend))


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` as a whole, durably; on failure the old file stays and OSError is raised.

    When only the sync of the folder fails, the new file is in place but may not outlive a crash. No sync is
    tried twice: after a failed one the kernel may call the next one good without having written anything.
    """
    with _closing(os.open(path.parent, os.O_DIRECTORY)) as folder:
        name = f".{secrets.token_hex(8)}.new"
        try:
            with _closing(os.open(name, _NEW_FILE, 0o600, dir_fd=folder)) as descriptor:
                os.fchmod(descriptor, mode)
                _write(descriptor, data)
                os.fsync(descriptor)
            os.rename(name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
            if isinstance(error, OSError):
                error.filename, error.filename2 = str(path), None  # the temporary name tells nobody anything
            raise
        os.fsync(folder)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def make_folder(path: Path, mode: int = 0o755) -> None:
    """Make a folder and the missing ones above it, each with `mode`, durably; what exists is left alone."""
    if path.is_dir():
        return
    make_folder(path.parent, mode)
    try:
        path.mkdir(mode)
        path.chmod(mode)  # whatever the umask is
    except FileExistsError:
        if not path.is_dir():
            raise
    with _closing(os.open(path.parent, os.O_DIRECTORY)) as parent:
        os.fsync(parent)


def ring(bell: Path) -> None:
    """Wake who watches the bell's folder: touch the bell, never following, never replacing it."""
    try:
        os.utime(bell, follow_symlinks=False)
    except FileNotFoundError:
        with suppress(FileExistsError):  # made meanwhile: that rang it
            os.close(os.open(bell, _NEW_FILE, 0o644))
