"""Drafts become records, change them, or mean nothing."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.intake import Draft, clean_line, clean_text, ingest, source_gone
from supervisor.core.record import Source, TaskRecord
from supervisor.core.settings import Config
from supervisor.core.states import State
from supervisor.core.task_file import TaskFile
from tests.unit.conftest import NOW, make_attempt, make_task


def draft(text_hash: str = "h1", **text: object) -> Draft:
    return Draft(
        id="acme.login",
        project="acme",
        source=Source(tracker="local", kind="file", ref="login.yaml", key="file:login", text_hash=text_hash),
        text=TaskFile.model_validate({"title": "Fix the login", **text}),
    )


def created(config: Config, **text: object) -> TaskRecord:
    decision = ingest(draft(**text), None, config, NOW)
    assert decision is not None
    return decision.task


def test_a_new_draft_becomes_a_pending_task(config: Config) -> None:
    task = created(
        config, labels=["CSS"], description="a\r\nb", depends_on=["db", {"task": "acme.ui", "use": "none"}]
    )
    assert (task.state, task.specialist, task.description) == (State.PENDING, "frontend", "a\nb")
    assert [(d.task, d.until, d.use) for d in task.depends_on] == [
        ("acme.db", "verified", "head"),
        ("acme.ui", "verified", "none"),
    ]
    assert task.branch.startswith("cloud-code/")


def test_a_task_of_another_project_is_only_waited_for(config: Config) -> None:
    task = created(config, depends_on=["other.db", {"task": "acme.ui"}])
    assert [(d.task, d.use) for d in task.depends_on] == [("other.db", "none"), ("acme.ui", "head")]


def test_the_same_draft_again_means_nothing(config: Config) -> None:
    assert ingest(draft(), created(config), config, NOW) is None


def test_a_changed_draft_changes_the_text_and_keeps_the_life(config: Config) -> None:
    task = created(config).evolve(attempt=1, attempts=(make_attempt(),), state=State.IN_PROGRESS)
    decision = ingest(draft("h2", title="Fix the logout", limits={"cost_usd": 1}), task, config, NOW)
    assert decision is not None
    assert (decision.task.title, decision.task.limits.cost_usd) == ("Fix the logout", 1)
    assert (decision.task.state, decision.task.attempts, decision.task.branch) == (
        task.state,
        task.attempts,
        task.branch,
    )
    assert decision.events[0].details["fields"] == ["title", "limits"]


def test_the_tasks_own_limits_stand_over_the_projects(config: Config) -> None:
    task = created(config, limits={"timeout_minutes": 5})
    assert task.limits.timeout_minutes == 5
    assert task.limits.cost_usd is None


def test_an_ended_task_absorbs_its_file_until_it_was_gone_and_is_there_again(config: Config) -> None:
    ended = created(config).evolve(state=State.COMPLETED, attempt=3, failures=1)
    assert ingest(draft("h2", title="other"), ended, config, NOW) is None
    gone = source_gone(ended, now=NOW)
    assert gone is not None and gone.task.state is State.COMPLETED
    again = ingest(draft("h2", title="other"), gone.task, config, NOW)
    assert again is not None
    assert (again.task.state, again.task.rerun, again.task.attempt) == (State.PENDING, 2, 3)
    assert again.task.branch.endswith("-r2") and again.task.title == "other"


def test_a_deleted_file_cancels_a_live_task_once(config: Config) -> None:
    decision = source_gone(created(config), now=NOW + timedelta(seconds=1))
    assert decision is not None and decision.task.state is State.CANCELLED
    assert source_gone(decision.task, now=NOW) is None


def test_a_draft_that_only_cancels_makes_nothing(config: Config) -> None:
    assert ingest(draft(cancel=True), None, config, NOW) is None


@given(st.text())
def test_titles_are_one_visible_line(text: str) -> None:
    line = clean_line(text)
    assert line and len(line) <= 300 and line == line.strip()
    assert not any(ord(c) < 32 or 0xD800 <= ord(c) <= 0xDFFF or c in "\u202e\u2066\u2028\x7f\x85" for c in line)


@given(st.text())
def test_cleaning_a_text_twice_changes_nothing_more(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)
    assert "\r" not in clean_text(text)


@pytest.mark.parametrize("title", ["--upload-pack=x", "$(x)", "a\nb", "💥", "\ud800", "\r\r", " "])
def test_odd_titles_still_run(config: Config, title: str) -> None:
    one = draft()
    odd = one.evolve(text=one.text.model_copy(update={"title": title}))
    decision = ingest(odd, None, config, NOW)
    assert decision is not None and decision.task.branch.startswith("cloud-code/login")
    assert make_task(title=decision.task.title).title == decision.task.title


def test_a_later_file_keeps_what_a_person_changed_elsewhere(config: Config) -> None:
    task = created(config, description="v1").evolve(description="v2, by the tasking")
    decision = ingest(draft("h2", description="v1", priority="low"), task, config, NOW)
    assert decision is not None
    assert (decision.task.description, decision.task.priority) == ("v2, by the tasking", "low")
    again = ingest(draft("h3", description="v3", priority="low"), decision.task, config, NOW)
    assert again is not None and again.task.description == "v3"
