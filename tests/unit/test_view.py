"""What lists show, computed from what was read."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_daemon.processes import identify
from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.model import ReportStatus, TaskReport, WaitReason
from agent_daemon.protocol.paths import Root
from supervisor.app import locked
from supervisor.config import load_config
from supervisor.core.intake import Draft
from supervisor.core.life import StationState
from supervisor.core.record import Dependency, Source, TaskRecord, Wait
from supervisor.core.schedule import DependencyState
from supervisor.core.settings import Config, RetrySettings
from supervisor.core.states import State
from supervisor.core.task_file import TaskFile
from supervisor.fleet_view import StationRow, away_problems, last_refusal, station_state
from supervisor.mail import Box, Mail
from supervisor.reader import Reader, TaskFiles, is_locked
from supervisor.records import RecordStore
from supervisor.running import Running, digest_of, note_start
from supervisor.stations import StationFile
from supervisor.view import Picture, file_rows, surroundings, take_picture, task_rows, waiting_tasks
from tests.unit.conftest import NOW, make_attempt, make_task


def picture(*tasks: TaskRecord, **changes: Any) -> Picture:
    values: dict[str, Any] = {
        "now": NOW,
        "running": True,
        "supervisor": None,
        "config": None,
        "tasks": {task.id: task for task in tasks},
        "reports": {},
        "dependencies": {},
        "damaged": (),
        "unknown": {},
        "stations": (),
        "drafts": (),
        "problems": (),
    }
    return Picture(**(values | changes))


def station(**changes: Any) -> StationRow:
    values: dict[str, Any] = {
        "name": "backend-1",
        "type": "backend",
        "driver": "local",
        "state": StationState.IDLE,
        "task": None,
        "doing": "",
        "clis": {},
        "pid": 1,
        "starts": 1,
        "silent_seconds": 1.0,
        "note": "",
    }
    return StationRow(**(values | changes))


def test_what_moves_stands_first_then_by_priority() -> None:
    tasks = [
        make_task(id="acme.done", state=State.COMPLETED),
        make_task(id="acme.low", priority="low"),
        make_task(id="acme.high", priority="high"),
        make_task(id="acme.asks", state=State.BLOCKED),
        make_task(id="acme.works", state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),)),
    ]
    rows = task_rows(picture(*tasks))
    assert [row.id for row in rows] == ["acme.works", "acme.asks", "acme.high", "acme.low", "acme.done"]


def test_a_row_shows_the_step_of_the_last_good_report_and_its_workstation() -> None:
    task = make_task(state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),), workstation="backend-1")
    report = TaskReport(attempt=1, status=ReportStatus.IN_PROGRESS, current_step="Writing")
    (row,) = task_rows(picture(task, reports={task.id: report}))
    assert (row.doing, row.workstation) == ("Writing", "backend-1")
    ended = make_task(
        state=State.FAILED, attempt=1, attempts=(make_attempt(ended_at=NOW),), workstation="backend-1"
    )
    assert task_rows(picture(ended))[0].workstation is None


def test_a_problem_in_place_of_a_report_is_no_report() -> None:
    task = make_task(state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),))
    seen = surroundings(task, picture(task, reports={task.id: Problem(code="E_X", message="bad")}))
    assert seen.report is None and "E_X" in seen.report_problem


def test_only_workstations_of_its_type_matter_to_a_task() -> None:
    rows = (station(), station(name="frontend-1", type="frontend"))
    assert [s.name for s in surroundings(make_task(), picture(stations=rows)).stations] == ["backend-1"]


def test_tasks_that_wait_for_a_person_are_listed_with_the_answer() -> None:
    blocked = make_task(
        id="acme.b", state=State.BLOCKED, waits_for=(Wait(reason=WaitReason.QUESTION, message="Which?"),)
    )
    stuck = make_task(id="acme.s", depends_on=(Dependency(task="acme.gone"),))
    free = make_task(id="acme.f", depends_on=(Dependency(task="acme.b"),))
    states = {"acme.gone": DependencyState(state=State.CANCELLED), "acme.b": DependencyState(state=State.BLOCKED)}
    waiting = waiting_tasks(picture(blocked, stuck, free, dependencies=states))
    assert [(entry.task, entry.can[0].command) for entry in waiting] == [
        ("acme.b", "cloud-code task answer acme.b '…'"),
        ("acme.s", "cloud-code task retry acme.gone"),
    ]


def test_a_task_whose_project_is_not_configured_rests(config: Config) -> None:
    task = make_task(id="gone.x", project="gone", state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),))
    seen = picture(task, make_task(), config=config)
    rows = {row.id: row for row in task_rows(seen)}
    assert rows["gone.x"].resting and not rows["acme.login"].resting
    assert rows["gone.x"].doing == "resting: the project gone is not configured"
    (waiting,) = waiting_tasks(seen)
    assert waiting.task == "gone.x" and "Configure the project gone again" in waiting.can[0].text
    # What the supervisor that runs was started with is what counts.
    running = Running(
        program_version="1",
        pid=1,
        start_ticks=1,
        boot_id="b",
        started_at=NOW,
        config_sha256="",
        projects=("gone", "acme"),
    )
    assert not any(row.resting for row in task_rows(picture(task, config=config, supervisor=running)))


def draft(stem: str, text_hash: str, **text: Any) -> Draft:
    source = Source(tracker="local", kind="file", ref=f"{stem}.yaml", key=f"file:{stem}", text_hash=text_hash)
    return Draft(
        id=f"acme.{stem}", project="acme", source=source, text=TaskFile.model_validate({"title": "T"} | text)
    )


def test_only_files_that_still_change_something_are_listed() -> None:
    live = {"acme.login": make_task(), "acme.over": make_task(id="acme.over", state=State.CANCELLED)}
    drafts = [
        draft("login", "h1"),
        draft("over", "other"),
        draft("old", "h"),
        draft("new", "h"),
        draft("off", "h", cancel=True),
    ]
    rows = file_rows(drafts, live, {"acme.old"})
    assert [(row.file, row.change) for row in rows] == [("tasks/new.yaml", "new task")]
    rows = file_rows([draft("login", "h2")], live, set())
    assert [(row.task, row.change) for row in rows] == [("acme.login", "changed text")]


class TestWorkstations:
    def file(self, *, alive: bool, wanted: str = "running") -> StationFile:
        values: dict[str, Any] = {"name": "backend-1", "type": "backend", "driver": "local", "wanted": wanted}
        if alive:
            identity = identify(os.getpid())
            assert identity is not None
            values |= {"pid": identity.pid, "start_ticks": identity.start_ticks, "boot_id": identity.boot_id}
        return StationFile(**values)

    @pytest.mark.parametrize(
        ("alive", "wanted", "silent", "running", "expected"),
        [
            (True, "running", 1.0, True, "idle"),
            (True, "running", None, True, "provisioning"),
            (True, "running", 31.0, True, "unhealthy"),
            (True, "stopped", 1.0, True, "stopping"),
            (False, "stopped", None, True, "stopped"),
            (False, "running", None, True, "provisioning"),
            (False, "running", None, False, "down"),
        ],
    )
    def test_its_state_follows_from_its_files(
        self, alive: bool, wanted: str, silent: float | None, running: bool, expected: str
    ) -> None:
        assert station_state(self.file(alive=alive, wanted=wanted), silent, 30, running) == expected

    def test_a_pid_that_was_given_out_again_is_no_daemon(self) -> None:
        file = self.file(alive=True)
        assert station_state(file.evolve(start_ticks=(file.start_ticks or 0) + 1), 1, 30, False) == "down"

    def test_the_reason_that_it_was_not_started_is_the_newest_one(self) -> None:
        def event(name: str, workstation: str = "backend-1", message: str = "") -> dict[str, object]:
            return {"event": name, "workstation": workstation, "details": {"message": message}}

        refused = event("workstation.not_started", message="no")
        assert last_refusal([refused, event("task.started")], "backend-1") == "no"
        assert last_refusal([refused, event("workstation.started")], "backend-1") == ""
        assert last_refusal([refused], "backend-2") == ""


def test_what_is_away_is_told_until_it_is_back_or_another_supervisor_began() -> None:
    def event(name: str) -> dict[str, object]:
        return {"event": name, "details": {"code": f"E_{name}", "message": "it does not run", "mend": "start it"}}

    def told(*names: str) -> list[str]:
        return [problem.code for problem in away_problems([event(name) for name in names])]

    assert told("egress.away", "task.started", "engine.away") == ["E_engine.away", "E_egress.away"]
    assert told("egress.away", "engine.away", "egress.back") == ["E_engine.away"]
    assert told("egress.away", "supervisor.started") == told() == []


def no_drafts(_folder: Path, _name: str, _config: Config) -> Draft:
    raise AssertionError("there are no task files here")


class TestReader:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Root:
        root = Root(tmp_path)
        for folder in (root.tasks, root.records, root.archive, root.quarantine, root.workstations):
            folder.mkdir(parents=True)
        return root

    def reader(self, root: Root) -> Reader:
        return Reader(root, TaskFiles(lambda _: False, no_drafts))

    def test_an_empty_folder_is_an_empty_root(self, tmp_path: Path) -> None:
        reader = self.reader(Root(tmp_path))
        assert reader.live() == ({}, [])
        assert reader.recent_events() == [] and reader.archived_ids() == [] and reader.find("acme.login") is None
        assert not is_locked(Root(tmp_path))
        assert list(tmp_path.iterdir()) == []

    def test_a_damaged_record_is_told_and_left_where_it_is(self, root: Root) -> None:
        RecordStore(root).save(make_task())
        (root.records / "acme.bad.yaml").write_text("state: [")
        (root.quarantine / "record-acme.worse.yaml").write_text("")
        tasks, problems = self.reader(root).live()
        assert list(tasks) == ["acme.login"]
        assert [problem.code for problem in problems] == ["E_RECORD_DAMAGED"] * 2
        assert (root.records / "acme.bad.yaml").exists()

    def test_one_damaged_record_hides_nothing_of_the_others(self, root: Root) -> None:
        store, reader = RecordStore(root), self.reader(root)
        for name in ("archived", "aside"):
            store.save(make_task(id=f"acme.{name}"))
        store.archive(make_task(id="acme.archived"))
        root.archived("acme.archived").write_text("state: [")
        (root.records / "acme.aside.yaml").rename(root.quarantine / "record-acme.aside.yaml")
        needed = (Dependency(task="acme.archived"), Dependency(task="acme.aside"))
        store.save(make_task(depends_on=needed))
        root.config.write_text("projects: {acme: {repository: /srv/acme.git}}\n")
        seen = take_picture(reader)
        files = [Path(problem.file).name for problem in seen.problems]
        assert sorted(files) == ["acme.archived.yaml", "record-acme.aside.yaml"]
        (row,) = task_rows(seen)
        assert row.doing == "waits for acme.archived, whose record is damaged"
        assert [problem.code for problem in reader.archived()[1]] == ["E_RECORD_DAMAGED"]

    def test_without_a_configuration_the_workstations_are_known_from_their_files(self, root: Root) -> None:
        file = StationFile(name="backend-1", type="backend", driver="local", wanted="stopped")
        root.workstation("backend-1").write_bytes(encode(file))
        root.config.write_text("projects: [")
        seen = take_picture(self.reader(root))
        assert [(row.name, row.type, row.state) for row in seen.stations] == [("backend-1", "backend", "stopped")]
        assert [problem.code for problem in seen.problems] == ["E_YAML"]
        root.config.write_text("projects: {acme: {repository: /x}}\nworkstations: {web: {clis: [codex]}}\n")
        assert [row.name for row in take_picture(self.reader(root)).stations] == ["web-1"]

    def test_one_that_lives_and_is_configured_no_longer_is_shown_as_such(self, root: Root) -> None:
        identity = identify(os.getpid())
        assert identity is not None
        file = StationFile(name="old-1", type="old", driver="local", **vars(identity))
        root.workstation("old-1").write_bytes(encode(file))
        root.config.write_text("projects: {acme: {repository: /x}}\n")
        rows = take_picture(self.reader(root)).stations
        assert [(row.name, row.note) for row in rows] == [
            ("backend-1", ""),
            ("old-1", "it is not configured any more"),
        ]

    def test_a_configuration_other_than_the_one_that_runs_is_told(self, root: Root) -> None:
        root.config.write_text("projects: {acme: {repository: /x}}\n")
        note_start(root, load_config(root), NOW)
        with locked(root):
            seen = take_picture(self.reader(root))
            assert seen.supervisor is not None and seen.supervisor.pid == os.getpid()
            assert seen.problems == ()
            root.config.write_text("# only a comment\nprojects: {acme: {repository: /x}}\n")
            assert take_picture(self.reader(root)).problems == ()
            for text in ("projects: {acme: {repository: /y}}\n", "projects: ["):
                root.config.write_text(text)
                assert "E_CONFIG_CHANGED" in [p.code for p in take_picture(self.reader(root)).problems]
        root.config.write_text("projects: {acme: {repository: /y}}\n")
        assert take_picture(self.reader(root)).problems == ()

    def test_a_version_with_other_defaults_does_not_make_a_configuration_another_one(self) -> None:
        class Newer(Config):
            retry: RetrySettings = RetrySettings(first_seconds=99)
            something_new: int = 5

        said = {
            "projects": {"acme": {"repository": "/x", "bot": {"name": "Bot"}}, "other": {"repository": "/y"}},
            "routing": {"web": ["css"], "api": ["python"]},
        }
        digest = digest_of(Config.model_validate(said))
        assert digest_of(Newer.model_validate(said)) == digest
        assert digest_of(Config.model_validate(dict(reversed(said.items())))) == digest
        for other in (
            said | {"routing": {"api": ["python"], "web": ["css"]}},  # the first that fits counts
            said | {"retry": {"first_seconds": 99}},
        ):
            assert digest_of(Config.model_validate(other)) != digest

    def test_task_files_that_vanished_together_are_told_as_long_as_they_are_held(self, root: Root) -> None:
        store, reader = RecordStore(root), self.reader(root)
        root.config.write_text("projects: {acme: {repository: /x}}\n")
        for n in range(8):
            task = make_task(id=f"acme.t{n}")
            store.save(task.evolve(source=task.source.evolve(ref=f"t{n}.yaml", held=n < 7)))
        (problem,) = take_picture(reader).problems
        assert problem.code == "E_TASKS_VANISHED" and problem.file == str(root.tasks)
        assert "7 task files vanished together (t0.yaml, t1.yaml, t2.yaml, t3.yaml, t4.yaml and 2 more)" in str(
            problem
        )
        root.tasks.rmdir()
        (problem,) = take_picture(reader).problems
        assert problem.message == "the folder is not there; no task is cancelled for that"

    def test_an_edit_that_was_refused_is_told_until_it_is_removed(self, root: Root) -> None:
        task = make_task(state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),))
        RecordStore(root).save(task)
        root.config.write_text("projects: {acme: {repository: /x}}\n")
        box = Box("backend-1", task.id, 1)
        root.attempt_in(*box).mkdir(parents=True)
        Mail(root).reject_tasking(box, b"version: 1\n", "This edit was not taken: it is odd")
        (problem,) = take_picture(self.reader(root)).problems
        assert problem.code == "E_EDIT_REFUSED" and "acme.login: This edit was not taken: it is odd" in str(
            problem
        )
        assert problem.file.endswith("tasking.yaml.rejected")
        Path(problem.file).unlink()
        assert take_picture(self.reader(root)).problems == ()

    def test_a_record_that_changed_is_read_again(self, root: Root) -> None:
        store, reader = RecordStore(root), self.reader(root)
        task = store.save(make_task())
        first = reader.live()[0]["acme.login"]
        assert reader.live()[0]["acme.login"] is first
        store.save(task.evolve(title="Another"))
        assert reader.live()[0]["acme.login"].title == "Another"
        store.archive(task)
        assert reader.live()[0] == {} and reader.find("acme.login") is not None

    def test_a_hostile_report_is_a_problem_and_nothing_more(self, root: Root) -> None:
        task = make_task(state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),))
        out = root.attempt_out("backend-1", task.id, 1)
        reader = self.reader(root)
        attempt = task.attempts[0]
        assert reader.report(task, attempt) is None
        out.mkdir(parents=True)
        secret = root.state / "secret"
        secret.write_text("revision: 1\n")
        (out / "reporting.yaml").symlink_to(secret)
        found = reader.report(task, attempt)
        assert isinstance(found, Problem) and found.code == "E_SYMLINK"
        (out / "reporting.yaml").unlink()
        os.mkfifo(out / "reporting.yaml")
        found = reader.report(task, attempt)
        assert isinstance(found, Problem) and found.code == "E_NOT_REGULAR"
        os.unlink(out / "reporting.yaml")
        out.rmdir()
        out.symlink_to(root.state)
        found = reader.report(task, attempt)
        assert isinstance(found, Problem) and found.code == "E_SYMLINK"

    def test_a_report_of_another_attempt_is_told_as_the_supervisor_tells_it(self, root: Root) -> None:
        task = make_task(state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),))
        out = root.attempt_out("backend-1", task.id, 1)
        out.mkdir(parents=True)
        text = "version: 1\nrevision: 1\ntasks: {acme.login: {attempt: 2, status: completed}}\nend: 1\n"
        (out / "reporting.yaml").write_text(text)
        found = self.reader(root).report(task, task.attempts[0])
        assert isinstance(found, Problem) and found.code == "E_WRONG_TASK"
        assert found.file == f"mail/backend-1/out/{task.id}/1/reporting.yaml"
        (out / "reporting.yaml").write_text(text.replace("attempt: 2", "attempt: 1"))
        found = self.reader(root).report(task, task.attempts[0])
        assert isinstance(found, TaskReport) and found.status is ReportStatus.COMPLETED

    def test_a_workstation_is_read_with_the_time_of_its_last_sign(self, root: Root) -> None:
        reader = self.reader(root)
        assert reader.station("backend-1") is None and reader.sign("backend-1") is None
        file = StationFile(name="backend-1", type="backend", driver="local")
        root.workstation("backend-1").write_bytes(encode(file))
        assert reader.station("backend-1") == file
        out = root.mail_out("backend-1")
        out.mkdir(parents=True)
        sign = out / "workstation.yaml"
        sign.write_text(
            "version: 1\nrevision: 3\nagent_id: backend-1\nagent_type: backend\nheartbeat: 3\nend: 3\n"
        )
        long_ago = (NOW - timedelta(days=1)).timestamp()
        os.utime(sign, (long_ago, long_ago))
        seen = reader.sign("backend-1")
        assert seen is not None and seen[0].heartbeat == 3 and seen[1] == NOW - timedelta(days=1)
