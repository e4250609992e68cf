"""Which container of a *free* workstation is started once more after it died, and which is made anew."""

from pathlib import Path

import pytest

from supervisor.workstations.again import lived_seconds, made_of, to_go_on
from supervisor.workstations.containers import Container

OPTIONS: dict[str, object] = {"memory": "2g", "mounts": [["type=bind", "source=/srv/in"]], "workdir": Path("/srv")}


def test_another_image_network_limit_or_folder_is_another_container() -> None:
    one = made_of("sha256:a", "none", OPTIONS)
    assert one == made_of("sha256:a", "none", dict(reversed(OPTIONS.items())))
    others = [
        made_of("sha256:b", "none", OPTIONS),
        made_of("sha256:a", "open", OPTIONS),
        made_of("sha256:a", "none", OPTIONS | {"memory": "1g"}),
        made_of("sha256:a", "none", OPTIONS | {"mounts": []}),
    ]
    assert len({one, *others}) == 5


def test_a_dead_one_that_was_made_the_same_way_goes_on() -> None:
    def one(run: str, made: str | None, *, living: bool) -> Container:
        return Container(id=run, name=run, workstation="backend-1", run=run, living=living, made_of=made)

    left = [one("a", "x", living=True), one("b", None, living=False), one("c", "x", living=False)]
    found = to_go_on(left, "x")
    assert found is not None and found.run == "c" and to_go_on(left, "y") is None


@pytest.mark.parametrize(
    ("began", "ended", "runs", "seconds"),
    [
        ("2026-11-28T09:44:54.123456789Z", "2026-11-28T09:45:54.623456789Z", False, 60.5),
        ("2026-11-28T09:44:54Z", "2026-11-28T09:40:00Z", True, 0),
        ("2026-11-28T09:44:54.1Z", "0001-01-01T00:00:00Z", False, 0),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", False, 0),
    ],
)
def test_how_long_a_container_ran(began: str, ended: str, runs: bool, seconds: float) -> None:
    assert lived_seconds({"Running": runs, "StartedAt": began, "FinishedAt": ended}) == seconds
