"""The benchmarks measure what they say: the crowd is at rest, figures know their bars."""

from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from benchmarks import clis, codec, forges
from benchmarks.crowd import make_crowd
from benchmarks.engine_calls import counted
from benchmarks.figure import Figure, Size, as_data, percentile, show
from benchmarks.forges import told_of
from benchmarks.reaction import EventTail
from supervisor.app import Supervisor, locked
from supervisor.core.plan import plan_task
from supervisor.core.states import State
from supervisor.workstations.engine import Engine
from tests.fakes.engine import EngineSocket
from tests.fakes.forge.server import Exchange

SMALL = Size(live=20, archived=3, workstations=2, runs=1)


def test_a_crowd_is_at_rest(tmp_path: Path) -> None:
    crowd = make_crowd(tmp_path, SMALL)
    with locked(crowd.root):
        supervisor = Supervisor(crowd.root)
        loaded = supervisor.store.load()
        supervisor.ledger.load(loaded.tasks)
        for boxes in supervisor.ledger.boxes.values():
            for taken in supervisor.mail.sweep(boxes):
                assert taken.report is not None, taken.problem
                supervisor.ledger.reports.setdefault(taken.box.task_id, {})[taken.box.attempt] = taken.report
        for task in loaded.tasks.values():
            decision = plan_task(task, supervisor.ledger.seen(task.id), supervisor.config, supervisor.clock.now())
            assert decision.task == task
            assert not decision.jobs
            assert supervisor.ledger.tell(task) == task, "its tasking is as it should be"
        supervisor.close()
    states = [task.state for task in loaded.tasks.values()]
    found = {state: states.count(state) for state in set(states)}
    assert found == {State.PENDING: 4, State.BLOCKED: 5, State.REVIEW: 9, State.IN_PROGRESS: 2}
    assert {str(loaded.tasks[task].workstation) for task in crowd.at_work.values()} == set(crowd.at_work)
    assert len(supervisor.store.archived_ids()) == 3
    assert supervisor.store.read_archived("demo.old-0").state is State.COMPLETED


def test_figures_know_their_bars() -> None:
    slow = Figure(name="slow", measured=30, unit="ms", bar=20)
    many = Figure(name="many", measured=1000, unit="/s", bar=500, at_least=True)
    none = Figure(name="lost", measured=0, unit="reports", bar=0)
    assert (slow.ok, slow.of_bar) == (False, 1.5)
    assert (many.ok, many.of_bar) == (True, 0.5)
    assert (none.ok, none.of_bar) == (True, None)
    assert [entry["ok"] for entry in as_data([slow, many, none], "here")["figures"]] == [False, True, True]


def test_the_table_shows_a_miss(capsys: pytest.CaptureFixture[str]) -> None:
    show([Figure(name="slow", measured=30, unit="ms", bar=20)], "this machine")
    printed = capsys.readouterr().out
    assert "this machine" in printed
    assert "30 ms" in printed and "≤ 20 ms" in printed and "1.50" in printed and "NO" in printed


@pytest.mark.parametrize(("percent", "expected"), [(50, 5), (99, 10), (100, 10), (1, 1)])
def test_percentiles_are_values_that_were_measured(percent: float, expected: float) -> None:
    assert percentile(list(range(10, 0, -1)), percent) == expected


def test_a_line_that_is_still_being_written_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"seq": 1}\n')
    tail = EventTail(path)
    with path.open("ab") as log:
        log.write(b'{"seq": 2}\n{"se')
        log.flush()
        assert list(tail.new()) == [{"seq": 2}]
        log.write(b'q": 3}\n')
    assert list(tail.new()) == [{"seq": 3}]
    tail.close()


def test_the_codec_is_measured() -> None:
    figures = codec.measure(SMALL)
    assert [figure.unit for figure in figures] == ["ms", "×", "ms", "×"]
    assert all(0 < figure.measured < 1000 for figure in figures)


def exchange(method: str, template: str, *, status: int = 200) -> Exchange:
    return Exchange(
        method=method, path="", template=template, status=status, token="", charged=status != 304, at=0.0
    )


def test_calls_for_a_task_are_told_by_kind() -> None:
    repo = "/repos/{owner}/{name}"
    journal = [
        exchange("GET", f"{repo}/issues"),
        exchange("GET", f"{repo}/issues", status=304),
        exchange("PATCH", f"{repo}/issues/comments/{{comment}}"),
        exchange("POST", f"{repo}/labels"),
        exchange("POST", f"{repo}/issues/{{number}}/labels"),
        exchange("POST", f"{repo}/issues/{{number}}/labels"),
    ]
    whole, *kinds = told_of("GitHub", journal)
    assert whole.measured == 3 and whole.ok
    assert "1 that found nothing new, 1 edits of the story, 1 for the project's labels" in whole.note
    assert [(kind.name, kind.measured) for kind in kinds] == [
        ("… POST /issues/{number}/labels", 2),
        ("… GET /issues", 1),
    ]


def test_quiet_projects_are_measured(tmp_path: Path) -> None:
    size = Size(forge_projects=2, forge_cycles=1, forge_quiet_poll_seconds=0.5)
    charged, on_hub, on_lab, processor = forges.measure_quiet(tmp_path, size)
    assert charged.ok and on_hub.ok and on_lab.ok and processor.measured >= 0


def test_every_parser_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clis, "PARSED_BYTES", 1)
    names = {figure.name.partition(":")[0] for figure in clis._parsers() if figure.measured > 0}
    assert {"aider", "claude-code", "codex", "acp, all profiles"} < names


def test_what_an_engine_is_asked_is_passed_on_and_counted(tmp_path: Path) -> None:
    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None: ...

    engine = EngineSocket(str(tmp_path / "engine"), Answer)
    with engine.served(), counted(tmp_path / "engine", tmp_path / "counted") as calls:
        for path in ("/info", "/containers/json"):
            assert Engine(tmp_path / "counted").get(path) == []
    assert calls.paths == ["/info", "/containers/json"]
