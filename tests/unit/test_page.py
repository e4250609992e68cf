"""The page of `status` on any terminal: names are never cut, and what is cut is counted."""

import re
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from agent_daemon.protocol.errors import Problem
from supervisor.cli.page import FittedPage, page
from supervisor.cli.tables import lay_out
from supervisor.core.states import State
from supervisor.view import FileRow, Overview, task_rows, waiting_tasks
from tests.thorough import examples
from tests.unit.conftest import make_task
from tests.unit.test_view import picture, station

COLUMNS = ("ID", "STATE", "SINCE", "WHAT")


def shown(rows: list[tuple[str, ...]], width: int) -> str:
    console = Console(width=width, no_color=True)
    cells = [[Text(cell) for cell in row] for row in rows]
    with console.capture() as captured:
        console.print(lay_out(COLUMNS, cells, width, title="T", least=("SINCE", "STATE")), soft_wrap=True)
    return captured.get()


ROW = ("acme-app.fix-the-login-redirect", "in_progress", "12 min", "the agent runs the tests of the whole project")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200, 10_000])
def test_an_id_is_whole_at_any_width_and_no_word_is_lost(width: int) -> None:
    text = shown([ROW, ("a.b", "review", "1 s", "")], width)
    assert ROW[0] in text
    assert "".join(ROW[3].split()) in "".join(text.replace(ROW[0], "").split())


def test_columns_go_one_after_the_other_before_rows_become_lines() -> None:
    assert all(name in shown([ROW], 100) for name in COLUMNS)
    assert "SINCE" not in shown([ROW], 80) and "STATE" in shown([ROW], 80)
    assert "STATE" not in shown([ROW], 60) and "WHAT" in shown([ROW], 60)
    assert shown([ROW], 40).splitlines()[1] == "  ".join(ROW[:3])


def seen(**counts: int) -> Overview:
    tasks = [make_task(id=f"acme.task-{n}", state=State.REVIEW) for n in range(counts.get("tasks", 0))]
    taken = picture(*tasks)
    names = [f"backend-{n}" for n in range(counts.get("workstations", 0))]
    return Overview(
        root="/srv/cloud-code",
        running=True,
        pid=7,
        workstations=tuple(station(name=name) for name in names),
        tasks=tuple(task_rows(taken)),
        files=tuple(
            FileRow(file=f"tasks/f{n}.yaml", task=f"acme.f{n}", title="T", change="new task")
            for n in range(counts.get("files", 0))
        ),
        waiting=tuple(waiting_tasks(taken)),
        problems=tuple(Problem(code=f"E_{n}", message="it is odd") for n in range(counts.get("problems", 0))),
    )


def drawn(what: Any, height: int, width: int = 100) -> list[str]:
    console = Console(width=width, height=height, no_color=True)
    with console.capture() as captured:
        console.print(what)
    return captured.get().splitlines()


@settings(max_examples=examples(20))
@given(
    height=st.integers(3, 80),
    counts=st.fixed_dictionaries(
        {name: st.integers(0, 60) for name in ("tasks", "workstations", "files", "problems")}
    ),
)
def test_it_fits_the_screen_and_counts_what_is_left_out(height: int, counts: dict[str, int]) -> None:
    context, whole = click.Context(click.Command("status")), seen(**counts)
    lines = drawn(FittedPage(whole, context), height)
    assert len(lines) <= height
    assert lines[0].startswith("/srv/cloud-code: the supervisor is running, process 7")
    text = "\n".join(lines)
    if "more lines" not in text:
        for entry in (*(t.id for t in whole.tasks), *(p.code for p in whole.problems)):
            assert re.search(rf"{entry}\b", text) or "more: cloud-code" in text


def test_the_page_that_is_printed_says_how_many_are_left_out() -> None:
    context = click.Context(click.Command("status"))
    text = "\n".join(drawn(page(seen(tasks=45, problems=43), context), 1000))
    assert "… and 5 more: cloud-code task list" in text
    assert text.count("… and 5 more: cloud-code status --json") == 1  # those that wait for a person
    assert "… and 3 more: cloud-code status --json" in text
