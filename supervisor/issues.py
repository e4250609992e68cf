"""What is read on forges becomes decisions about tasks: issues, comments, reviews, requests."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from loguru import logger

from agent_daemon.failpoints import reach
from supervisor.clock import Clock
from supervisor.core.commands import MAX_APPLIED, CommandRefusedError, apply_command
from supervisor.core.comments import command_of, comment_key
from supervisor.core.decision import Decision, Event, Failed, problem_details
from supervisor.core.explain import headline
from supervisor.core.forge import (
    CommentSeen,
    ForgeNews,
    IssueSeen,
    Person,
    ReviewSeen,
    Trigger,
    Watched,
)
from supervisor.core.issue_intake import is_allowed, take_issue, task_id_of
from supervisor.core.record import TaskRecord
from supervisor.core.render import one_line_code
from supervisor.core.replying import CLOSED, DAMAGED, posts_of, reply_to
from supervisor.core.request_news import take_request, take_review
from supervisor.core.slash import VERBS, Slash, parse_slash, render_help, render_lack, with_warning
from supervisor.core.telling import answer, summary
from supervisor.desks import Desk
from supervisor.ledger import Ledger
from supervisor.pool import JobPool, Lanes


@dataclass
class Issues:
    """Reads each project's forge, and takes in what is new. Called from the loop's thread; reads are jobs."""

    clock: Clock
    ledger: Ledger
    pool: JobPool | Lanes
    desks: Mapping[str, Desk]

    # --- reading ----------------------------------------------------------------------------------------

    def poll(self, name: str, *, by_timer: bool) -> None:
        """Ask what is new; while nothing happens the timer is heeded more rarely."""
        desk = self.desks.get(name)
        if desk is None:
            return
        busy = any(task.project == name for task in self.ledger.tasks.values())
        if not desk.is_due(self.clock.now(), by_timer=by_timer, busy=busy):
            return
        watched, forge = self._watched(name, desk), desk.project.forge
        assert forge is not None  # noqa: S101 (only such projects have a desk)
        if not self.pool.submit(f"Read:{name}", partial(forge.read, desk.state.cursor, watched)) and not by_timer:
            desk.again = True

    def look(self) -> None:
        """Ask where somebody wanted to know what is new while a forge was let rest."""
        now = self.clock.now()
        for name, desk in self.desks.items():
            if desk.again and desk.rests_until is not None and now >= desk.rests_until:
                desk.again, desk.rests_until = False, None
                self.poll(name, by_timer=False)

    def _watched(self, name: str, desk: Desk) -> Watched:
        tasks = [task for task in self.ledger.tasks.values() if task.project == name and not task.ended]
        sources = {task.source.ref: task.source for task in tasks if task.source.kind == "issue"}
        requests = {
            task.request.number: task.request.head
            for task in tasks
            if task.request is not None and task.request.number is not None and task.request.state == "open"
        }
        return Watched(
            issues={ref: source.text_hash for ref, source in sources.items()},
            since={ref: source.approved_at for ref, source in sources.items() if source.approved_at is not None},
            triggers={ref: source.trigger for ref, source in sources.items() if source.trigger is not None},
            requests=requests,
            ended=frozenset(map(int, desk.state.requests)) - requests.keys(),
        )

    def settle_read(self, name: str, outcome: Any) -> None:
        """Take in what a poll found. The cursor goes on only when all of it was taken in."""
        desk = self.desks[name]
        now = self.clock.now()
        if isinstance(outcome, Failed):
            self._failed(name, desk, outcome, now)
            return
        if not isinstance(outcome, ForgeNews):
            return
        if desk.state.problem:
            self.ledger.log(Event(name="forge.recovered", details={"project": name}))
        before = desk.state
        desk.note_read(outcome.budget, now)
        reach("forge.news_before_record")
        for problem in outcome.problems:
            self.ledger.log(Event(name="input.refused", details=problem_details(problem)))
        self._take_in(name, desk, outcome, now)
        reach("forge.news_before_cursor")
        desk.state = desk.state.evolve(cursor=outcome.cursor)
        if outcome.issues or outcome.comments or outcome.reviews or outcome.requests or desk.news_at is None:
            desk.news_at = now
        desk.keep(before, now)
        if desk.again:
            desk.again = False
            self.poll(name, by_timer=False)

    def _failed(self, name: str, desk: Desk, failed: Failed, now: datetime) -> None:
        """Told once; agents go on, and what is to be told waits in the records."""
        if desk.note_failure(failed, now):
            details = {"project": name, "code": failed.code, "message": failed.message}
            self.ledger.log(Event(name="forge.not_read", details=details))

    def _take_in(self, name: str, desk: Desk, news: ForgeNews, now: datetime) -> None:
        """Requests first: an issue that a merge has closed is no cancellation."""
        by_request = {
            task.request.number: task.id
            for task in self.ledger.tasks.values()
            if task.project == name and task.request is not None and task.request.number is not None
        }
        desk.state = desk.state.know(by_request)
        for seen in news.requests:
            task = self.ledger.tasks.get(by_request.get(seen.number, ""))
            if task is not None:
                with self._alone(name, f"request {seen.number}"):
                    self._apply(take_request(task, seen, desk.settings.request, now))
        for review in news.reviews:
            with self._alone(name, f"review {review.id}"):
                self._take_review(desk, review, by_request.get(review.request), now)
        for issue in news.issues:
            with self._alone(name, f"{issue.kind} {issue.ref}"):
                self._take_issue(name, desk, issue, now)
        issues = {issue.ref: issue for issue in news.issues if issue.kind == "issue"}
        for comment in sorted(news.comments, key=lambda comment: (comment.at, comment.id)):
            task_id = f"{name}.{comment.issue}"
            if comment.kind == "request":
                task_id = desk.state.requests.get(comment.issue, f"{name}.pr{comment.issue}")
            with self._alone(name, f"comment {comment.id}"):
                self._take_comment(name, desk, comment, task_id, issues.get(comment.issue), now)

    @contextmanager
    def _alone(self, name: str, what: str) -> Iterator[None]:
        """One thing that a mistake of ours keeps from being taken in keeps no other from that.

        A disk that refuses ends it: all of it comes again.
        """
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            logger.exception("E_BUG in taking in {} of {}", what, name)
            message = f"taking in {what} of {name}: {type(error).__name__}: {error}"
            self.ledger.log(Event(name="supervisor.bug", details={"code": "E_BUG", "message": message}))

    def _is_damaged(self, task_id: str) -> bool:
        """Whether nobody can tell what became of this task: that is told, and it is not begun a second time."""
        why = self.ledger.damage_of(task_id)
        if why:
            mend = "mend the record, or delete it; then ask again"
            details = {"code": "E_RECORD_DAMAGED", "message": f"{task_id} is not taken in: {why}", "mend": mend}
            self.ledger.log(Event(name="input.refused", details=details))
        return bool(why)

    def _apply(self, decision: Decision) -> TaskRecord:
        self.ledger.revive(decision.task.id)
        return self.ledger.apply(decision)

    def _take_issue(self, name: str, desk: Desk, issue: IssueSeen, now: datetime) -> str:
        """Why it was not taken in, where something asked for that and was refused."""
        task_id = task_id_of(name, issue)
        if self._is_damaged(task_id):
            return ""
        found = take_issue(issue, self.ledger.find(task_id), name, self.ledger.config, now)
        if isinstance(found, Decision):
            self._apply(found)
        elif found is not None and issue.trigger is not None:
            key = f"trigger-{issue.trigger.id}"
            if key not in desk.state.heard:
                self.ledger.log(replace(found, details={"project": name} | found.details))
                desk.state = desk.state.hear(key)
            return one_line_code(str(found.details["message"]))
        return ""

    def _refuse(self, desk: Desk, key: str, ref: str, by: Person, task: TaskRecord | None) -> None:
        details = {"project": desk.name, "ref": ref, "message": f"{by.login} may not steer"}
        self.ledger.log(Event(name="command.refused", details=details, actor=by.login), task)
        desk.state = desk.state.hear(key)

    def _take_review(self, desk: Desk, review: ReviewSeen, task_id: str | None, now: datetime) -> None:
        """What was remarked, and a command in it. It is heard when it was taken in, not before."""
        task, key = self.ledger.tasks.get(task_id or ""), f"review-{review.id}"
        if task is None or key in desk.state.heard:
            return
        if not is_allowed(review.author, desk.settings.trigger):
            self._refuse(desk, key, str(review.request), review.author, task)
            return
        slash = parse_slash(review.body)
        remarks = review.evolve(body="") if slash is not None else review
        if key not in task.applied_commands:
            heard = task.evolve(applied_commands=(*task.applied_commands, key)[-MAX_APPLIED:])
            task = self._apply(take_review(heard, remarks, now))
        if slash is not None:
            comment = CommentSeen(
                id=key,
                issue=str(review.request),
                kind="request",
                author=review.author,
                at=review.at,
                body=review.body,
            )
            self._command(slash, comment, task, now)
        desk.state = desk.state.hear(key)

    # --- comments ---------------------------------------------------------------------------------------

    def _take_comment(
        self, name: str, desk: Desk, comment: CommentSeen, task_id: str, issue: IssueSeen | None, now: datetime
    ) -> None:
        """It is heard when it was carried out; one whose issue has not been read yet comes again with it."""
        slash, key = parse_slash(comment.body), comment_key(comment)
        if slash is None or key in desk.state.heard:
            return
        if not is_allowed(comment.author, desk.settings.trigger):
            self._refuse(desk, key, comment.issue, comment.author, self.ledger.tasks.get(task_id))
            return
        if self._is_damaged(task_id):
            self._reply(desk, comment, DAMAGED, "confused")
        elif (task := self.ledger.find(task_id)) is not None:
            self._command(slash, comment, task, now)
        elif slash.verb == "run" and comment.kind == "issue":
            if issue is None:
                return
            asked = Trigger(id=key, kind="comment", by=comment.author, at=comment.at, cli=slash.word)
            refused = self._take_issue(name, desk, issue.evolve(trigger=asked), now)
            refused = refused or ("" if issue.open else CLOSED)
            if refused:
                self._reply(desk, comment, refused, "confused")
        else:
            helped = f"helped-{comment.kind}-{comment.issue}"
            text, emoji = reply_to(slash, comment, desk.settings.trigger, helped=helped in desk.state.heard)
            self._reply(desk, comment, text, emoji)
            if not slash.verb and slash.word not in VERBS:
                desk.state = desk.state.hear(helped)
        desk.state = desk.state.hear(key)

    def _reply(self, desk: Desk, comment: CommentSeen, text: str, emoji: str) -> None:
        desk.state = desk.state.reply(posts_of(comment, text, emoji))

    def _command(self, slash: Slash, comment: CommentSeen, task: TaskRecord, now: datetime) -> None:
        """Carry out what somebody who may steer asks for, and answer on the comment."""
        if comment_key(comment) in task.applied_commands:
            return
        elsewhere = comment.kind == "request" and task.source.kind != "request"
        text, emoji, after = "", "+1", Decision(task=task)
        if not slash.verb:
            text, emoji = _help_once(task, slash.word), "confused"
            if slash.word not in VERBS:
                after = Decision(task=task.evolve(metadata=task.metadata | {"helped": "yes"}))
        elif slash.verb == "help":
            text = render_help()
        elif slash.verb == "status":
            text = summary(task, headline(task, self.ledger.surroundings(task)))
        else:
            clis = self.ledger.config.clis_for(task.project, task.specialist)
            try:
                after = apply_command(task, command_of(slash, comment, task, clis, now), now)
            except CommandRefusedError as refusal:
                text, emoji = one_line_code(str(refusal)), "confused"
        applied = dict.fromkeys((*after.task.applied_commands, comment_key(comment)))
        heard = after.task.evolve(applied_commands=tuple(applied)[-MAX_APPLIED:])
        target = None if comment.id.startswith("review-") else comment.id
        text = with_warning(text, slash)
        request = int(comment.issue) if elsewhere else None
        self._apply(Decision(task=answer(heard, target, text, emoji, request=request), events=after.events))


def _help_once(task: TaskRecord, word: str) -> str:
    """An unknown command gets help once on each task; who asks for it gets it every time."""
    if word in VERBS:
        return render_lack(word)
    return "" if task.metadata.get("helped") else f"There is no such command here.\n\n{render_help()}"
