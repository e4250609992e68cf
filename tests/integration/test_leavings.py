"""What an engine keeps of a root that is to be gone: nothing of it, all of others. The engine is a stand-in."""

import json
import urllib.parse
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from agent_daemon.protocol.paths import Root
from supervisor.errors import CloudCodeError
from supervisor.workstations.containers import PATH_LABEL
from supervisor.workstations.engine import Engine
from supervisor.workstations.leavings import remove_all, remove_unnamed, running_of, stop_running
from tests.fakes.engine import EngineSocket

TAGS = ["cloud-code-snapshot/abc-backend-1:1", "cloud-code-snapshot/abc-backend-1:2", "cloud-code/backend:latest"]


class StandIn(EngineSocket):
    """Has one image, which a snapshot of this root keeps and others use; another root's snapshot is in use."""

    def __init__(self, path: Path) -> None:
        self.deleted: list[str] = []
        self.stopped: list[str] = []
        self.containers: list[dict[str, Any]] = []
        self.images: dict[str, dict[str, Any]] = {}
        super().__init__(str(path), Answers)


class Answers(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        place = urllib.parse.urlsplit(self.path)
        told: Any = {"Volumes": None} if place.path == "/volumes" else []
        if place.path == "/containers/json":
            told = self.server.containers
        if place.path == "/images/json":
            filters = json.loads(urllib.parse.parse_qs(place.query)["filters"][0])
            assert filters == {"reference": ["cloud-code-snapshot/abc-*"]}
            told = [{"RepoTags": TAGS}, {"RepoTags": None}]
        if place.path.startswith("/images/sha256:"):
            told = self.server.images[place.path.split("/")[2]]
        self._say(200, told)

    def do_POST(self) -> None:
        self.server.stopped.append(self.path)
        self._say(204, None)

    def do_DELETE(self) -> None:
        self.server.deleted.append(self.path)
        self._say(409 if self.path.endswith(":1") else 200, {"message": "it is used"})

    def _say(self, status: int, what: Any) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(what).encode())

    def log_message(self, *_: object) -> None: ...


def test_no_name_of_an_image_is_left_of_a_root_and_no_other_goes(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.state.mkdir()
    root.root_id.write_text("id: abc\nepoch: 1\n")
    server = StandIn(tmp_path / "s")
    with server.served():
        remove_all(Engine(tmp_path / "s"), root)
    assert server.deleted == [f"/images/{tag}" for tag in TAGS[:2]], "the one that is used does not keep the next"


def test_what_a_copy_of_the_root_uses_stays(tmp_path: Path) -> None:
    root, copy = Root(tmp_path / "root"), Root(tmp_path / "copy")
    for one in (root, copy):
        one.state.mkdir(parents=True)
        one.root_id.write_text("id: abc\nepoch: 1\n")
    server = StandIn(tmp_path / "s")
    places = [{}, {PATH_LABEL: str(root.path)}, {PATH_LABEL: str(copy.path)}]
    server.containers = [{"Id": str(number), "Labels": labels} for number, labels in enumerate(places)]
    with server.served():
        with pytest.raises(CloudCodeError, match="E_ROOT_COPIED"):
            remove_all(Engine(tmp_path / "s"), root)
        assert not server.deleted
        copy.root_id.unlink()  # (nor is it another root that was moved)
        remove_all(Engine(tmp_path / "s"), root)
    assert len([path for path in server.deleted if path.startswith("/containers/")]) == 3


def test_an_image_that_something_names_or_that_is_not_ours_stays(tmp_path: Path) -> None:
    server = StandIn(tmp_path / "s")
    ours = {"Config": {"Labels": {"cloud-code.type": "backend"}}}
    server.images = {
        "sha256:1": ours | {"RepoTags": ["cloud-code-snapshot/abc-backend-1:1"]},
        "sha256:2": ours | {"RepoTags": [], "RepoDigests": ["registry.example.org/x@sha256:2"]},
        "sha256:3": {"Config": {"Labels": None}, "RepoTags": []},
        "sha256:4": ours | {"RepoTags": None},
    }
    with server.served():
        for image in server.images:
            remove_unnamed(Engine(tmp_path / "s"), image)
    assert server.deleted == ["/images/sha256:4"]


def test_what_runs_of_a_root_is_ended_in_order_and_kept(tmp_path: Path) -> None:
    root = Root(tmp_path / "root")
    assert running_of(Engine(tmp_path / "nowhere"), root) == []
    root.state.mkdir(parents=True)
    root.root_id.write_text("id: abc\nepoch: 1\n")
    server = StandIn(tmp_path / "s")
    server.containers = [{"Id": "1"}, {"Id": "2"}]
    with server.served():
        stop_running(Engine(tmp_path / "s"), root)
    assert server.stopped == ["/containers/1/stop?t=13", "/containers/2/stop?t=13"] and not server.deleted
