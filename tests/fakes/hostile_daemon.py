"""A workstation's daemon that misbehaves on purpose: the title of the task that it is given says how.

It takes the real daemon's place by configuration alone: with `environment: {PYTHONPATH: tests/fakes/hostile}` for
a type of workstation, the `python -m agent_daemon --workstation NAME --root ROOT --type TYPE` that the supervisor
starts (or finds running) is this program. It imports nothing of the product.

`HOSTILE_FOLDER` names a folder of the test: `secret.yaml`-like wares lie there, and figures are left there.
A title without a scenario of its own is that of a well-behaved task (`behave`).
"""

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HEARTBEAT_SECONDS = 1.0
LOOK_SECONDS = 0.05
RACE_SECONDS = 3.0
STORM_EVENTS = 1_000_000
FOLDER = Path(os.environ.get("HOSTILE_FOLDER", "/nonexistent"))
SECRET = "state/secret"  # a folder of the supervisor's that a test lays ready; what is in it must never be read


@dataclass
class Attempt:
    """One attempt that was asked of this workstation."""

    root: Path
    workstation: str
    tasking: dict[str, Any]
    daemon: "Daemon"
    revision: int = 0

    @property
    def task(self) -> dict[str, Any]:
        task: dict[str, Any] = self.tasking["tasks"][0]
        return task

    @property
    def id(self) -> str:
        return str(self.task["id"])

    @property
    def title(self) -> str:
        return str(self.task["title"])

    @property
    def number(self) -> int:
        return int(self.task["attempt"])

    @property
    def folder(self) -> Path:
        return self.root / "mail" / self.workstation / "out" / self.id / str(self.number)

    @property
    def inbox(self) -> Path:
        return self.root / "mail" / self.workstation / "in" / self.id / str(self.number)

    @property
    def path(self) -> Path:
        return self.folder / "reporting.yaml"

    @property
    def secret(self) -> Path:
        """A good report of this very attempt, in a place of the supervisor's."""
        return self.root / SECRET / self.id / str(self.number) / "reporting.yaml"

    def report(self, status: str = "in_progress", *, task: str | None = None, **fields: Any) -> bytes:
        """A good report."""
        self.revision += 1
        entry = {"attempt": self.number, "status": status, "current_step": "at work"} | fields
        return framed(self.revision, {task or self.id: entry})

    def put(self, data: bytes) -> None:
        """As an honest writer does."""
        replace(self.path, data)
        self.ring()

    def ring(self) -> None:
        ring(self.root, self.workstation)

    def wanted(self) -> str:
        """What is asked of this attempt now."""
        try:
            tasking = yaml.load((self.inbox / "tasking.yaml").read_bytes(), Loader=LOADER)  # noqa: S506 (safe, and written in C)
        except (OSError, yaml.YAMLError):
            return "gone"
        return str(tasking["tasks"][0]["status"])

    def wait_until_taken(self) -> None:
        """Until the first report has been taken in: an attack on what nobody has looked at yet proves less."""
        wanted = f'"task": "{self.id}", "attempt": {self.number}'

        def taken() -> bool:
            lines = (self.root / "state/events.jsonl").read_text().splitlines()
            return any(wanted in line for line in lines if '"task.started"' in line)

        until = time.monotonic() + 30
        while not taken() and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)

    def end(self, message: str = "the attack is over") -> None:
        """A good last report: the task waits for a person, and the workstation is free."""
        self.put(self.report("blocked", question=message))

    def leave(self, **figures: float) -> None:
        """Figures for the test."""
        replace(FOLDER / f"{self.id}.json", json.dumps(figures).encode())


LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def framed(revision: int, tasks: dict[str, Any]) -> bytes:
    body = yaml.safe_dump({"version": 1, "revision": revision, "tasks": tasks}, sort_keys=False)
    return f"{body}end: {revision}\n".encode()


def replace(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{threading.get_ident()}")
    fresh.write_bytes(data)
    fresh.replace(path)


def ring(root: Path, workstation: str) -> None:
    bell = root / "mail" / workstation / "out" / "bell"
    bell.touch()


SCENARIOS: dict[str, Callable[[Attempt], None]] = {}


def scenario(name: str) -> Callable[[Callable[[Attempt], None]], Callable[[Attempt], None]]:
    """The task with this title is treated so; the folder of the attempt is there, a good report too."""

    def add(attack: Callable[[Attempt], None]) -> Callable[[Attempt], None]:
        SCENARIOS[name] = attack
        return attack

    return add


def behave(attempt: Attempt) -> None:
    """The well-behaved one: says that it works, then that it waits; tells the test when each was in place."""
    marks = FOLDER / "reactions.jsonl"
    for status in ("in_progress", "blocked"):
        time.sleep(0.4)
        replace(attempt.path, attempt.report(status, **({"question": "well?"} if status == "blocked" else {})))
        at = time.time()
        attempt.ring()
        with marks.open("a") as lines:
            lines.write(json.dumps({"task": attempt.id, "status": status, "at": at}) + "\n")


# -- something else in the report's place ------------------------------------------------------------------


@scenario("link to a file of the supervisor")
def _(attempt: Attempt) -> None:
    attempt.path.unlink()
    attempt.path.symlink_to(attempt.secret)
    attempt.ring()


@scenario("attempt's folder is a link")
def _(attempt: Attempt) -> None:
    attempt.folder.rename(attempt.folder.with_name("away"))
    attempt.folder.symlink_to(attempt.secret.parent)
    attempt.ring()


@scenario("task's folder is a link")
def _(attempt: Attempt) -> None:
    attempt.folder.parent.rename(attempt.folder.parent.with_name(".away." + attempt.id))
    attempt.folder.parent.symlink_to(attempt.secret.parents[1])
    attempt.ring()


@scenario("link that leads nowhere")
def _(attempt: Attempt) -> None:
    attempt.folder.rename(attempt.folder.with_name("away"))
    attempt.folder.symlink_to("/nonexistent")
    attempt.ring()


@scenario("file in a folder's place")
def _(attempt: Attempt) -> None:
    attempt.path.unlink()
    attempt.folder.rmdir()
    attempt.folder.write_bytes(attempt.report())
    attempt.ring()


@scenario("FIFO")
def _(attempt: Attempt) -> None:
    attempt.path.unlink()
    os.mkfifo(attempt.path)
    attempt.ring()


@scenario("device")
def _(attempt: Attempt) -> None:
    attempt.path.unlink()
    os.mknod(attempt.path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    attempt.ring()


@scenario("socket")
def _(attempt: Attempt) -> None:
    attempt.path.unlink()
    os.chdir(attempt.folder)  # a socket's address is short
    socket.socket(socket.AF_UNIX).bind("reporting.yaml")
    attempt.ring()


@scenario("folder")
def _(attempt: Attempt) -> None:
    attempt.path.unlink()
    attempt.path.mkdir()
    (attempt.path / "reporting.yaml").write_bytes(attempt.report())
    attempt.ring()


@scenario("hard link to a file of the supervisor")
def _(attempt: Attempt) -> None:
    attempt.path.unlink()
    attempt.path.hardlink_to(attempt.secret)
    attempt.ring()


@scenario("sparse file of 10 GB")
def _(attempt: Attempt) -> None:
    with attempt.path.open("r+b") as file:
        file.truncate(10 * 1024**3)
    attempt.ring()


# -- races -------------------------------------------------------------------------------------------------


def race(attempt: Attempt, flip: Callable[[], None]) -> None:
    """Flip for some seconds as fast as it goes, ringing all the time; then end honestly."""
    flips, until = 0, time.monotonic() + RACE_SECONDS
    while time.monotonic() < until:
        flip()
        flips += 1
        if flips % 20 == 0:
            attempt.ring()
    attempt.leave(flips=flips)
    attempt.end()


@scenario("link and file in turns")
def _(attempt: Attempt) -> None:
    good, fresh = attempt.report(), attempt.folder / ".fresh"

    def flip() -> None:
        fresh.symlink_to(attempt.secret)
        fresh.rename(attempt.path)
        fresh.write_bytes(good)
        fresh.rename(attempt.path)

    race(attempt, flip)


@scenario("folder and link in turns")
def _(attempt: Attempt) -> None:
    link, away = attempt.folder.with_name(".link"), attempt.folder.with_name(".away")
    link.symlink_to(attempt.secret.parent)

    def flip() -> None:
        attempt.folder.rename(away)
        link.rename(attempt.folder)
        attempt.folder.rename(link)
        away.rename(attempt.folder)

    race(attempt, flip)


@scenario("hard link and file in turns")
def _(attempt: Attempt) -> None:
    good, fresh = attempt.report(), attempt.folder / ".fresh"

    def flip() -> None:
        fresh.hardlink_to(attempt.secret)
        fresh.rename(attempt.path)
        fresh.write_bytes(good)
        fresh.rename(attempt.path)

    race(attempt, flip)


@scenario("written in place, cut short each time")
def _(attempt: Attempt) -> None:
    good = attempt.report(summary="x" * 8000)

    def flip() -> None:
        with attempt.path.open("wb", buffering=0) as file:
            for start in range(0, len(good), 1000):
                file.write(good[start : start + 1000])

    race(attempt, flip)


@scenario("a million events")
def _(attempt: Attempt) -> None:
    """Two files in turns, so that the kernel cannot fold the events into one."""
    out = attempt.root / "mail" / attempt.workstation / "out"
    names = [os.fsencode(out / name) for name in ("bell", "noise")]
    for name in names:
        Path(os.fsdecode(name)).touch()
    started, utimes = time.monotonic(), ctypes.CDLL(None).utimes
    for _ in range(STORM_EVENTS // 2):
        for name in names:
            utimes(name, None)
    attempt.leave(events=STORM_EVENTS, storm_seconds=time.monotonic() - started)
    attempt.end()


@scenario("the dearest reports, one after the other")
def _(attempt: Attempt) -> None:
    """As much as a report may hold, another one each time."""
    until, count = time.monotonic() + RACE_SECONDS, 0
    details = ", ".join(f"k{number}: v" for number in range(9_000))
    entry = f"{{timestamp: 2026-01-07T10:30:00Z, status: x, message: y, details: {{{details}}}}}"
    while time.monotonic() < until:
        attempt.put(_text(f"percent: {count % 100}\nprogress: [{entry}]")(attempt))
        count += 1
    attempt.leave(reports=count)
    attempt.end()


# -- what stands in the report -----------------------------------------------------------------------------


def _text(body: str) -> Callable[[Attempt], bytes]:
    """A whole report whose entry has these lines."""

    def make(attempt: Attempt) -> bytes:
        attempt.revision += 1
        entry = f"  {attempt.id}:\n    attempt: {attempt.number}\n    status: in_progress\n"
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        return (
            f"version: 1\nrevision: {attempt.revision}\ntasks:\n{entry}{lines}end: {attempt.revision}\n".encode()
        )

    return make


def _bytes(extra: bytes) -> Callable[[Attempt], bytes]:
    return lambda attempt: _text("summary: MARK")(attempt).replace(b"MARK", extra)


ALIASES = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
)
MERGES = "\n".join(
    ["m0: &m0 {k: v}"] + [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, 9)]
)

CONTENTS: dict[str, Callable[[Attempt], bytes]] = {
    "scalar of 10 MB": lambda attempt: _text("summary: " + "x" * 10_000_000)(attempt),
    "scalar of 20 KB": _text("summary: " + "x" * 20_000),
    "a million keys": lambda attempt: _text("\n".join(f"k{n}: {n}" for n in range(1_000_000)))(attempt),
    "15,000 keys": _text("\n".join(f"k{n}: v" for n in range(15_000))),
    "alias bomb": _text(ALIASES),
    "merge bomb": _text(MERGES),
    "25,000 lists in each other": _text("summary: " + "[" * 25_000 + "]" * 25_000),
    "10,000 mappings in each other": _text("summary: " + "{a: " * 10_000 + "}" * 10_000),
    "25,000 lists that are never closed": _text("summary: " + "[" * 25_000),
    "key twice": _text("percent: 1\npercent: 2"),
    "tag": _text("summary: !!python/object/apply:os.system [id]"),
    "two documents": lambda attempt: attempt.report() + b"---\n" + attempt.report(),
    "bad UTF-8": _bytes(b"caf\xe9"),
    "NUL": _bytes(b"a\0b"),
    "escape sequence": _bytes(b"\x1b[2J"),
    "`no` for a number": _text("percent: no"),
    "`1:30` for a number": _text("percent: 1:30"),
    "`.nan` for an amount": _text("usage: {cost_usd: .nan}"),
    "`017` for an attempt": lambda attempt: attempt.report().replace(b"attempt: 1\n", b"attempt: 017\n"),
    "impossible date": _text("started_at: 2026-02-31T25:61:00Z"),
    "empty file": lambda attempt: b"",
    "cut short": lambda attempt: attempt.report(summary="y" * 300)[:-40],
    "a list": lambda attempt: b"revision: 1\n- a\nend: 1\n",
    "another task's id": lambda attempt: attempt.report(task="demo.somebody-else"),
    "two tasks": lambda attempt: framed(
        9,
        {attempt.id: {"attempt": 1, "status": "in_progress"}, "demo.other": {"attempt": 1, "status": "completed"}},
    ),
    "attempt of the future": lambda attempt: attempt.report(attempt=99, status="completed"),
    "newer version": lambda attempt: attempt.report().replace(b"version: 1", b"version: 2", 1),
}


def _contents(name: str) -> Callable[[Attempt], None]:
    return lambda attempt: attempt.put(CONTENTS[name](attempt))


SCENARIOS |= {name: _contents(name) for name in CONTENTS}


@scenario("revision that goes back")
def _(attempt: Attempt) -> None:
    attempt.revision = 1_000
    attempt.put(attempt.report(summary="the newer one"))
    time.sleep(0.5)
    attempt.revision = 3
    attempt.put(attempt.report(summary="the older one"))
    time.sleep(0.5)
    attempt.end()


@scenario("report in the folder of a future attempt")
def _(attempt: Attempt) -> None:
    future = attempt.folder.with_name("99")
    future.mkdir()
    (future / "reporting.yaml").write_bytes(attempt.report("completed", attempt=99))
    elsewhere = attempt.folder.parent.with_name("demo.somebody-else") / "1"
    elsewhere.mkdir(parents=True)
    (elsewhere / "reporting.yaml").write_bytes(attempt.report("completed", task="demo.somebody-else"))
    attempt.ring()
    time.sleep(0.5)
    attempt.end()


@scenario("planted links beside what is written")
def _(attempt: Attempt) -> None:
    """Names that a careless writer would use. (With an isolating driver `in/` cannot even be written.)"""
    victim = attempt.root / SECRET / "victim"
    for folder, names in (
        (attempt.inbox, ("tasking.yaml", "feedback.yaml", "config.yaml")),
        (attempt.folder, ("reporting.yaml", "result.bundle")),
    ):
        for name in names:
            for planted in (f"{name}.tmp", f".{name}.tmp", f".{name}.new", f"{name}.new", f"{name}~"):
                with contextlib.suppress(FileExistsError):
                    (folder / planted).symlink_to(victim)
    os.mkfifo(attempt.inbox / "feedback.yaml.tmp2")
    bell = attempt.root / "mail" / attempt.workstation / "in" / "bell"
    bell.unlink()
    bell.symlink_to(victim)
    attempt.put(CONTENTS["tag"](attempt))  # makes the supervisor write feedback.yaml, and ring
    until = time.monotonic() + 20
    while not (attempt.inbox / "feedback.yaml").exists() and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    bell.unlink()
    bell.touch()
    attempt.end()


# -- the sign of life, and who writes it --------------------------------------------------------------------


def sign_as(make: Callable[[Attempt, int], bytes]) -> Callable[[Attempt], None]:
    """For some beats the sign of life is what `make` says of the beat's number."""

    def attack(attempt: Attempt) -> None:
        honest = attempt.daemon.sign
        attempt.daemon.sign = lambda beat: make(attempt, beat)
        time.sleep(3 * HEARTBEAT_SECONDS)
        attempt.daemon.sign = honest
        attempt.end()

    return attack


def _many_tasks(attempt: Attempt, beat: int) -> bytes:
    lines = "".join(f"  demo.x{number}: {{attempt: 1, status: completed}}\n" for number in range(3_000))
    return attempt.daemon.good_sign(beat).replace(b"heartbeat", b"tasks:\n" + lines.encode() + b"heartbeat")


def _leaping(attempt: Attempt, beat: int) -> bytes:
    heart = (10**17, 0, 5, 10**17)[beat % 4]
    return attempt.daemon.good_sign(beat).replace(b"heartbeat: %d" % beat, b"heartbeat: %d" % heart)


SIGNS: dict[str, Callable[[Attempt], None]] = {
    "sign of life in another's name": sign_as(
        lambda attempt, beat: attempt.daemon.good_sign(beat).replace(attempt.workstation.encode(), b"polite-1")
    ),
    "thousands of tasks in the sign of life": sign_as(_many_tasks),
    "sign of life without an end": sign_as(lambda attempt, beat: attempt.daemon.good_sign(beat)[:-8]),
    "heartbeat that leaps and goes back": sign_as(_leaping),
}


@scenario("a fork that lives on after its attempt")
def _(attempt: Attempt) -> None:
    """The first attempt fails; what it left behind goes on to write in its name while the second one works."""
    if attempt.number > 1:
        time.sleep(RACE_SECONDS)
        attempt.end()
        return
    attempt.put(attempt.report("failed", error={"code": "E_X", "message": "a first try"}))
    if os.fork() == 0:
        os.setsid()
        until = time.monotonic() + 30
        while not attempt.inbox.with_name("2").exists() and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        until = time.monotonic() + 2 * RACE_SECONDS
        result = {"kind": "commits", "bundle": "result.bundle", "sha256": "0" * 64, "head": "0" * 40}
        while time.monotonic() < until:
            for fields in ({"status": "completed", "result": result}, {"status": "blocked", "question": "LEAKED"}):
                with contextlib.suppress(OSError):
                    attempt.put(attempt.report(**fields))
                time.sleep(0.1)
        os._exit(0)


# -- what is handed in -------------------------------------------------------------------------------------


def hand_in(attempt: Attempt, **changes: Any) -> None:
    """The bundle that the test laid ready for this task, with what the test wants to be reported of it."""
    wares = FOLDER / "wares" / attempt.id
    claim = json.loads((wares / "claim.json").read_text()) | changes
    (attempt.folder / "result.bundle").write_bytes((wares / "result.bundle").read_bytes())
    attempt.put(attempt.report("completed", result={"kind": "commits", "bundle": "result.bundle"} | claim))


def instead_of_the_bundle(plant: Callable[[Attempt, Path], None]) -> Callable[[Attempt], None]:
    """Something else stands where the bundle should be."""

    def attack(attempt: Attempt) -> None:
        (attempt.folder / "result.bundle").unlink(missing_ok=True)
        plant(attempt, attempt.folder / "result.bundle")
        wares = FOLDER / "wares" / attempt.id
        claim = json.loads((wares / "claim.json").read_text())
        attempt.put(attempt.report("completed", result={"kind": "commits", "bundle": "result.bundle"} | claim))

    return attack


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 * 1024**3)


BUNDLES: dict[str, Callable[[Attempt], None]] = {
    "bundle with another sha256": lambda attempt: hand_in(attempt, sha256="0" * 64),
    "bundle that is not there": instead_of_the_bundle(lambda attempt, path: None),
    "bundle that is a link": instead_of_the_bundle(lambda attempt, path: path.symlink_to(attempt.secret)),
    "bundle that is a hard link": instead_of_the_bundle(lambda attempt, path: path.hardlink_to(attempt.secret)),
    "bundle that is a FIFO": instead_of_the_bundle(lambda attempt, path: os.mkfifo(path)),
    "bundle of 10 GB, sparse": instead_of_the_bundle(lambda attempt, path: _sparse(path)),
    "bundle in the supervisor's folder": lambda attempt: hand_in(
        attempt, bundle="a/../../../../../../state/root-id"
    ),
    "bundle swapped while it is copied": lambda attempt: swap(attempt),
    "a document for commits": lambda attempt: hand_in(attempt, kind="document", document="result.bundle"),
}


def swap(attempt: Attempt) -> None:
    """Another bundle in its place, and it again, as fast as it goes, while it is copied."""
    wares, path, fresh = FOLDER / "wares" / attempt.id, attempt.folder / "result.bundle", attempt.folder / ".fresh"
    good, other = (wares / "result.bundle").read_bytes(), (wares / "other.bundle").read_bytes()
    hand_in(attempt)
    flips, until = 0, time.monotonic() + RACE_SECONDS
    while time.monotonic() < until:
        for _ in range(500):
            for data in (other, good):
                fresh.write_bytes(data)
                fresh.rename(path)
                flips += 1
            with path.open("r+b") as file:  # and in place
                file.write(other[: len(good)])
    attempt.leave(flips=flips)


# -- its clone and its worktree ----------------------------------------------------------------------------


def run_git(folder: Path, *arguments: str) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null"}
    command = ["git", "-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null", *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


@dataclass
class Place:
    """The workstation's clone and the task's worktree, made as the real daemon makes them."""

    attempt: Attempt

    @property
    def clone(self) -> Path:
        return self.attempt.root / "workspaces" / self.attempt.workstation / "demo"

    @property
    def worktree(self) -> Path:
        return Path(self.attempt.tasking["workspace"])

    @property
    def trap(self) -> Path:
        """A program that tells on whoever runs it."""
        path = FOLDER / f"{self.attempt.id}.trap"
        path.write_text(f'#!/bin/sh\necho "$0 $*: $(cat /proc/$PPID/cmdline)" >> {FOLDER}/caught\n')
        path.chmod(0o755)
        return path

    def make(self) -> None:
        if not self.clone.exists():
            self.clone.parent.mkdir(parents=True, exist_ok=True)
            run_git(
                self.clone.parent,
                "clone",
                "--quiet",
                "--shared",
                str(self.attempt.task["workspace_source"]),
                "demo",
            )
        run_git(
            self.clone,
            "worktree",
            "add",
            "--quiet",
            "--detach",
            str(self.worktree),
            self.attempt.task["base_commit"],
        )

    def configure(self, **settings: str) -> None:
        """Settings such as ``core_fsmonitor``, for the clone and for whatever includes it."""
        for name, value in settings.items():
            run_git(self.clone, "config", name.replace("_", ".", 1).replace("__", "."), value)


def plant(trap: Callable[[Place], None]) -> Callable[[Attempt], None]:
    """Make the places, set the trap, and hand honest work in: who looks after it would step into it."""

    def attack(attempt: Attempt) -> None:
        place = Place(attempt)
        place.make()
        trap(place)
        hand_in(attempt)

    return attack


def _hooks(place: Place) -> None:
    names = ("pre-commit", "post-checkout", "post-index-change", "reference-transaction", "pre-push", "update",
             "pre-receive", "post-receive", "post-update", "pre-auto-gc", "fsmonitor-watchman")  # fmt: skip
    for name in names:
        for folder in (place.clone / ".git/hooks", place.worktree / ".githooks"):
            folder.mkdir(exist_ok=True)
            shutil.copy(place.trap, folder / name)
    place.configure(core_hooksPath=str(place.worktree / ".githooks"))


def _settings(place: Place) -> None:
    trap = str(place.trap)
    place.configure(core_sshCommand=trap, core_editor=trap, core_pager=trap, core_askPass=trap, diff_external=trap,
                    gpg_program=trap, credential_helper=trap, uploadpack_packObjectsHook=trap)  # fmt: skip
    evil = place.clone.parent / "evil.config"
    evil.write_text(f'[core]\n\tfsmonitor = {trap}\n[url "ext::{trap}"]\n\tinsteadOf = /\n')
    place.configure(include_path=str(evil))


def _filters(place: Place) -> None:
    trap = str(place.trap)
    for name in ("filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "diff.evil.textconv",
                 "diff.evil.command", "merge.evil.driver"):  # fmt: skip
        run_git(place.clone, "config", name, trap)
    for folder in (place.worktree, place.clone):
        (folder / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")


def _git_file(place: Place) -> None:
    """The worktree's pointer leads to a repository of the attacker's making, and so does the clone."""
    evil = place.clone.parent / f"evil-{place.attempt.id}.git"
    run_git(place.clone.parent, "init", "--quiet", "--bare", evil.name)
    run_git(evil, "config", "core.fsmonitor", str(place.trap))
    (place.worktree / ".git").write_text(f"gitdir: {evil}\n")
    (evil / "commondir").write_text(f"{place.attempt.root}/mirrors/default/demo.git\n")
    (evil / "gitdir").write_text(str(place.worktree / ".git"))


def _alternates(place: Place) -> None:
    """Other stores are borrowed from: the supervisor's own, and another workstation's."""
    stores = [place.attempt.root / "state/quarantine", place.clone.parents[1] / "polite-1/demo/.git/objects"]
    (place.clone / ".git/objects/info/alternates").write_text("".join(f"{store}\n" for store in stores))


def _nested(place: Place) -> None:
    """A repository within the repository, and a submodule's settings."""
    inner = place.worktree / "src" / "inner"
    inner.mkdir(parents=True)
    run_git(inner, "init", "--quiet")
    run_git(inner, "config", "core.fsmonitor", str(place.trap))
    (place.worktree / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = x\n\turl = ext::{place.trap}\n')


def _link(place: Place) -> None:
    """The worktree is a link into the supervisor's state, and the clone one to the mirror."""
    place.worktree.rename(place.worktree.with_name(f"away-{place.attempt.id}"))
    place.worktree.symlink_to(place.attempt.root / "state")
    place.clone.rename(place.clone.with_name(f"away-clone-{place.attempt.id}"))
    place.clone.symlink_to(place.attempt.root / "mirrors/default/demo.git")


REPOSITORIES: dict[str, Callable[[Attempt], None]] = {
    "hooks in the clone and the worktree": plant(_hooks),
    "core.fsmonitor": plant(lambda place: place.configure(core_fsmonitor=str(place.trap))),
    "programs in the settings, and included ones": plant(_settings),
    "filters, diff and merge drivers": plant(_filters),
    "rewritten .git": plant(_git_file),
    "alternates to other stores": plant(_alternates),
    "repository within the repository": plant(_nested),
    "worktree and clone replaced by links": plant(_link),
}


# -- the daemon --------------------------------------------------------------------------------------------


class Daemon:
    """Looks at `in/` and treats each new attempt in a thread of its own, as its title says."""

    def __init__(self, root: Path, workstation: str, kind: str) -> None:
        self.root, self.workstation, self.kind = root, workstation, kind
        self.known: set[tuple[str, int]] = set()
        self.sign: Callable[[int], bytes] = self.good_sign

    def good_sign(self, beat: int) -> bytes:
        return (
            f"version: 1\nrevision: {beat}\nagent_id: {self.workstation}\nagent_type: {self.kind}\n"
            f"heartbeat: {beat}\nend: {beat}\n"
        ).encode()

    def run(self) -> None:
        out = self.root / "mail" / self.workstation / "out"
        out.mkdir(parents=True, exist_ok=True)
        beat, beat_at, late = 0, 0.0, 0.0
        while True:
            if time.monotonic() - beat_at >= HEARTBEAT_SECONDS:
                beat, beat_at = beat + 1, time.monotonic()
                with contextlib.suppress(OSError):
                    replace(out / "workstation.yaml", self.sign(beat))
            for attempt in self.asked():
                self.known.add((attempt.id, attempt.number))
                threading.Thread(target=self.treat, args=(attempt,), daemon=True).start()
            before = time.monotonic()
            time.sleep(LOOK_SECONDS)
            if time.monotonic() - before - LOOK_SECONDS > late:
                late = time.monotonic() - before - LOOK_SECONDS
                replace(FOLDER / f"{self.workstation}.late", str(late).encode())

    def asked(self) -> Iterator[Attempt]:
        """Attempts that are assigned and not known yet."""
        try:
            paths = sorted((self.root / "mail" / self.workstation / "in").glob("*/*/tasking.yaml"))
        except FileNotFoundError:  # a folder has gone while it was looked into
            return
        for path in paths:
            if (path.parents[1].name, int(path.parent.name)) in self.known:
                continue
            try:
                tasking = yaml.load(path.read_bytes(), Loader=LOADER)  # noqa: S506 (safe, and written in C)
            except (OSError, yaml.YAMLError):
                continue
            if tasking["tasks"][0]["status"] == "assigned":
                yield Attempt(self.root, self.workstation, tasking, self)

    def treat(self, attempt: Attempt) -> None:
        try:
            attempt.folder.mkdir(parents=True, exist_ok=True)
            name = attempt.title.partition(" #")[0]
            if attempt.title != "well-behaved":
                attempt.put(attempt.report(summary="the last good report"))
                attempt.wait_until_taken()
            attack = SCENARIOS.get(name) or BUNDLES.get(name) or SIGNS.get(name) or REPOSITORIES.get(name)
            if attack is None:
                attack = hand_in if (FOLDER / "wares" / attempt.id).exists() else behave
            attack(attempt)
            replace(FOLDER / f"{attempt.id}.at", str(time.time()).encode())
        except Exception as error:
            print(f"{attempt.id}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            raise


def main() -> None:
    parser = argparse.ArgumentParser()
    for option in ("--workstation", "--root", "--type"):
        parser.add_argument(option, required=True)
    options = parser.parse_args()
    Daemon(Path(options.root), options.workstation, options.type).run()


if __name__ == "__main__":
    main()
