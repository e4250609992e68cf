"""Reading what the other side wrote, and durable writing, on the real file system and with real attacks."""

import errno
import hashlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_daemon.protocol import files
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import (
    Copied,
    Opener,
    copy_file,
    make_folder,
    open_at_once,
    open_by_parts,
    read_file,
    ring,
    signature,
    usual_opener,
    write_file,
)

OPENERS = [
    pytest.param(
        open_at_once,
        id="openat2",
        marks=pytest.mark.skipif(usual_opener() is not open_at_once, reason="this kernel has no openat2"),
    ),
    pytest.param(open_by_parts, id="by parts"),
]
SECRET = b"the supervisor's secret"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(params=OPENERS)
def opener(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder that the other side writes in; a secret lies beside it."""
    (tmp_path / "secret").write_bytes(SECRET)
    folder = tmp_path / "out"
    (folder / "task" / "1").mkdir(parents=True)
    return folder


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def refusal(read: Callable[[], object]) -> str:
    before = time.monotonic()
    with pytest.raises(ProtocolError) as caught:
        read()
    assert time.monotonic() - before < 30
    problem = caught.value.problem
    assert problem.message
    assert problem.expected
    assert problem.mend
    assert SECRET.decode() not in str(problem)
    return problem.code


def both_refuse(out: Path, relative: str, opener: Opener) -> str:
    """The code of reading, which is that of copying, and copying leaves nothing behind."""
    code = refusal(lambda: read_file(out, relative, opener=opener))
    target = out.parent / "copy"
    assert refusal(lambda: copy_file(out, relative, target, max_bytes=256 * 1024, opener=opener)) == code
    assert not target.exists()
    return code


# --- reading ------------------------------------------------------------------------------------------


def test_a_file_is_read_with_its_signature(out: Path, opener: Opener) -> None:
    (out / "task/1/reporting.yaml").write_bytes(b"revision: 1\n")
    (out / "empty").touch()
    content = read_file(out, "task/1/reporting.yaml", opener=opener)
    assert content.data == b"revision: 1\n"
    assert content.signature == signature(out / "task/1/reporting.yaml")
    assert read_file(out, "empty", opener=opener).data == b""


def test_the_trusted_folder_itself_may_be_a_link(out: Path, opener: Opener) -> None:
    (out / "a").write_bytes(b"x")
    (out.parent / "link").symlink_to(out)
    assert read_file(out.parent / "link", "a", opener=opener).data == b"x"


def test_what_is_missing_stays_not_found(out: Path, opener: Opener) -> None:
    for root, relative in [(out, "a"), (out, "no/such/folder"), (out / "nowhere", "a")]:
        with pytest.raises(FileNotFoundError):
            read_file(root, relative, opener=opener)
        with pytest.raises(FileNotFoundError):
            copy_file(root, relative, out / "copy", max_bytes=10, opener=opener)
        assert not (out / "copy").exists()


def test_links_are_not_followed(out: Path, opener: Opener) -> None:
    (out / "file").symlink_to("../secret")
    (out / "absolute").symlink_to(out.parent / "secret")
    (out / "folder").symlink_to("..")
    (out / "inside").symlink_to("task")
    (out / "dangling").symlink_to("nowhere")
    (out / "loop").symlink_to("loop")
    (out / "task/1/a").write_bytes(b"x")
    for relative in ("file", "absolute", "folder/secret", "inside/1/a", "dangling", "loop", "loop/a"):
        assert both_refuse(out, relative, opener) == "E_SYMLINK"
    assert refusal(lambda: read_file(Path("/proc/self"), "exe", opener=opener)) == "E_SYMLINK"
    assert refusal(lambda: read_file(Path("/proc/self"), "cwd/x", opener=opener)) == "E_SYMLINK"


@pytest.mark.parametrize(
    "relative", ["../secret", "/etc/passwd", "task/../../secret", "", ".", "task//1", "a\0b", "task/"]
)
def test_no_path_leads_out(out: Path, opener: Opener, relative: str) -> None:
    assert both_refuse(out, relative, opener) == "E_UNREADABLE"


def test_names_that_no_file_can_have_are_refused(out: Path, opener: Opener) -> None:
    assert both_refuse(out, "\ud800", opener) == "E_UNREADABLE"
    assert both_refuse(out, "x" * 5000, opener) == "E_UNREADABLE"


def test_another_file_system_is_not_entered(opener: Opener) -> None:
    assert refusal(lambda: read_file(Path("/"), "proc/version", opener=opener)) == "E_UNREADABLE"


def test_what_is_no_regular_file_is_refused_at_once(out: Path, opener: Opener) -> None:
    os.mkfifo(out / "pipe")
    (out / "file").write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(out / "socket"))
    for relative in ("pipe", "task", "socket", "file/below", "pipe/below"):
        assert both_refuse(out, relative, opener) == "E_NOT_REGULAR"
    for device in ("null", "zero"):
        assert refusal(lambda name=device: read_file(Path("/dev"), name, opener=opener)) == "E_NOT_REGULAR"  # type: ignore[misc]


def test_a_hard_link_is_refused(out: Path, opener: Opener) -> None:
    os.link(out.parent / "secret", out / "report")
    assert both_refuse(out, "report", opener) == "E_HARD_LINK"


def test_a_big_file_is_refused_before_it_is_read(out: Path, opener: Opener) -> None:
    with (out / "sparse").open("wb") as sparse:
        sparse.truncate(10 * 1024**3)
    assert both_refuse(out, "sparse", opener) == "E_TOO_BIG"
    (out / "exact").write_bytes(b"x" * 100)
    assert len(read_file(out, "exact", max_bytes=100, opener=opener).data) == 100
    assert refusal(lambda: read_file(out, "exact", max_bytes=99, opener=opener)) == "E_TOO_BIG"


def test_what_cannot_be_read_is_refused(opener: Opener) -> None:
    # A read of this file at offset 0 is an input/output error.
    assert refusal(lambda: read_file(Path("/proc/self"), "mem", opener=opener)) == "E_UNREADABLE"
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103
        (Path(folder) / "file").write_bytes(b"x")
        os.chmod(Path(folder) / "file", 0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            assert refusal(lambda: read_file(Path(folder), "file", opener=opener)) == "E_UNREADABLE"
        finally:
            os.seteuid(user)


def swapping(opener: Opener, swap: Callable[[], object], times: int) -> Opener:
    """An opener after whose first looks at the report something happens."""
    left = iter(range(times))

    def look(folder: int, relative: str) -> int:
        descriptor = opener(folder, relative)
        if relative == "report" and next(left, None) is not None:
            swap()
        return descriptor

    return look


def test_a_file_that_is_replaced_meanwhile_is_looked_at_again(out: Path, opener: Opener) -> None:
    report = out / "report"
    target = out.parent / "copy"
    versions = iter(range(100))

    def replace() -> None:
        write_file(report, b"new %d" % next(versions))

    report.write_bytes(b"the old and longer content")
    assert read_file(out, "report", opener=swapping(opener, replace, 1)).data == b"new 0"
    report.write_bytes(b"the old and longer content")
    copied = copy_file(out, "report", target, max_bytes=100, opener=swapping(opener, replace, 3))
    assert target.read_bytes() == b"new 3"
    assert copied == Copied(5, hashlib.sha256(b"new 3").hexdigest())
    assert refusal(lambda: read_file(out, "report", opener=swapping(opener, replace, 100))) == "E_CHANGING"


def test_a_link_that_comes_after_the_look_is_not_read(out: Path, opener: Opener) -> None:
    report = out / "report"

    def plant() -> None:
        (out / "link").symlink_to("../secret")
        os.rename(out / "link", report)

    report.write_bytes(b"honest")
    assert refusal(lambda: read_file(out, "report", opener=swapping(opener, plant, 1))) == "E_SYMLINK"


def test_a_hard_link_that_is_gone_after_the_look_is_not_read(out: Path, opener: Opener) -> None:
    secret, report = out.parent / "secret", out / "report"
    writings = iter(range(100))

    def link() -> None:
        os.link(secret, out / "link")
        os.rename(out / "link", report)

    def look(folder: int, relative: str) -> int:
        """Finds the foreign file, which then has one name again: its own."""
        if relative == "report":
            link()
        descriptor = opener(folder, relative)
        if relative == "report":
            write_file(report, b"honest %d" % next(writings))
        return descriptor

    write_file(report, b"honest")
    assert refusal(lambda: read_file(out, "report", opener=look)) == "E_CHANGING"

    def look_and_link(folder: int, relative: str) -> int:
        descriptor = look(folder, relative)
        if relative == "report":
            link()
        return descriptor

    assert refusal(lambda: read_file(out, "report", opener=look_and_link)) == "E_HARD_LINK"


def test_no_race_leaks_a_secret(out: Path, opener: Opener) -> None:
    stop = threading.Event()

    def attack() -> None:
        while not stop.is_set():
            for make in (
                lambda path: path.write_bytes(b"honest"),
                lambda path: path.symlink_to("../../../secret"),
                lambda path: os.link(out.parent / "secret", path),
            ):
                make(out / "task/1/new")
                os.rename(out / "task/1/new", out / "task/1/report")
                (out / "task/1/new").unlink(missing_ok=True)  # renaming a hard link to itself does nothing
            os.rename(out / "task/1", out / "task/2")
            (out / "task/1").symlink_to("../..")
            (out / "task/1").unlink()
            os.rename(out / "task/2", out / "task/1")

    attacker = threading.Thread(target=attack)
    attacker.start()
    seen: set[object] = set()
    reads, deadline = 0, time.monotonic() + 60
    try:
        while reads < 3000 or (len(seen) < 2 and time.monotonic() < deadline):  # until both had their turns
            reads += 1
            try:
                seen.add(read_file(out, "task/1/report", opener=opener).data)
            except ProtocolError as error:
                seen.add(error.problem.code)
            except FileNotFoundError:
                seen.add("missing")
    finally:
        stop.set()
        attacker.join()
    assert SECRET not in seen
    assert seen <= {b"honest", b"", "E_SYMLINK", "E_HARD_LINK", "E_CHANGING", "missing"}
    assert len(seen) > 1


REWRITE_IN_PLACE = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
print("at work", flush=True)
while True:
    for size in range(100_000, 200_000, 977):
        os.ftruncate(descriptor, size)
"""
REPLACE = """
import sys
from pathlib import Path
from agent_daemon.protocol.files import write_file
number = 0
while True:
    number += 1
    write_file(Path(sys.argv[1]), b"%d\\n" % number * 2000)
    if number == 1:
        print("at work", flush=True)
"""


@contextmanager
def running(program: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process of its own, at work already, and killed in the end."""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], env={"PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"at work\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_writer_in_place_is_noticed(out: Path, opener: Opener) -> None:
    (out / "report").write_bytes(b"x" * 100_000)
    codes: set[str] = set()
    with running(REWRITE_IN_PLACE, out / "report"):
        deadline = time.monotonic() + 100
        while "E_CHANGING" not in codes and time.monotonic() < deadline:
            try:
                content = read_file(out, "report", opener=opener)
                assert len(content.data) == content.signature.size
            except ProtocolError as error:
                codes.add(error.problem.code)
    assert codes == {"E_CHANGING"}


def test_a_file_that_is_renamed_into_place_is_always_whole(out: Path, opener: Opener) -> None:
    versions: set[bytes] = set()
    with running(REPLACE, out / "report"):
        deadline = time.monotonic() + 100
        while len(versions) < 20 and time.monotonic() < deadline:
            try:
                lines = read_file(out, "report", opener=opener).data.splitlines()
            except ProtocolError as error:
                assert error.problem.code == "E_CHANGING"
                continue
            assert len(lines) == 2000
            assert len(set(lines)) == 1
            versions.add(lines[0])
    assert len(versions) == 20
    assert len(set((out / "report").read_bytes().splitlines())) == 1  # after the writer was killed
    assert {name[0] for name in os.listdir(out)} - {"t", "r"} <= {"."}  # a temporary file begins with a dot


HOLD = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, lambda *_: None)
descriptor = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lease_of_the_writer_does_not_make_the_reader_wait(out: Path, opener: Opener) -> None:
    (out / "report").write_bytes(b"x")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out / "report")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin
        assert holder.stdout
        held = holder.stdout.readline() == b"held\n"
        try:
            code = refusal(lambda: read_file(out, "report", opener=opener)) if held else None
        finally:
            holder.stdin.close()
    if not held:
        pytest.skip("this file system knows no leases")
    assert code == "E_CHANGING"


FILTER = """
import ctypes, struct, sys
from pathlib import Path
number = int(sys.argv[2])
program = b"".join(struct.pack("HBBI", *line) for line in (
    (0x20, 0, 0, 0), (0x15, 0, 1, 437), (0x06, 0, 0, 0x00050000 | number), (0x06, 0, 0, 0x7FFF0000),
))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
refused = libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(Program(4, program)), 0, 0)
if refused:
    sys.exit("no filter")
from agent_daemon.protocol.files import open_by_parts, read_file, usual_opener
assert usual_opener() is open_by_parts
print(read_file(Path(sys.argv[1]), "task/1/report").data.decode())
"""


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_a_sandbox_without_openat2_reads_part_by_part(out: Path, number: int) -> None:
    (out / "task/1/report").write_bytes(b"read all the same")
    ended = subprocess.run(
        [sys.executable, "-c", FILTER, str(out), str(number)],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    if "no filter" in ended.stderr:
        pytest.skip("system calls cannot be filtered here")
    assert (ended.stdout, ended.stderr) == ("read all the same\n", "")


def test_a_signature_tells_contents_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert signature(path) is None
    write_file(path, b"one")
    first = signature(path)
    assert first
    assert (first.size, first.inode, first.modified_ns) == (3, path.stat().st_ino, path.stat().st_mtime_ns)
    write_file(path, b"two")
    assert signature(path) != first
    (tmp_path / "link").symlink_to(path)
    assert signature(tmp_path / "link") == files.signature_of(os.lstat(tmp_path / "link"))


# --- copying ------------------------------------------------------------------------------------------


def test_a_file_is_copied(out: Path, opener: Opener) -> None:
    data = os.urandom(3 * 1024 * 1024 + 17)
    (out / "result.bundle").write_bytes(data)
    target = out.parent / "held.bundle"
    copied = copy_file(out, "result.bundle", target, max_bytes=len(data), opener=opener)
    assert copied == Copied(len(data), hashlib.sha256(data).hexdigest())
    assert target.read_bytes() == data
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_nothing_is_copied_over_what_is_there(out: Path) -> None:
    (out / "bundle").write_bytes(b"new")
    (out.parent / "link").symlink_to("nowhere")
    for name, before in (("secret", SECRET), ("link", None)):
        with pytest.raises(FileExistsError):
            copy_file(out, "bundle", out.parent / name, max_bytes=10)
        assert (out.parent / name).is_symlink() == (before is None)
        assert before is None or (out.parent / name).read_bytes() == before
    assert not (out.parent / "nowhere").exists()


LIMITED = """
import resource, signal, sys
from pathlib import Path
from agent_daemon.protocol.files import copy_file, write_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
folder = Path(sys.argv[1])
try:
    if sys.argv[2] == "write":
        write_file(folder / "file", b"x" * 5000)
    else:
        copy_file(folder, "big", folder / "copy", max_bytes=10_000)
except OSError as error:
    print(error.errno)
"""


@pytest.mark.parametrize("what", ["write", "copy"])
def test_a_disk_that_takes_no_more_leaves_everything_as_it_was(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "big").write_bytes(b"x" * 5000)
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), what],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert (ended.stdout, ended.stderr) == (f"{errno.EFBIG}\n", "")
    assert sorted(os.listdir(tmp_path)) == ["big", "file"]
    assert (tmp_path / "file").read_bytes() == b"old"


# --- writing ------------------------------------------------------------------------------------------


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "tasking.yaml"
    mask = os.umask(0o077)
    try:
        write_file(path, b"one")
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        before = path.stat().st_ino
        with path.open("rb") as reader:
            write_file(path, b"two" * 1000, mode=0o640)
            assert reader.read() == b"one"
    finally:
        os.umask(mask)
    assert path.read_bytes() == b"two" * 1000
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_ino != before
    assert os.listdir(tmp_path) == ["tasking.yaml"]


def test_planted_files_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "file.tmp").symlink_to("secret")
    os.mkfifo(tmp_path / ".file.tmp")
    (tmp_path / "file").symlink_to("secret")
    write_file(tmp_path / "file", b"new")
    assert (tmp_path / "secret").read_bytes() == SECRET
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == [".file.tmp", "file", "file.tmp", "secret"]


def test_a_write_that_cannot_be_done_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "no/file", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_file(tmp_path / "folder", b"x")
    assert os.listdir(tmp_path) == ["folder"]


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced, in order."""
    done: list[str] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    return done


def test_file_and_folder_are_synced(tmp_path: Path, syncs: list[str]) -> None:
    write_file(tmp_path / "file", b"x")
    assert syncs[0].startswith(f"{tmp_path}/.")
    assert syncs[1:] == [str(tmp_path)]
    del syncs[:]
    copy_file(tmp_path, "file", tmp_path / "copy", max_bytes=10)
    assert syncs == [str(tmp_path / "copy"), str(tmp_path)]
    del syncs[:]
    make_folder(tmp_path / "a" / "b")
    assert syncs == [str(tmp_path), str(tmp_path / "a")]


def test_a_failed_sync_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "file", b"old")
    tried: list[int] = []

    def fail(descriptor: int) -> None:
        tried.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_file(tmp_path / "file", b"new")
    assert len(tried) == 1
    with pytest.raises(OSError, match="Input/output"):
        copy_file(tmp_path, "file", tmp_path / "copy", max_bytes=10)
    assert len(tried) == 2
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_folders_are_made(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        make_folder(tmp_path / "a" / "b", 0o775)
        make_folder(tmp_path / "a" / "b", 0o700)
    finally:
        os.umask(mask)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a/b")] == [0o775, 0o775]
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            make_folder(tmp_path / name)


# --- the bell -----------------------------------------------------------------------------------------


def test_a_bell_is_made_once_and_then_only_touched(tmp_path: Path) -> None:
    bell = tmp_path / "bell"
    ring(bell)
    os.utime(bell, (0, 0))
    inode = bell.stat().st_ino
    ring(bell)
    assert bell.stat().st_mtime > 0
    assert bell.stat().st_ino == inode
    assert bell.read_bytes() == b""


def test_a_planted_bell_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    os.utime(tmp_path / "secret", (0, 0))
    (tmp_path / "link").symlink_to("secret")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "dangling", "pipe"):
        ring(tmp_path / name)
    assert (tmp_path / "secret").stat().st_mtime == 0
    assert not (tmp_path / "nowhere").exists()
    assert (tmp_path / "link").is_symlink()
    with pytest.raises(FileNotFoundError):
        ring(tmp_path / "no/bell")
