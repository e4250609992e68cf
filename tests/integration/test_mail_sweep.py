"""What wakes the supervisor, and what a sweep takes: each content once, none passed over."""

import os
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.files import ring, write_file
from agent_daemon.protocol.model import Reporting, ReportStatus, TaskReport
from agent_daemon.protocol.paths import Root
from supervisor.mail import FRESH_SECONDS, Box, Mail, Taken
from supervisor.pool import Message
from supervisor.watch import Watcher

BOX = Box("backend-1", "demo.one", 1)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    root = Root(tmp_path)
    root.attempt_out(*BOX).mkdir(parents=True)
    return root


def write_report(root: Root, step: str, *, attempt: int = 1) -> Path:
    path = root.attempt_out(*BOX) / "reporting.yaml"
    report = TaskReport(attempt=attempt, status=ReportStatus.IN_PROGRESS, current_step=step)
    write_file(path, encode(Reporting(revision=1, tasks={BOX.task_id: report}), end=True))
    return path


def swept(mail: Mail) -> list[str | None]:
    """The current step of what a sweep takes; the code of a problem."""

    def shown(taken: Taken) -> str | None:
        return taken.problem.code if taken.problem else taken.report.current_step if taken.report else None

    return [shown(taken) for taken in mail.sweep([BOX])]


def test_a_fresh_report_is_taken_once(root: Root) -> None:
    mail, path = Mail(root), write_report(root, "first")
    os.utime(path, (time.time() + 60, time.time() + 60))  # fresh however long this takes
    assert swept(mail) == ["first"]
    assert swept(mail) == []
    os.utime(path, (time.time() - 60, time.time() - 60))  # looked at again, for it has changed: to the same
    assert swept(mail) == []
    assert swept(mail) == []


def test_a_change_that_leaves_no_trace_in_the_times_is_noticed(root: Root) -> None:
    mail, path = Mail(root), write_report(root, "first")
    before = path.stat()
    assert swept(mail) == ["first"]
    path.write_bytes(path.read_bytes().replace(b"first", b"other"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert swept(mail) == ["other"]


def test_the_same_report_is_taken_again_after_another_one(root: Root) -> None:
    mail = Mail(root)
    write_report(root, "first")
    assert swept(mail) == ["first"]
    write_report(root, "second")
    assert swept(mail) == ["second"]
    write_report(root, "first")
    assert swept(mail) == ["first"]


def test_a_good_report_after_a_refused_one_is_taken_though_it_was_taken_before(root: Root) -> None:
    mail = Mail(root)
    write_report(root, "first")
    assert swept(mail) == ["first"]
    write_report(root, "first", attempt=2)
    assert swept(mail) == ["E_WRONG_TASK"]
    write_report(root, "first")
    assert swept(mail) == ["first"]


def test_a_settled_report_is_not_read_again(root: Root) -> None:
    mail, path = Mail(root), write_report(root, "first")
    long_ago = time.time() - 10 * FRESH_SECONDS
    os.utime(path, (long_ago, long_ago))
    assert swept(mail) == ["first"]
    assert swept(mail) == []


def test_a_good_report_that_comes_while_a_bad_one_is_read_is_taken(root: Root) -> None:
    """Both are older than what counts as fresh: it was the sync that took its time, not the writing."""
    mail, path = Mail(root), root.attempt_out(*BOX) / "reporting.yaml"
    long_ago = time.time() - 60
    for number in range(90):
        write_report(root, f"{number}")
        os.utime(path, (long_ago, long_ago + number))
        path.rename(good := path.with_name(".good"))
        path.write_bytes(b"revision: 1\n" + b"".join(b"a%d: {b: c}\n" % line for line in range(1000)))
        os.utime(path, (long_ago, long_ago))
        seen: list[str | None] = []
        reading = threading.Thread(target=lambda seen=seen: seen.extend(swept(mail)))
        reading.start()
        time.sleep(number % 30 * 0.0005)
        good.rename(path)
        reading.join()
        assert f"{number}" in seen + swept(mail), f"passed over after {seen}"


@pytest.fixture
def heard(root: Root) -> "Iterator[queue.SimpleQueue[Message]]":
    """What a watcher of the workstation's folder posts."""
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    ring(root.bell_out(BOX.workstation))
    watcher = Watcher(inbox)
    watcher.start()
    watcher.watch(root.mail_out(BOX.workstation), ("bell", BOX.workstation))
    yield inbox
    watcher.stop()


def test_the_bell_wakes_and_the_heartbeat_does_not(root: Root, heard: "queue.SimpleQueue[Message]") -> None:
    write_file(root.mail_out(BOX.workstation) / "workstation.yaml", b"heartbeat: 1\n")
    ring(root.bell_out(BOX.workstation))
    assert heard.get(timeout=100) == ("bell", BOX.workstation)
    write_file(root.mail_out(BOX.workstation) / "workstation.yaml", b"heartbeat: 2\n")
    write_file(root.mail_out(BOX.workstation) / "anything.yaml", b"")
    assert heard.get(timeout=100) == ("bell", BOX.workstation)
    assert heard.empty(), "one message each for the bell and for the file that is no heartbeat"


def test_a_storm_in_one_folder_delays_nobody_and_is_few_messages(root: Root) -> None:
    noisy = root.mail_out("noisy-1")
    noisy.mkdir(parents=True)
    names = [noisy / "one", noisy / "two"]  # in turns: the kernel folds equal events into one
    for name in names:
        name.touch()
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    watcher = Watcher(inbox)
    watcher.start()
    for name in ("noisy-1", BOX.workstation):
        watcher.watch(root.mail_out(name), ("bell", name))
    for _ in range(50_000):
        for name in names:
            os.utime(name)
    ring(root.bell_out(BOX.workstation))
    posted = []
    while ("bell", BOX.workstation) not in posted:
        posted.append(inbox.get(timeout=100))
    watcher.stop()
    assert len(posted) < 2_000, "the storm is told in a few messages"


@pytest.fixture
def outside(root: Root, tmp_path: Path) -> Path:
    """A folder of the host with a report in it that would be taken if it lay where it should."""
    write_report(root, "outside")
    return (root.mail_out(BOX.workstation) / BOX.task_id).rename(tmp_path / "outside")


@pytest.mark.parametrize("place", ["task", "attempt", "report", "dangling"])
def test_not_even_a_look_follows_a_link(root: Root, outside: Path, place: str) -> None:
    folder = root.mail_out(BOX.workstation) / BOX.task_id
    link, target = {
        "task": (folder, outside),
        "attempt": (folder / "1", outside / "1"),
        "report": (folder / "1/reporting.yaml", outside / "1/reporting.yaml"),
        "dangling": (folder, root.path / "nowhere"),
    }[place]
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    os.utime(link, (0, 0), follow_symlinks=False)
    mail = Mail(root)
    assert swept(mail) == ["E_SYMLINK"]
    assert swept(mail) == [], "what is refused is not read again every second"
    assert link.lstat().st_atime == 0, "following a link would have set its time of access"
    link.unlink()
    assert swept(mail) == []
    root.attempt_out(*BOX).mkdir(parents=True, exist_ok=True)
    write_report(root, "mended")
    assert swept(mail) == ["mended"]


def test_a_file_in_place_of_a_folder_is_told_and_harms_no_other_report(root: Root) -> None:
    other = Box(BOX.workstation, "demo.two", 1)
    (root.mail_out(BOX.workstation) / other.task_id).write_text("")
    write_report(root, "first")
    taken = list(Mail(root).sweep([other, BOX, Box("nowhere", "demo.three", 1)]))
    assert [(t.box, t.problem.code if t.problem else "") for t in taken] == [(other, "E_NOT_REGULAR"), (BOX, "")]


def test_folders_that_come_and_go_stop_no_sweep(root: Root) -> None:
    folder = root.mail_out(BOX.workstation) / BOX.task_id
    write_report(root, "refused", attempt=2)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            folder.rename(folder.with_name("aside"))
            folder.write_text("")
            folder.unlink()
            folder.with_name("aside").rename(folder)

    thread = threading.Thread(target=swap)
    thread.start()
    mail, codes = Mail(root), set[str | None]()
    try:
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline and not codes >= {"E_WRONG_TASK", "E_NOT_REGULAR"}:
            codes.update(swept(mail))
    finally:
        stop.set()
        thread.join()
    assert codes >= {"E_WRONG_TASK", "E_NOT_REGULAR"}
    write_report(root, "good")
    assert swept(mail) == ["good"]
