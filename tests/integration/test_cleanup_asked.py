"""The supervisor's side of clean-up: what workstations are asked to remove, and that each answer is told."""

from collections.abc import Iterator
from typing import Any

import pytest

from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.files import make_folder, write_file
from agent_daemon.protocol.model import CleanupDone, CleanupItem, CleanupReport
from supervisor.cleaning import ANSWER_SECONDS, Cleaning
from supervisor.core.cleanup import Candidate
from tests.desk import Desk
from tests.site import Site

WS = "backend-1"
OUTPUT = CleanupItem(kind="output", task="demo.odd", attempt=1)
CLONE = CleanupItem(kind="clone", project="demo")


class Asking:
    """A supervisor that has found what it may ask for, and the workstation's answers, by hand."""

    def __init__(self, site: Site) -> None:
        self.site, self.desk = site, Desk(site)
        self.cleaning: Cleaning = self.desk.start().cleaning
        self.answers = 0

    def find(self, *items: CleanupItem, kept: tuple[CleanupItem, ...] = ()) -> tuple[CleanupItem, ...]:
        """A clean-up finds this; returns what the workstation is asked for then."""
        named: list[dict[str, Any]] = [item.model_dump() | {"project": "demo"} for item in items]
        self.cleaning._ask_workstations(
            [
                Candidate(**fields, workstation=WS, verdict="remove", age_seconds=9, reason="old", size_bytes=1)
                for fields in named
            ],
            set(kept),
        )
        asked = self.cleaning.mail.asked_cleanup(WS)
        return asked.items if asked is not None else ()

    def answer(self, *taken: int) -> None:
        """The workstation has removed all that it was asked for, which took so many bytes."""
        asked = self.cleaning.mail.asked_cleanup(WS)
        assert asked is not None
        self.answers += 1
        items = tuple(
            CleanupDone(**item.model_dump(), done=True, bytes=size)
            for item, size in zip(asked.items, taken, strict=True)
        )
        report = CleanupReport(revision=self.answers, observed_revision=asked.revision, items=items)
        make_folder(self.site.root.mail_out(WS) / "cleanup")
        write_file(self.site.root.mail_out(WS) / "cleanup/done.yaml", encode(report, end=True))

    def told(self) -> list[str]:
        return [event["details"]["kind"] for event in self.site.events("cleanup.removed")]


@pytest.fixture
def asking(site: Site) -> Iterator[Asking]:
    made = Asking(site)
    yield made
    made.desk.close()


def test_an_answer_is_awaited_before_the_next_list_so_that_it_is_told(asking: Asking) -> None:
    assert asking.find(OUTPUT) == (OUTPUT,)
    assert asking.find(CLONE) == (OUTPUT,), "the answer to the first list would never be seen"
    asking.answer(100)
    assert asking.find(CLONE) == (OUTPUT,), "it is there, but not read yet"
    asking.cleaning.look()
    assert asking.told() == ["output"]
    assert asking.find(CLONE) == (CLONE,)
    asking.answer(100)
    asking.cleaning.look()
    assert asking.told() == ["output", "clone"]
    assert asking.find() == ()


def test_what_is_to_be_kept_now_is_withdrawn_at_once(asking: Asking) -> None:
    assert asking.find(OUTPUT) == (OUTPUT,)
    assert asking.find(CLONE, kept=(OUTPUT,)) == (CLONE,)
    assert asking.find(kept=(CLONE,)) == ()
    assert asking.find(OUTPUT) == (OUTPUT,), "nothing is awaited of an empty list"


def test_a_workstation_that_does_not_answer_is_not_waited_for_long(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asking.find(OUTPUT) == (OUTPUT,)
    later = asking.cleaning.clock.monotonic() + ANSWER_SECONDS + 1
    monkeypatch.setattr(asking.cleaning.clock, "monotonic", lambda: later)
    assert asking.find(OUTPUT, CLONE) == (OUTPUT, CLONE)
