"""A running supervisor among hostile workstations, and what is seen of it from outside."""

import json
import os
import subprocess
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from supervisor.core.record import TaskRecord
from supervisor.workstations.local import daemon_argv
from tests.fakes import hostile_daemon
from tests.hostile import audit
from tests.site import Pace, Site, wait_for

MAX_PEAK_MEGABYTES = 300
MAX_REACTION_SECONDS = 2.0
LEAKED = "LEAKED-SECRET"
_FAKE = Path(hostile_daemon.__file__).with_name("hostile")
_STATES = {"task.started": "in_progress", "task.blocked": "blocked"}


class Ground:
    """A site with `hostile` workstations, and a `polite` one whose tasks show how soon the supervisor reacts.

    The daemons are started before the supervisor, which finds them: so its trace is its own and that of git.
    """

    def __init__(self, folder: Path, hostile: int = 6, polite_tasks: int = 10) -> None:
        self.site, self.marks = Site(folder), folder / "marks"
        self.marks.mkdir()
        self.tasks: dict[str, str] = {}
        self._polite_tasks, self._processes = polite_tasks, list[subprocess.Popen[bytes]]()
        environment = {"PYTHONPATH": str(_FAKE), "HOSTILE_FOLDER": str(self.marks)}
        config = self.site.config
        config["workstations"] = {
            kind: {"driver": "local", "count": count, "clis": ["scripted"], "environment": dict(environment)}
            for kind, count in (("hostile", hostile), ("polite", 1))
        }
        config["projects"]["demo"] |= {"limits": {"max_failures": 1}, "poll_interval_seconds": 30}
        config["timing"] |= {"problem_grace_seconds": 1.0, "suspect_after_seconds": 60}
        self._log = (folder / "daemons.log").open("ab")
        self.pace = Pace()

    @property
    def root(self) -> Path:
        return self.site.root.path

    def use_real_daemon(self, name: str, *script: str) -> None:
        """A scenario of a coding CLI, these lines of shell, that the real daemon of the type `backend` drives."""
        self.site.use_script(*script)
        self.site.config["workstations"]["backend"] = {"driver": "local", "count": 1, "clis": ["scripted"]}
        self.add([name], kind="backend")

    def add(self, names: Iterable[str], kind: str = "hostile", **fields: Any) -> None:
        """A task for each of these scenarios, and a good report of it in a place where it must not be read."""
        for name in names:
            task = f"demo.t{len(self.tasks):03d}"
            self.tasks[name] = task
            self.site.write_task(task.removeprefix("demo."), title=name, specialist=kind, **fields)
            secret = self.root / hostile_daemon.SECRET / task / "1" / "reporting.yaml"
            secret.parent.mkdir(parents=True)
            report = {"attempt": 1, "status": "blocked", "question": LEAKED}
            secret.write_bytes(hostile_daemon.framed(7, {task: report}))
        (self.root / hostile_daemon.SECRET / "victim").write_text("as it was")

    def open(self) -> None:
        """Start the daemons, then the supervisor, traced where that can be done."""
        for number in range(self._polite_tasks):
            self.site.write_task(f"polite{number}", title="well-behaved", specialist="polite", priority="high")
        self.site.write_config()
        for kind, settings in self.site.config["workstations"].items():
            for number in range(1, settings["count"] + 1):
                self.start_daemon(f"{kind}-{number}", kind)
        trace = () if audit.why_not() else audit.through(self.site.folder / "trace")
        self.supervisor = self.site.start(through=trace, PYTHONDONTWRITEBYTECODE="1")

    def start_daemon(self, name: str, kind: str) -> subprocess.Popen[bytes]:
        settings = self.site.config["workstations"][kind]
        process = subprocess.Popen(
            daemon_argv(self.site.root, name, kind),
            cwd=self.root,
            env={"PATH": os.environ["PATH"], **settings.get("environment", {})},
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def wait_until_over(self, timeout_seconds: float = 240) -> None:
        """Until every task of the scenarios has come to rest."""

        def moving() -> list[str]:
            return [
                name
                for name, task in self.tasks.items()
                if (found := self.site.record(task)) is None
                or found.state.value in ("pending", "assigned", "in_progress", "failed")
            ]

        try:
            wait_for(lambda: not moving() or self.supervisor.poll() is not None, timeout_seconds)
            assert self.supervisor.poll() is None
        except AssertionError:
            raise AssertionError(f"still under way: {moving()}\n{self.story()}") from None

    def reacted(self, times: int = 6) -> list[float]:
        """The reactions, once there are so many (see `reactions`)."""
        wait_for(lambda: len(self.reactions()) >= times, 60, "the well-behaved daemon's tasks")
        return self.reactions()

    def story(self) -> str:
        logs = [self.site.folder / name for name in ("supervisor.log", "daemons.log")]
        return "\n".join(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-40:]) for log in logs)

    def close(self) -> None:
        self.pace.stop()
        self.site.close()
        for process in self._processes:
            process.kill()
            process.wait()
        self._log.close()

    # --- what is seen -------------------------------------------------------------------------------------

    def record(self, name: str) -> TaskRecord:
        found = self.site.record(self.tasks[name])
        assert found is not None
        return found

    def events(self, name: str, *kinds: str) -> list[dict[str, Any]]:
        return [event for event in self.site.events(*kinds) if event.get("task") == self.tasks[name]]

    def figures(self, name: str) -> dict[str, float]:
        """What the scenario itself has counted."""
        path = self.marks / f"{self.tasks[name]}.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def told_seconds(self, name: str) -> float:
        """From when everything was in its place until the event said so."""
        done = float((self.marks / f"{self.tasks[name]}.at").read_text())
        return max(0.0, datetime.fromisoformat(self.events(name, "report.refused")[0]["ts"]).timestamp() - done)

    def peak_megabytes(self) -> float:
        """The most memory that the supervisor has had so far."""
        status = Path(f"/proc/{self.supervisor.pid}/status").read_text()
        line = next(text for text in status.splitlines() if text.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6

    def reactions(self) -> list[float]:
        """Seconds from each good report of the well-behaved daemon, in its place, to its event."""
        happened = {
            (event["task"], _STATES[event["event"]]): datetime.fromisoformat(event["ts"]).timestamp()
            for event in self.site.events(*_STATES)
        }
        path = self.marks / "reactions.jsonl"
        marks = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        keys = [((mark["task"], mark["status"]), mark["at"]) for mark in marks]
        return [happened[key] - at for key, at in keys if key in happened]

    def hiccup_seconds(self) -> float:
        """How late a program was on this machine that only wanted to sleep."""
        return max((float(path.read_text()) for path in self.marks.glob("*.late")), default=0.0)

    def everything_written(self) -> str:
        """All that the supervisor has written in its state and to its workstations, as one text."""
        state, secret = self.site.root.state, self.root / hostile_daemon.SECRET

        def read() -> list[str] | None:
            try:
                files = [p for p in state.rglob("*") if p.is_file() and not p.is_relative_to(secret)]
                files += [p for p in self.site.root.mail.glob("*/in/**/*") if p.is_file() and not p.is_symlink()]
                return [path.read_text(errors="replace") for path in files]
            except FileNotFoundError:  # it is being written: what was new a moment ago has its name now
                return None

        return "\n".join(wait_for(read, 60, "nothing vanishes while it is read"))

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.site.cli("status", "--json").stdout))

    def stop(self) -> None:
        """End the supervisor as systemd does, and wait until its trace is whole."""
        self.site.stop_supervisors()
        if not audit.why_not():
            audit.wait_for_end(self.site.folder / "trace", self.supervisor.pid)


def check_supervisor(ground: Ground) -> dict[str, float]:
    """Memory and reactions over the whole time; then its end, and what it did while it lived."""
    peak, reactions = ground.peak_megabytes(), ground.reacted()
    assert peak < MAX_PEAK_MEGABYTES
    assert max(reactions) < MAX_REACTION_SECONDS * ground.pace.slowest + ground.hiccup_seconds(), reactions
    assert ground.site.events("supervisor.bug") == []
    assert LEAKED not in ground.everything_written()
    assert (ground.root / hostile_daemon.SECRET / "victim").read_text() == "as it was"
    ground.stop()
    return {"slowest_reaction_seconds": max(reactions), "peak_mb": peak}


def check_audit(ground: Ground) -> audit.Audit:
    """The supervisor wrote where it may and nowhere else, looked into no worktree, and git ran in our places."""
    found, root = audit.read_audit(ground.site.folder / "trace"), ground.root
    mail = [ground.site.root.mail / name for name in os.listdir(ground.site.root.mail)]
    own = [root / "state", root / "mirrors", ground.site.remote, *(box / "in" for box in mail)]
    empty = {root / "run", root / "mail", root / "workspaces", *mail, *(box / "out" for box in mail)}
    empty |= {root / "workspaces" / box.name for box in mail}
    elsewhere = {
        path
        for path in found.changed
        if not any(Path(path).is_relative_to(folder) for folder in (*own, "/dev", "/proc/self"))
        and Path(path) not in empty
    }
    assert elsewhere == set(), "written outside of state/, mirrors/ and mail/*/in/"
    inside = (str(root / "workspaces") + "/", *(str(box / "out") + "/" for box in mail))
    looked = {path for path in found.opened if path.startswith(inside[0])}
    assert looked == set(), "looked into the workspaces"
    for program in found.executed:
        words = (*program.argv, *program.environment, f"{program.folder}/")
        assert not [word for word in words if any(place in word for place in inside)], program
    programs = [Path(program.argv[0]).name for program in found.executed]
    assert programs.count("git") > 10, "the audit sees what is run"
    return found
