"""GitHub's JSON as our values. A missing or odd field is an answer that makes no sense, not a crash."""

from collections.abc import Mapping
from typing import Any

from supervisor.core.forge import CheckSeen, CommentSeen, ForgeRequest, Person
from supervisor.forges.client import time_of

_MAX_SUMMARY_CHARACTERS = 4000
_CONCLUSIONS = {
    "success": "success",
    "neutral": "success",
    "skipped": "success",
    "action_required": "waiting",  # (a person lets the workflow run first: no failure of the work)
    "cancelled": "waiting",  # (by a person, or for the sake of another run)
    "stale": "waiting",
}
_VERDICTS = {"APPROVED": "approved", "CHANGES_REQUESTED": "changes_requested"}


def login_of(data: Mapping[str, Any], key: str = "user") -> str:
    """The login in `data[key]`; GitHub answers null for deleted accounts."""
    user = data.get(key) or {}
    return str(user.get("login") or "ghost")


def is_bot(data: Mapping[str, Any], key: str = "user") -> bool:
    return (data.get(key) or {}).get("type") == "Bot"


def verdict_of(state: str) -> str:
    return _VERDICTS.get(state, "commented")


def issue_number(comment: Mapping[str, Any]) -> str:
    """The issue or request that a comment stands on, from its address."""
    return str(comment["issue_url"]).rstrip("/").rpartition("/")[2]


def comment_of(data: Mapping[str, Any], author: Person) -> CommentSeen:
    """A comment of an issue's or a request's conversation."""
    kind = "request" if "/pull/" in str(data.get("html_url", "")) else "issue"
    return CommentSeen(
        id=str(data["id"]),
        issue=issue_number(data),
        kind="request" if kind == "request" else "issue",
        url=str(data.get("html_url", "")),
        author=author,
        at=time_of(data["created_at"]),
        body=str(data.get("body") or ""),
    )


def review_comment_of(data: Mapping[str, Any], author: Person, number: int) -> CommentSeen:
    """A comment on a line of a request's diff; its thread is that of the comment it replies to."""
    line = data.get("line") or data.get("original_line")
    return CommentSeen(
        id=str(data["id"]),
        issue=str(number),
        kind="request",
        url=str(data.get("html_url", "")),
        author=author,
        at=time_of(data["created_at"]),
        body=str(data.get("body") or ""),
        path=str(data["path"]),
        line=int(line) if line else None,
        thread=str(data.get("in_reply_to_id") or data["id"]),
    )


def request_of(data: Mapping[str, Any], checks: tuple[CheckSeen, ...] = ()) -> ForgeRequest:
    merged = bool(data.get("merged") or data.get("merged_at"))
    closed = "merged" if merged else "closed"
    return ForgeRequest(
        number=int(data["number"]),
        url=str(data["html_url"]),
        branch=str(data["head"]["ref"]),
        base=str(data["base"]["ref"]),
        head=str(data["head"]["sha"]),
        state="open" if data["state"] == "open" else "merged" if closed == "merged" else "closed",
        draft=bool(data.get("draft")),
        mergeable=data.get("mergeable"),
        checks=checks,
    )


def check_of(data: Mapping[str, Any]) -> CheckSeen:
    """A check run; one that is not completed is pending."""
    output = data.get("output") or {}
    found = str(data.get("conclusion") or "")
    conclusion = _CONCLUSIONS.get(found, "failure") if data.get("status") == "completed" else "pending"
    text = "\n".join(str(output[key]) for key in ("title", "summary") if output.get(key))
    return CheckSeen(
        name=str(data["name"])[:200],
        conclusion=conclusion,
        url=str(data.get("html_url") or ""),
        summary=text[:_MAX_SUMMARY_CHARACTERS],
    )


def status_of(data: Mapping[str, Any]) -> CheckSeen:
    """A commit status, the older form of a check."""
    states = {"success": "success", "pending": "pending"}
    return CheckSeen(
        name=str(data["context"])[:200],
        conclusion=states.get(str(data["state"]), "failure"),
        url=str(data.get("target_url") or ""),
        summary=str(data.get("description") or "")[:_MAX_SUMMARY_CHARACTERS],
    )
