"""What a forge shows us, as values: issues, comments, reviews, requests, and who stands behind them.

Adapters of forges make these values; the decisions in this package are all that reads them. Everything a
person wrote (titles, bodies, names) is as it came: hostile until it has been cleaned at intake.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from agent_daemon.protocol.errors import Problem
from supervisor.core.record import Stored
from supervisor.core.times import duration
from supervisor.core.words import count

TriggerKind = Literal["label", "assignment", "review_request", "comment"]
Conclusion = Literal["pending", "success", "failure", "waiting"]


def text_digest(title: str, body: str) -> str:
    """The hash of an issue's text: what was approved is what is used."""
    return hashlib.sha256(f"{title}\0{body}".encode(errors="replace")).hexdigest()


NOBODY_KNOWN = "ghost"  # whom GitHub names where an account is gone


class Person(Stored):
    """Who did something, with the permission that the forge's API gave for them when it was asked.

    `can_write` may start and steer; `is_admin` may approve what asks for more. `is_self`: our own account.
    """

    login: str
    id: str = ""
    name: str = ""
    can_write: bool = False
    is_admin: bool = False
    is_bot: bool = False
    is_self: bool = False


class Trigger(Stored):
    """The newest event on an issue that asks for a run; `id` is the forge's own, so that it counts once.

    `cli` is the coding CLI that a comment names for it.
    """

    id: str
    kind: TriggerKind
    by: Person
    at: AwareDatetime
    cli: str = ""


class IssueSeen(Stored):
    """One issue, or one pull or merge request that we were asked to review.

    `ref` is its number. `trigger` is None where nothing asks for a run (any more). `editors` are all who changed
    title or text since it was approved or asked for, somebody unknown where the forge does not tell.
    `branch` and `base` are a request's; without `branch` it comes from another repository.
    """

    ref: str
    kind: Literal["issue", "request"] = "issue"
    url: str
    title: str
    body: str = ""
    labels: tuple[str, ...] = ()
    author: Person
    open: bool = True
    updated_at: AwareDatetime
    trigger: Trigger | None = None
    editors: tuple[Person, ...] = ()
    branch: str = ""
    base: str = ""


class CommentSeen(Stored):
    """One comment on an issue or request; `path` and `line` where it is on a line of a diff."""

    id: str
    issue: str
    kind: Literal["issue", "request"] = "issue"
    url: str = ""
    author: Person
    at: AwareDatetime
    body: str
    path: str | None = None
    line: int | None = None
    thread: str | None = None


class ReviewSeen(Stored):
    """One submitted review of a request with its comments: one follow-up, however many comments."""

    id: str
    request: int
    author: Person
    at: AwareDatetime
    verdict: Literal["approved", "changes_requested", "commented"]
    body: str = ""
    comments: tuple[CommentSeen, ...] = ()
    head: str = ""


class CheckSeen(Stored):
    """One check of continuous integration on a request's head; `summary` is the check's own text, clipped."""

    name: str
    conclusion: Conclusion
    url: str = ""
    summary: str = ""


class ForgeRequest(Stored):
    """A pull or merge request of ours as it stands; `mergeable` None: the forge has not worked it out yet."""

    number: int
    url: str
    branch: str
    base: str
    head: str
    state: Literal["open", "merged", "closed"]
    draft: bool = False
    mergeable: bool | None = None
    checks: tuple[CheckSeen, ...] = ()
    closed_by: Person | None = None


class Budget(Stored):
    """What is left of a forge's rate limit; `charged` counts the calls of ours that it counted since the start.

    `poll_seconds` is the least pause between polls, where the forge asks for one.
    """

    limit: int | None = None
    remaining: int | None = None
    resets_at: AwareDatetime | None = None
    calls: int = 0
    charged: int = 0
    poll_seconds: float | None = None


# GitHub bears 900 points a minute, a read being one of them: a third of it, and some at once after a pause.
_CALLS_A_SECOND = 5.0
CALLS_AT_ONCE = 225.0
_LONGEST_REST_SECONDS = 300.0


def calls_left(left: float, calls: int, passed: timedelta) -> float:
    """How many calls an account may make at once now, after some in that time; below zero it rests."""
    refilled = min(left + passed.total_seconds() * _CALLS_A_SECOND, CALLS_AT_ONCE)
    return max(refilled - max(calls, 0), -_LONGEST_REST_SECONDS * _CALLS_A_SECOND)


def rest_after(left: float) -> timedelta:
    """For how long a forge is not read again."""
    return timedelta(seconds=max(0.0, -left / _CALLS_A_SECOND))


def budget_line(budget: Budget, now: datetime) -> str:
    """What is left of a rate limit, in words; empty where nothing is known."""
    used = f"{count(budget.calls, 'call')} made, {budget.charged} charged" if budget.calls else ""
    if budget.limit is None or budget.remaining is None:
        return used
    if budget.resets_at is not None and budget.resets_at <= now:
        left = f"{budget.limit} calls left"  # (a new period has begun, of which nothing was told yet)
    else:
        left = f"{budget.remaining} of {budget.limit} calls left"
        if budget.resets_at is not None:
            left += f" for {duration((budget.resets_at - now).total_seconds())}"
    return f"{left}; {used}" if used else left


def is_scarce(budget: Budget, now: datetime) -> bool:
    """Whether less than a tenth of a rate limit is left, for now."""
    if budget.limit is None or budget.remaining is None:
        return False
    return budget.remaining < budget.limit / 10 and (budget.resets_at is None or budget.resets_at > now)


class Cursor(Stored):
    """How far a project has been read: kept in `state/projects/<project>.yaml`, safe to lose (all is read anew).

    `tags` holds the entity tag of each read by its path and parameters; they belong to `token_generation`.
    `since` is, for each kind of list, the newest time that was taken in; `marks` the highest number, where a
    forge's numbers only grow.
    """

    token_generation: str = ""
    tags: dict[str, str] = Field(default_factory=dict)
    since: dict[str, AwareDatetime] = Field(default_factory=dict)
    marks: dict[str, int] = Field(default_factory=dict)


class Watched(Stored):
    """What a poll must look at for the live tasks of a project, besides what is new.

    `issues`: the issues that tasks came from, each with the hash of the text that was approved (`text_digest`),
    and in `since` when it was, so that who changed it is asked for only where it differs. `triggers`: what each of
    them was started by, which asks for nothing more. `requests`: our open requests, each with the head that was
    seen last, for its checks. `ended`: requests whose tasks have ended, where people may still speak to us.
    """

    issues: dict[str, str] = Field(default_factory=dict)
    since: dict[str, AwareDatetime] = Field(default_factory=dict)
    triggers: dict[str, str] = Field(default_factory=dict)
    requests: dict[int, str] = Field(default_factory=dict)
    ended: frozenset[int] = frozenset()


class ForgeNews(Stored):
    """What one poll found. Everything may come again: each thing counts once, by its id."""

    issues: tuple[IssueSeen, ...] = ()
    comments: tuple[CommentSeen, ...] = ()
    reviews: tuple[ReviewSeen, ...] = ()
    requests: tuple[ForgeRequest, ...] = ()
    problems: tuple[Problem, ...] = ()
    cursor: Cursor = Cursor()
    budget: Budget = Budget()


class RequestText(Stored):
    """What a pull or merge request is to say and be."""

    branch: str
    base: str
    title: str
    body: str
    draft: bool
    reviewers: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


class Finding(Stored):
    """One thing that a check of a project's access found; `mend` says what to do where it is not `ok`.

    A lack that is not `grave` leaves tasks possible.
    """

    what: str
    ok: bool
    message: str = ""
    mend: str = ""
    grave: bool = True

    @property
    def status(self) -> Literal["ok", "warning", "error"]:
        return "ok" if self.ok else "error" if self.grave else "warning"
