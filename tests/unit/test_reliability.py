"""docs/reliability.md has a row for each scenario in the code, and no other."""

import json
from pathlib import Path

import pytest

from tests import reliability


@pytest.mark.parametrize("section", reliability.SECTIONS)
def test_every_scenario_has_its_row(section: str) -> None:
    found = reliability.recorded(reliability.PAGE.read_text(), section)
    assert found == reliability.declared(section), "run `make reliability`"


@pytest.fixture
def one_section(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A page of two sections, one of which has two scenarios."""
    about = reliability.Section(title="Faults", about="What is done.", what="fault")
    other = reliability.Section(title="Others", about="Else.", what="what")
    monkeypatch.setattr(reliability, "SECTIONS", {"faults": about, "others": other})
    monkeypatch.setattr(reliability, "_declared", {})
    monkeypatch.setattr(reliability, "PAGE", tmp_path / "page.md")
    monkeypatch.setenv(reliability.VARIABLE, str(tmp_path / "rows"))
    reliability.declare("faults", ["a pipe", "a link"])
    return tmp_path


def test_what_is_recorded_stands_in_the_page(one_section: Path) -> None:
    reliability.record("faults", "a link", "refused", code="E_SYMLINK", peak_mb=91.23, lost=0)
    reliability.record("faults", "a pipe", "refused", reaction_seconds=0.0421)
    rows = [json.loads(line) for line in (one_section / "rows").read_text().splitlines()]
    assert reliability.write_page(rows, ["faults", "others"]) == []
    page = (one_section / "page.md").read_text()
    assert "| a pipe | refused | | reaction 0.042 s |\n" in page
    assert "| a link | refused | `E_SYMLINK` | peak 91 MB, lost 0 |\n" in page
    assert reliability.recorded(page, "faults") == ("a pipe", "a link")
    assert reliability.recorded(page, "others") == ()
    assert reliability.write_page([], ["others"]) == []
    assert (one_section / "page.md").read_text() == page, "a section that was not run stays as it is"


def test_what_was_not_recorded_is_told(one_section: Path) -> None:
    assert reliability.write_page([], ["faults"]) == ["faults: a pipe", "faults: a link"]
    assert not (one_section / "page.md").exists()


def test_only_what_was_declared_is_recorded(one_section: Path) -> None:
    with pytest.raises(AssertionError, match="declare it first"):
        reliability.record("faults", "a socket", "refused")
