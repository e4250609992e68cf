"""GitLab's JSON as our values."""

from collections.abc import Mapping
from typing import Any

from supervisor.core.forge import CheckSeen, CommentSeen, Conclusion, ForgeRequest, Person
from supervisor.forges.client import time_of

_DRAFT = ("draft:", "[draft]", "(draft)")
_PIPELINES: dict[str, Conclusion] = {
    "success": "success",
    "skipped": "success",
    "failed": "failure",
    "manual": "waiting",  # (a person starts it: no failure of the work)
    "scheduled": "waiting",
    "canceled": "waiting",
}
_MERGEABLE = {"can_be_merged": True, "cannot_be_merged": False}
_MAX_SUMMARY_CHARACTERS = 4000
_STATES = {"opened": "open", "merged": "merged", "locked": "open"}


def login_of(data: Mapping[str, Any], key: str = "author") -> str:
    return str((data.get(key) or {}).get("username") or "ghost")


def plain_title(title: str) -> str:
    """A merge request's title without the mark of a draft."""
    text = title.strip()
    found = next((mark for mark in _DRAFT if text.lower().startswith(mark)), "")
    return text[len(found) :].strip()


def comment_of(data: Mapping[str, Any], author: Person, url: str, thread: str | None = None) -> CommentSeen:
    """A note of an issue or merge request; `url` is that of what it stands on."""
    position = data.get("position") or {}
    line = position.get("new_line") or position.get("old_line")
    return CommentSeen(
        id=str(data["id"]),
        issue=str(data["noteable_iid"]),
        kind="request" if data.get("noteable_type") == "MergeRequest" else "issue",
        url=f"{url}#note_{data['id']}",
        author=author,
        at=time_of(data["created_at"]),
        body=str(data.get("body") or ""),
        path=position.get("new_path") or position.get("old_path"),
        line=int(line) if line else None,
        thread=thread,
    )


def request_of(data: Mapping[str, Any]) -> ForgeRequest:
    """A merge request with the newest pipeline of its head as its one check."""
    pipeline = data.get("head_pipeline")
    checks: tuple[CheckSeen, ...] = ()
    if pipeline and pipeline.get("sha") == data.get("sha"):
        conclusion = _PIPELINES.get(str(pipeline["status"]), "pending")
        name = f"pipeline {pipeline['id']}"
        checks = (CheckSeen(name=name, conclusion=conclusion, url=str(pipeline.get("web_url") or "")),)
    state = _STATES.get(str(data["state"]), "closed")
    return ForgeRequest(
        number=int(data["iid"]),
        url=str(data["web_url"]),
        branch=str(data["source_branch"]),
        base=str(data["target_branch"]),
        head=str(data.get("sha") or ""),
        state="open" if state == "open" else "merged" if state == "merged" else "closed",
        draft=bool(data.get("draft")),
        mergeable=_MERGEABLE.get(str(data.get("merge_status"))),
        checks=checks,
    )


def job_of(data: Mapping[str, Any]) -> CheckSeen:
    """A job that failed, as the statuses of its commit list it."""
    summary = str(data.get("description") or "")[:_MAX_SUMMARY_CHARACTERS]
    url = str(data.get("target_url") or "")
    return CheckSeen(name=str(data["name"])[:200], conclusion="failure", url=url, summary=summary)
