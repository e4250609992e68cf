"""Starting many containers keeps nobody waiting for the engine; that is a stand-in, and slow."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agent_daemon.protocol.paths import Root
from supervisor.app import open_root
from supervisor.core.settings import Config, ProjectSettings, WorkstationSettings
from supervisor.errors import CloudCodeError
from supervisor.root_identity import next_epoch
from supervisor.workstations.containers import RUN_LABEL, WORKSTATION_LABEL
from supervisor.workstations.docker import DockerWorkstations
from supervisor.workstations.engine import Engine
from tests.fakes.engine import EngineSocket

RUNNING = {
    "Id": "c1",
    "Names": ["/c1"],
    "State": "running",
    "Labels": {RUN_LABEL: "r1", WORKSTATION_LABEL: "testing-1"},
}


class SlowEngine(EngineSocket):
    """Knows the image `there`, after a while; `hung`: about images it says nothing any more."""

    def __init__(self, path: Path) -> None:
        self.asked: list[tuple[str, str]] = []  # by which thread, and what
        self.hung = threading.Event()
        super().__init__(str(path), Answers)


class Answers(BaseHTTPRequestHandler):
    server: SlowEngine

    def do_GET(self) -> None:
        self.server.asked.append((threading.current_thread().name, self.path))
        if "/images/" in self.path:
            if self.server.hung.is_set():
                return  # (the connection ends without an answer)
            time.sleep(0.2)
        found = "/images/there/" in self.path or "/images/" not in self.path
        self.send_response(200 if found else 404)
        self.end_headers()
        image = {"Id": "sha256:1", "message": "no such image"}
        self.wfile.write(json.dumps(image if "/images/" in self.path else [RUNNING]).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SlowEngine]:
    server = SlowEngine(tmp_path / "s")
    with server.served():
        yield server


@pytest.fixture
def driver(engine: SlowEngine, tmp_path: Path) -> Iterator[DockerWorkstations]:
    root = Root(tmp_path / "root")
    open_root(root)
    next_epoch(root)
    station = WorkstationSettings(driver="docker", image="there", network="none", clis=("codex",))
    other = station.model_copy(update={"image": "not-there"})
    types = {"backend": station, "testing": other}
    project = ProjectSettings(repository="/srv/demo.git")
    config = Config(projects={"demo": project}, workstations=types)
    made = DockerWorkstations(root, config, Engine(tmp_path / "s"))
    assert made.away() is None
    yield made
    made.close()


def test_twenty_that_are_started_at_once_wait_for_one_answer(
    driver: DockerWorkstations, engine: SlowEngine
) -> None:
    for number in range(20):
        driver.start(f"backend-{number}", "backend", {})
    assert [path for _, path in engine.asked if "/images/" in path] == ["/images/there/json"]
    with pytest.raises(CloudCodeError, match="E_NO_IMAGE"):
        driver.start("testing-2", "testing", {})


def test_an_engine_that_does_not_answer_about_images_is_no_bug(
    driver: DockerWorkstations, engine: SlowEngine
) -> None:
    engine.hung.set()
    with pytest.raises(CloudCodeError, match="E_ENGINE_AWAY"):
        driver.start("testing-2", "testing", {})
    handle = driver.start("testing-1", "testing", {})
    assert handle.run == "r1", "it is found running by what was listed"
    assert driver.condition("testing-1", "testing", handle) is None, "nobody knows its image just now"
