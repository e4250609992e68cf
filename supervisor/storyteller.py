"""What tasks have to tell goes to their forges: one comment kept current, a label, and what is said once."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, partial
from typing import Any

from agent_daemon.failpoints import reach
from agent_daemon.protocol.paths import Root
from supervisor.clock import Clock
from supervisor.core.budgets import Purse
from supervisor.core.decision import Decision, Failed
from supervisor.core.record import Post, TaskRecord
from supervisor.core.render import cost_usd
from supervisor.core.states import State
from supervisor.core.story import render_story, text_hash
from supervisor.core.telling import (
    StoryShown,
    is_told,
    label_colours,
    next_due,
    project_rest,
    settle_label,
    settle_post,
    settle_story,
    state_label,
)
from supervisor.jobs.project import Project
from supervisor.jobs.telling import say, show_label, show_story
from supervisor.ledger import Ledger
from supervisor.pool import JobPool, Lanes, attempt_work


@dataclass(frozen=True)
class _Told:
    """The outcome of one thing told: of which kind, and which post."""

    kind: str
    key: str
    outcome: Failed | str | StoryShown


@dataclass
class Storyteller:
    """Called from the loop's thread; what is told to a forge is a job of `pool`, one for a task at a time."""

    root: Root
    clock: Clock
    ledger: Ledger
    pool: JobPool | Lanes
    projects: Mapping[str, Project]
    purse: Callable[[], Purse | None] = lambda: None
    _touched: set[str] = field(default_factory=set, init=False)
    _labelled: set[str] = field(default_factory=set, init=False)
    _labelling: dict[str, threading.Lock] = field(default_factory=dict, init=False)
    _not_before: dict[str, datetime] = field(default_factory=dict, init=False)

    def touch(self, task: TaskRecord) -> None:
        """Something about this task has changed: there may be something to tell.

        One that begins reserves money: for what is left others may have to wait now.
        """
        begins = task.state is State.ASSIGNED and bool(self.ledger.config.budgets)
        others = [t for t in self.ledger.tasks.values() if t.state is State.PENDING] if begins else []
        for changed in (task, *others):
            project = self.projects.get(changed.project)
            if project is not None and project.forge is not None:
                self._touched.add(changed.id)

    def look(self) -> None:
        """Start what is due to be told."""
        now, purse = self.clock.now(), cache(self.purse)
        for task_id in list(self._touched):
            task = self.ledger.tasks.get(task_id)
            if task is None or (task.ended and is_told(task, self._forge_of(task))):
                self._touched.discard(task_id)
            elif self._not_before.get(task.project, now) <= now and not self.pool.under_way(f"Tell:{task_id}"):
                self._tell(task, now, purse)

    def _forge_of(self, task: TaskRecord) -> str:
        return self.projects[task.project].settings.forge

    def _tell(self, task: TaskRecord, now: datetime, purse: Callable[[], Purse | None]) -> None:
        due = next_due(task, self._forge_of(task), now)
        if due is None:
            return
        work: Callable[[], Any]
        if due.post is not None:
            work = self._post(task, due.post)
        elif due.kind == "label":
            work = self._label(task)
        else:
            around = replace(self.ledger.surroundings(task), no_money=_lacking(task, purse))
            text = render_story(task, around, cost_usd=cost_usd(task, around.report))
            if text_hash(text) == task.story.applied:
                self._reads_the_same(task)
                return
            work = self._story(task, text)
        key = due.post.key if due.post is not None else ""
        self.pool.submit(f"Tell:{task.id}", partial(_named, due.kind, key, work))

    def _post(self, task: TaskRecord, post: Post) -> Callable[[], str]:
        """What was marked as being sent before this is looked for first."""
        if not post.sending:
            marked = tuple(p.evolve(sending=True) if p.key == post.key else p for p in task.posts)
            task = self.ledger.apply(Decision(task=task.evolve(posts=marked)))
            reach("forge.post_marked_sending")
        document = self.root.requests / f"{task.id}.md"
        return partial(say, self.projects[task.project], task, post, self.ledger.identity.id, document)

    def _story(self, task: TaskRecord, text: str) -> Callable[[], StoryShown]:
        """As a post, while there is no comment yet."""
        before = task.story
        if before.remote_id is None and not before.sending:
            task = self.ledger.apply(Decision(task=task.evolve(story=before.evolve(sending=True))))
            reach("forge.story_marked_sending")
        as_before = task.evolve(story=before)
        return partial(show_story, self.projects[task.project], as_before, text, self.ledger.identity.id)

    def _reads_the_same(self, task: TaskRecord) -> None:
        if task.story.life != task.life_now:
            self.ledger.apply(Decision(task=task.evolve(story=task.story.evolve(life=task.life_now))))
        elif not task.posts and not task.ended:
            self._touched.discard(task.id)  # (until something changes again)

    def _label(self, task: TaskRecord) -> Callable[[], str]:
        """Where one was being set before, nobody knows which of ours are there: all but the right one go."""
        unsure = task.label.sending
        if not unsure:
            task = self.ledger.apply(Decision(task=task.evolve(label=task.label.evolve(sending=True))))
        return partial(self._set_label, self.projects[task.project], task, unsure)

    def _set_label(self, project: Project, task: TaskRecord, unsure: bool) -> str:
        """Runs in a job. All labels are made once, before the first is set."""
        with self._labelling.setdefault(task.project, threading.Lock()):
            if project.forge is not None and task.project not in self._labelled:
                project.forge.ensure_labels(label_colours(project.settings))
                self._labelled.add(task.project)
        return show_label(project, task, state_label(task, project.settings.forge), unsure=unsure)

    def settle(self, task_id: str, told: Any) -> None:
        """What became of one thing that was to be told."""
        task = self.ledger.tasks.get(task_id)
        if task is None or not isinstance(told, _Told):
            return
        now, outcome = self.clock.now(), told.outcome
        reach("forge.told_before_record")
        if (rest := project_rest(outcome, now)) is not None:
            self._not_before[task.project] = rest
        if isinstance(outcome, StoryShown) or (isinstance(outcome, Failed) and told.kind == "story"):
            decision = settle_story(task, outcome, now)
        elif told.kind == "post":
            decision = settle_post(task, told.key, outcome, now)
        else:
            decision = settle_label(task, outcome, now)
        self.ledger.apply(decision)


def _lacking(task: TaskRecord, purse: Callable[[], Purse | None]) -> tuple[str, ...]:
    """The budgets that a pending task waits for, by name alone: sums would change the text all the time."""
    left = purse() if task.state is State.PENDING else None
    return tuple(f"the budget {budget.name}" for budget in left.lacking(task)) if left is not None else ()


def _named(kind: str, key: str, work: Callable[[], Any]) -> _Told:
    return _Told(kind, key, attempt_work(f"telling a {kind}", work))
