"""What a Docker engine tells while nobody listens is heard all the same, and once; the engine is a stand-in."""

import json
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from supervisor.workstations.containers import PATH_LABEL, WORKSTATION_LABEL, Containers
from supervisor.workstations.engine import Engine
from tests.fakes.engine import EngineSocket
from tests.site import wait_for

OOM = {
    "Action": "oom",
    "Actor": {"ID": "c1", "Attributes": {PATH_LABEL: "/root", WORKSTATION_LABEL: "backend-1"}},
}


class StandIn(EngineSocket):
    """Ends each stream of events at once. The first time nothing happened; then memory ran out, twice."""

    def __init__(self, path: Path) -> None:
        self.asked: list[float] = []
        super().__init__(str(path), Answers)

    def happened(self, since: float) -> list[dict[str, Any]]:
        self.asked.append(since)
        first = int(self.asked[0] * 10**9) + 1000
        times = [] if len(self.asked) == 1 else [first] if len(self.asked) < 4 else [first, first + 10**6]
        return [OOM | {"timeNano": time_ns} for time_ns in times]


class Answers(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        place = urllib.parse.urlsplit(self.path)
        told: list[Any] = []
        if place.path == "/events":
            told = self.server.happened(float(urllib.parse.parse_qs(place.query)["since"][0]))
        lines = [json.dumps(event) for event in told] if place.path == "/events" else ["[]"]
        self.send_response(200)
        self.end_headers()
        self.wfile.write("".join(f"{line}\n" for line in lines).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[StandIn]:
    server = StandIn(tmp_path / "s")
    with server.served():
        yield server


def test_what_happens_between_two_subscriptions_is_told_once(engine: StandIn, tmp_path: Path) -> None:
    containers = Containers(Engine(tmp_path / "s"), "r1", "/root")
    containers.refresh()
    wait_for(lambda: len(engine.asked) > 6)
    containers.close()
    assert containers.take_ran_out(("backend-1",)) is None
    assert containers.take_ran_out(()) == ("backend-1", 2)
    assert containers.take_ran_out(()) is None, "told is told"
    assert engine.asked[5] > engine.asked[0] == engine.asked[1], "what was heard last is where it goes on"
