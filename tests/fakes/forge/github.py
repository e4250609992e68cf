"""A small GitHub: issues, comments, labels, permissions, pull requests, reviews, checks, an App, GraphQL's few.

    with GitHub(Contract(...)) as hub:
        hub.add_repository("acme/app", bare)
        hub.add_person("ada", token="t1", permissions={"acme/app": "write"})
        issue = hub.open_issue("acme/app", "ada", "Fix it", "…", labels=["cloud-code"])

What a person does on the web site is a method here (`open_issue`, `add_label`, `comment`, `submit_review`,
`merge`, `close`, `rename`); what a program does comes in over HTTP, through the same state.
"""

import hashlib
import hmac
import json
import re
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.fakes.forge import github_shapes as shapes
from tests.fakes.forge.contract import Contract
from tests.fakes.forge.secondary import SecondaryLimit
from tests.fakes.forge.server import Call, Forge, RefusedError, Reply, newest_first, now, page_of, route

_R = "/repos/{owner}/{name}"
_LEVELS = {"none": 0, "read": 1, "triage": 2, "write": 3, "maintain": 4, "admin": 5}
_LEGACY = {"triage": "read", "maintain": "write"}
# What an App's installation may, unless a test changes it.
PERMISSIONS = {
    "contents": "write",
    "issues": "write",
    "pull_requests": "write",
    "checks": "read",
    "statuses": "read",
    "metadata": "read",
}
# Exchanges that the description does not know although GitHub and PyGithub have them.
ALLOWED_VIOLATIONS = (
    r"^POST /repos/\{owner\}/\{repo\}/issues/\{issue_number\}/labels: request",  # (a bare array is sent)
    r"^PUT /repos/\{owner\}/\{repo\}/issues/\{issue_number\}/labels: request",
    r": status (301|304|307|401|403|429|502) is not in the description",
    r"^POST /repos/\{owner\}/\{repo\}/pulls/\{pull_number\}/requested_reviewers: answer",
    r"^GET /api/v3/repos/[^/]+/[^/]+/hooks: not in the description",  # (not among those that were kept)
)


class GitHub(Forge):
    """See the module. With a `secondary` limit, who goes too fast is refused for a while."""

    prefix = "/api/v3"

    def __init__(self, contract: Contract | None = None, rate_limit: int = 5000) -> None:
        super().__init__(contract, rate_limit)
        self.secondary: SecondaryLimit | None = None
        self.people: dict[str, dict[str, Any]] = {}
        self.repos: dict[str, dict[str, Any]] = {}
        self.moved: dict[str, str] = {}
        self.apps: dict[str, dict[str, Any]] = {}
        self.scopes: dict[str, str] = {}  # (of classic tokens; others do not tell theirs)

    # --- set up ---------------------------------------------------------------------------------------

    def add_person(self, login: str, token: str = "", permissions: dict[str, str] | None = None) -> str:
        """An account; `permissions` maps a repository to none, read, triage, write, maintain or admin."""
        with self.lock:
            self.people.setdefault(login, {"id": self.next_id(), "permissions": {}})
            self.people[login]["permissions"].update(permissions or {})
            if token:
                self.tokens[token] = login
        return login

    def add_repository(self, full_name: str, bare: Path, default_branch: str = "main") -> None:
        with self.lock:
            self.add_person(full_name.split("/")[0])
            self.repositories[full_name] = bare
            self.repos[full_name] = {
                "id": self.next_id(),
                "default_branch": default_branch,
                "created_at": now(),
                "issues": {},
                "comments": {},
                "events": [],
                "labels": {},
                "pulls": {},
                "reviews": {},
                "review_comments": {},
                "checks": [],
                "statuses": [],
                "reactions": [],
                "hooks": [],
                "shown": {},
            }

    def add_app(self, app_id: str, slug: str, repositories: list[str]) -> str:
        """A GitHub App installed on these repositories; its bot is `slug[bot]`.

        `apps[app_id]` holds what its installation may, and since when it is suspended: to be changed by tests.
        """
        bot = self.add_person(f"{slug}[bot]", permissions=dict.fromkeys(repositories, "write"))
        self.apps[app_id] = {
            "slug": slug,
            "bot": bot,
            "repositories": repositories,
            "installation": self.next_id(),
            "permissions": dict(PERMISSIONS),
            "suspended_at": None,
        }
        return bot

    def rename(self, old: str, new: str) -> None:
        """Rename or transfer a repository: its old name answers 301 or 307 from now on."""
        with self.lock:
            self.repos[new], self.repositories[new] = self.repos.pop(old), self.repositories[old]
            self.moved[old] = new
            for person in self.people.values():
                if old in person["permissions"]:
                    person["permissions"][new] = person["permissions"].pop(old)

    # --- what people do on the site -----------------------------------------------------------------------

    def open_issue(
        self, repo: str, login: str, title: str, body: str = "", labels: list[str] | None = None
    ) -> int:
        with self.lock:
            number = self._new_number(repo)
            self.repos[repo]["issues"][number] = self._issue(number, login, title, body)
            self._tell(repo, "issues", "opened", number, login)
        for name in labels or ():
            self.add_label(repo, number, login, name)
        return number

    def add_label(self, repo: str, number: int, login: str, name: str) -> None:
        with self.lock:
            issue = self._issue_or_pull(repo, number)
            self._label(repo, name)
            if name not in issue["labels"]:
                issue["labels"].append(name)
                shown = {"name": name, "color": self.repos[repo]["labels"][name]["color"]}
                self._event(repo, number, login, "labeled", label=shown)
                self._tell(repo, "issues", "labeled", number, login, label=shown)

    def remove_label(self, repo: str, number: int, login: str, name: str) -> None:
        with self.lock:
            issue = self._issue_or_pull(repo, number)
            if name not in issue["labels"]:
                raise RefusedError(404, {"message": "Label does not exist"})
            issue["labels"].remove(name)
            shown = {"name": name, "color": self.repos[repo]["labels"][name]["color"]}
            self._event(repo, number, login, "unlabeled", label=shown)
            self._tell(repo, "issues", "unlabeled", number, login, label=shown)

    def assign(self, repo: str, number: int, login: str, assignee: str) -> None:
        with self.lock:
            self._issue_or_pull(repo, number)["assignees"].append(assignee)
            extra = {"assignee": self.user(assignee), "assigner": self.user(login)}
            self._event(repo, number, login, "assigned", **extra)
            self._tell(repo, "issues", "assigned", number, login)

    def edit_issue(self, repo: str, number: int, login: str, **changes: Any) -> None:
        """Change title or body. GitHub tells who did so for titles (`renamed`) only."""
        with self.lock:
            issue = self._issue_or_pull(repo, number)
            before = issue["title"]
            issue.update(changes)
            if issue["title"] != before:
                self._event(repo, number, login, "renamed", rename={"from": before, "to": issue["title"]})
            issue["updated_at"] = now()
            if "body" in changes:  # (who changed a title stands in its event alone)
                issue["edits"] = issue["edits"] or [(issue["by"], issue["created_at"])]  # (how it was written)
                issue["edits"].append((login, now()))
            self._tell(repo, "issues", "edited", number, login)

    def close(self, repo: str, number: int, login: str) -> None:
        with self.lock:
            issue = self._issue_or_pull(repo, number)
            issue["state"], issue["closed_at"], issue["updated_at"] = "closed", now(), now()
            issue["closed_by"] = login
            self._event(repo, number, login, "closed", state_reason=None)
            kind = "pull_request" if number in self.repos[repo]["pulls"] else "issues"
            self._tell(repo, kind, "closed", number, login)

    def comment(self, repo: str, number: int, login: str, body: str) -> int:
        with self.lock:
            entry = {
                "id": self.next_id(),
                "issue": number,
                "body": body,
                "by": login,
                "created_at": now(),
                "updated_at": now(),
            }
            self.repos[repo]["comments"][entry["id"]] = entry
            self._issue_or_pull(repo, number)["updated_at"] = now()
            (shown,) = self._comments(repo, [entry])
            self._tell(repo, "issue_comment", "created", number, login, comment=shown)
            return int(entry["id"])

    def submit_review(
        self,
        repo: str,
        number: int,
        login: str,
        state: str = "COMMENTED",
        body: str = "",
        comments: list[tuple[str, int, str]] | None = None,
    ) -> int:
        """One review with comments of (path, line, text)."""
        with self.lock:
            head = self._head(repo, number)
            entry = {
                "id": self.next_id(),
                "number": number,
                "by": login,
                "state": state,
                "body": body,
                "submitted_at": now(),
                "commit_id": head,
            }
            self.repos[repo]["reviews"][entry["id"]] = entry
            for path, line, text in comments or ():
                self._review_comment(repo, number, login, text, path=path, line=line, review=entry["id"])
            self.repos[repo]["pulls"][number]["updated_at"] = now()
            self.repos[repo]["issues"][number]["updated_at"] = now()
            shown = shapes.review(self.origin, repo, entry, self.user(login))
            self._tell(repo, "pull_request_review", "submitted", number, login, review=shown)
            return int(entry["id"])

    def open_pull(self, repo: str, login: str, head: str, base: str, title: str, body: str = "") -> int:
        """A pull request between two branches of the repository."""
        with self.lock:
            number = self._new_number(repo)
            self.repos[repo]["issues"][number] = self._issue(number, login, title, body)
            self.repos[repo]["pulls"][number] = {
                "head": head,
                "base": base,
                "draft": False,
                "head_sha": self.git(repo, "rev-parse", f"refs/heads/{head}"),
                "merged": False,
                "merged_by": None,
                "merged_at": None,
                "reviewers": [],
                "updated_at": now(),
            }
            self._tell(repo, "pull_request", "opened", number, login)
            return number

    def add_check(self, repo: str, sha: str, name: str, conclusion: str | None, summary: str = "") -> None:
        """A check run on a commit; no conclusion means that it is under way."""
        with self.lock:
            self.repos[repo]["checks"].append(
                {
                    "id": self.next_id(),
                    "head_sha": sha,
                    "name": name,
                    "status": "completed" if conclusion else "in_progress",
                    "conclusion": conclusion,
                    "title": name,
                    "summary": summary,
                    "started_at": now(),
                }
            )

    def merge(self, repo: str, number: int, login: str) -> None:
        """Merge a pull request: the base branch on disk gets its head."""
        with self.lock:
            pull, issue = self.repos[repo]["pulls"][number], self._issue_or_pull(repo, number)
            head = self._head(repo, number)
            self.git(repo, "update-ref", f"refs/heads/{pull['base']}", head)
            issue["state"], issue["closed_at"], issue["updated_at"] = "closed", now(), now()
            pull.update(merged=True, merged_by=login, merged_at=now())
            self._event(repo, number, login, "merged")
            self._tell(repo, "pull_request", "closed", number, login)

    def register_hook(self, repo: str, url: str, **changes: Any) -> None:
        """A webhook as its settings show it, answered well the last time; `hooks` is what is delivered to."""
        made = {
            "type": "Repository",
            "id": self.next_id(),
            "name": "web",
            "active": True,
            "events": ["*"],
            "config": {"content_type": "json", "insecure_ssl": "0", "url": url},
            "created_at": now(),
            "updated_at": now(),
            "last_response": {"code": 202, "status": "active", "message": "OK"},
        }
        with self.lock:
            self.repos[repo]["hooks"].append(made | changes)

    def request_review(self, repo: str, number: int, login: str, reviewer: str) -> None:
        with self.lock:
            self.repos[repo]["pulls"][number]["reviewers"].append(reviewer)
            extra = {"requested_reviewer": self.user(reviewer), "review_requester": self.user(login)}
            self._event(repo, number, login, "review_requested", **extra)

    # --- state ------------------------------------------------------------------------------------------

    def user(self, login: str) -> dict[str, Any]:
        return shapes.user(self.origin, login, self.people[login]["id"])

    def level(self, login: str, repo: str) -> str:
        if login not in self.people:
            return "none"
        owner = repo.split("/")[0] == login
        return "admin" if owner else str(self.people[login]["permissions"].get(repo, "none"))

    def _new_number(self, repo: str) -> int:
        return max((*self.repos[repo]["issues"], *self.repos[repo]["pulls"]), default=0) + 1

    def _issue(self, number: int, login: str, title: str, body: str) -> dict[str, Any]:
        return {
            "id": self.next_id(),
            "number": number,
            "by": login,
            "title": title,
            "body": body,
            "labels": [],
            "assignees": [],
            "state": "open",
            "created_at": now(),
            "updated_at": now(),
            "closed_at": None,
            "closed_by": None,
            "edits": [],
        }

    def _issue_or_pull(self, repo: str, number: int) -> dict[str, Any]:
        state = self.repos[repo]
        if number in state["issues"]:
            found: dict[str, Any] = state["issues"][number]
            return found
        raise self.not_found()

    def _label(self, repo: str, name: str, color: str = "ededed", description: str | None = None) -> None:
        labels = self.repos[repo]["labels"]
        labels.setdefault(name, {"id": self.next_id(), "name": name, "color": color, "description": description})

    def _event(self, repo: str, number: int, login: str, name: str, **extra: Any) -> None:
        self.repos[repo]["events"].append(
            {
                "id": self.next_id(),
                "issue": number,
                "by": login,
                "event": name,
                "created_at": now(),
                "extra": extra,
            }
        )
        self._issue_or_pull(repo, number)["updated_at"] = now()

    def _head(self, repo: str, number: int) -> str:
        pull = self.repos[repo]["pulls"][number]
        return self.git(repo, "rev-parse", "--verify", "--quiet", f"refs/heads/{pull['head']}") or pull["head_sha"]

    def _review_comment(self, repo: str, number: int, login: str, text: str, **fields: Any) -> dict[str, Any]:
        entry = {
            "id": self.next_id(),
            "number": number,
            "by": login,
            "body": text,
            "path": fields["path"],
            "line": fields["line"],
            "review": fields["review"],
            "reply_to": fields.get("reply_to"),
            "commit_id": self._head(repo, number),
            "created_at": now(),
        }
        self.repos[repo]["review_comments"][entry["id"]] = entry
        return entry

    # --- webhooks -----------------------------------------------------------------------------------------

    def _tell(self, repo: str, event: str, action: str, number: int, login: str, **extra: Any) -> None:
        """Deliver to every hook, signed as GitHub signs, from a thread of its own."""
        if not self.hooks:
            return
        payload = {
            "action": action,
            "issue": self.issue(repo, number),
            "repository": self._repository(repo, login),
            "sender": self.user(login),
            **extra,
        }
        data = json.dumps(payload).encode()
        for url, secret in self.hooks:
            signature = hmac.new(secret.encode(), data, hashlib.sha256).hexdigest()
            headers = {
                "Content-Type": "application/json",
                "X-GitHub-Event": event,
                "X-GitHub-Delivery": str(uuid.uuid4()),
                "X-Hub-Signature-256": f"sha256={signature}",
            }
            self.deliver(url, data, headers)

    # --- shapes -------------------------------------------------------------------------------------------

    def _repository(self, repo: str, login: str) -> dict[str, Any]:
        state, level = self.repos[repo], _LEVELS[self.level(login, repo)]
        names = ("pull", "triage", "push", "maintain", "admin")
        allowed = {name: level >= needed for needed, name in enumerate(names, start=1)}
        return shapes.repository(
            self.origin,
            repo,
            self.user(repo.split("/")[0]),
            id=state["id"],
            default_branch=state["default_branch"],
            created_at=state["created_at"],
            permissions=allowed,
        ) | {"network_count": 0, "subscribers_count": 0}

    def issue(self, repo: str, number: int) -> dict[str, Any]:
        """An issue as it is answered; pull requests are issues too."""
        entry, state = self.repos[repo]["issues"][number], self.repos[repo]
        api = f"{self.url}/repos/{repo}/issues/{number}"
        kind = "pull" if number in state["pulls"] else "issues"
        shown = {
            "id": entry["id"],
            "node_id": f"I_{entry['id']}",
            "url": api,
            "repository_url": f"{self.url}/repos/{repo}",
            "labels_url": f"{api}/labels{{/name}}",
            "comments_url": f"{api}/comments",
            "events_url": f"{api}/events",
            "html_url": f"{self.origin}/{repo}/{kind}/{number}",
            "number": number,
            "state": entry["state"],
            "state_reason": None,
            "title": entry["title"],
            "body": entry["body"],
            "user": self.user(entry["by"]),
            "labels": [shapes.label(self.origin, repo, state["labels"][name]) for name in entry["labels"]],
            "assignee": self.user(entry["assignees"][0]) if entry["assignees"] else None,
            "assignees": [self.user(login) for login in entry["assignees"]],
            "milestone": None,
            "locked": False,
            "active_lock_reason": None,
            "comments": sum(c["issue"] == number for c in state["comments"].values()),
            "closed_at": entry["closed_at"],
            "closed_by": self.user(entry["closed_by"]) if entry["closed_by"] else None,
            "created_at": entry["created_at"],
            "updated_at": entry["updated_at"],
            "author_association": "NONE",
        }
        if number in state["pulls"]:
            links = shapes.pull_links(self.origin, repo, number, "")
            kept = ("url", "html_url", "diff_url", "patch_url")
            shown["pull_request"] = {key: links[key] for key in kept} | {"merged_at": None}
        return shown

    def pull(self, repo: str, number: int, asker: str, *, whole: bool = True) -> dict[str, Any]:
        """A pull request as it is answered, alone (`whole`) or in a list."""
        issue, pull = self.issue(repo, number), self.repos[repo]["pulls"][number]
        owner = repo.split("/")[0]
        head = pull["head_sha"] = self._head(repo, number)
        home = {"head": {"full_name": pull["home"]} if "home" in pull else {}, "base": {}}
        base = self.git(repo, "rev-parse", f"refs/heads/{pull['base']}")
        kept = (
            "id state locked title body user labels assignee assignees milestone closed_at created_at updated_at"
        )
        shown = {key: issue[key] for key in kept.split()}
        sides = {
            side: {
                "label": f"{owner}:{pull[side]}",
                "ref": pull[side],
                "sha": sha,
                "user": self.user(owner),
                "repo": self._repository(repo, asker) | home[side],
            }
            for side, sha in (("head", head), ("base", base))
        }
        shown |= {
            "node_id": f"PR_{repo.replace('/', '_')}_{number}",
            "number": number,
            **shapes.pull_links(self.origin, repo, number, head),
            **sides,
            "draft": pull["draft"],
            "merge_commit_sha": None,
            "merged_at": pull["merged_at"],
            "requested_reviewers": [self.user(login) for login in pull["reviewers"]],
            "requested_teams": [],
            "author_association": "NONE",
            "auto_merge": None,
            "active_lock_reason": None,
        }
        if whole:
            clean = self._merges_cleanly(repo, base, head)
            counts = dict.fromkeys(
                ["additions", "changed_files", "comments", "commits", "deletions", "review_comments"], 1
            )
            shown |= counts | {
                "merged": pull["merged"],
                "mergeable": clean if issue["state"] == "open" else None,
                "mergeable_state": "clean" if clean else "dirty",
                "rebaseable": None,
                "maintainer_can_modify": False,
                "merged_by": self.user(pull["merged_by"]) if pull["merged_by"] else None,
            }
        return shown

    def _merges_cleanly(self, repo: str, base: str, head: str) -> bool:
        return bool(self.git(repo, "merge-tree", "--write-tree", base, head))

    # --- who asks, and for which repository --------------------------------------------------------------

    def admit(self, call: Call, template: str) -> None:
        wait = self.secondary.retry_after(call.method, template, time.monotonic()) if self.secondary else 0
        if wait:
            message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
            refusal = {"message": message, "documentation_url": ""}
            raise RefusedError(403, refusal, **{"Retry-After": str(wait)})

    def repo_of(self, call: Call, needed: str = "read") -> str:
        """The repository of a call; refuses without a token, without a right, and after a rename."""
        if not call.login:
            raise RefusedError(401, {"message": "Bad credentials", "documentation_url": ""})
        full_name = f"{call.parts['owner']}/{call.parts['name']}"
        if full_name in self.moved:
            target = self.url + call.path.removeprefix(self.prefix).replace(full_name, self.moved[full_name], 1)
            status = 301 if call.method == "GET" else 307
            raise RefusedError(
                status, {"message": "Moved Permanently", "url": target, "documentation_url": ""}, Location=target
            )
        if full_name not in self.repos:
            raise self.not_found()
        if _LEVELS[self.level(call.login, full_name)] < _LEVELS[needed]:
            raise RefusedError(403, {"message": "Resource not accessible", "documentation_url": ""})
        return full_name

    # --- routes: accounts -------------------------------------------------------------------------------

    @route("GET", "/user")
    def _get_user(self, call: Call) -> Reply:
        if not call.login:
            raise RefusedError(401, {"message": "Bad credentials", "documentation_url": ""})
        if call.login.endswith("[bot]"):
            raise RefusedError(403, {"message": "Resource not accessible by integration", "documentation_url": ""})
        shown = shapes.whole_user(self.origin, call.login, self.people[call.login]["id"])
        return Reply(body=shown)

    @route("GET", "/users/{login}")
    def _get_person(self, call: Call) -> Reply:
        login = call.parts["login"]
        if login not in self.people:
            raise self.not_found()
        return Reply(body=shapes.whole_user(self.origin, login, self.people[login]["id"]))

    @route("GET", "/rate_limit")
    def _get_rate(self, call: Call) -> Reply:
        used = self.spent[call.token]
        rate = {"limit": self.rate_limit, "remaining": self.rate_limit - used, "reset": 0, "used": used}
        return Reply(body={"resources": {"core": rate, "search": rate}, "rate": rate})

    @route("GET", _R)
    def _get_repository(self, call: Call) -> Reply:
        repo = self.repo_of(call)
        body = self._repository(repo, call.login) | self.repos[repo]["shown"]
        told = {"x-oauth-scopes": self.scopes[call.token]} if call.token in self.scopes else {}
        return Reply(body=body, headers=told)

    @route("GET", _R + "/hooks")
    def _list_hooks(self, call: Call) -> Reply:
        repo = self.repo_of(call)
        if self.level(call.login, repo) != "admin":
            raise self.not_found()
        return Reply(body=self.repos[repo]["hooks"], paged=True)

    @route("GET", _R + "/collaborators/{login}/permission")
    def _get_permission(self, call: Call) -> Reply:
        repo, login = self.repo_of(call), call.parts["login"]
        if login not in self.people:
            raise self.not_found()
        level = self.level(login, repo)
        legacy = _LEGACY.get(level, level)
        person = {**self.user(login), "role_name": level}
        return Reply(body={"permission": legacy, "role_name": level, "user": person})

    # --- routes: issues ---------------------------------------------------------------------------------

    @route("GET", _R + "/issues")
    def _list_issues(self, call: Call) -> Reply:
        repo = self.repo_of(call)
        wanted = set(filter(None, call.query.get("labels", "").split(",")))
        state, since = call.query.get("state", "open"), call.query.get("since", "")
        found = [
            self.issue(repo, number)
            for number, entry in self.repos[repo]["issues"].items()
            if wanted <= set(entry["labels"])
            and (state == "all" or entry["state"] == state)
            and entry["updated_at"] >= since
            and call.query.get("assignee", "") in ("", *entry["assignees"])
        ]
        key = call.query.get("sort", "created") + "_at"
        descending = call.query.get("direction", "desc") == "desc"
        return Reply(body=newest_first(found, key, descending=descending), paged=True)

    @route("GET", _R + "/issues/{number}")
    def _get_issue(self, call: Call) -> Reply:
        repo, number = self.repo_of(call), int(call.parts["number"])
        self._issue_or_pull(repo, number)
        return Reply(body=self.issue(repo, number))

    @route("PATCH", _R + "/issues/{number}")
    def _patch_issue(self, call: Call) -> Reply:
        repo, number = self.repo_of(call, "write"), int(call.parts["number"])
        issue = self._issue_or_pull(repo, number)
        for key in ("title", "body"):
            if key in call.body:
                issue[key] = call.body[key]
        if call.body.get("state") == "closed":
            self.close(repo, number, call.login)
        issue["updated_at"] = now()
        return Reply(body=self.issue(repo, number))

    @route("GET", _R + "/issues/{number}/events")
    def _list_events(self, call: Call) -> Reply:
        repo, number = self.repo_of(call), int(call.parts["number"])
        found = [e for e in self.repos[repo]["events"] if e["issue"] == number]
        return Reply(body=[shapes.event(self.origin, repo, e, self.user(e["by"])) for e in found], paged=True)

    @route("GET", _R + "/issues/{number}/timeline")
    def _list_timeline(self, call: Call) -> Reply:
        return self._list_events(call)

    @route("GET", _R + "/issues/events")
    def _list_all_events(self, call: Call) -> Reply:
        repo = self.repo_of(call)
        found = [
            shapes.event(self.origin, repo, e, self.user(e["by"])) | {"issue": self.issue(repo, e["issue"])}
            for e in reversed(self.repos[repo]["events"])
        ]
        return Reply(body=found, paged=True)

    # --- routes: comments -------------------------------------------------------------------------------

    def _comments(self, repo: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        pulls = self.repos[repo]["pulls"]
        return [
            shapes.comment(self.origin, repo, e, self.user(e["by"]), "pull" if e["issue"] in pulls else "issues")
            for e in entries
        ]

    @route("GET", _R + "/issues/comments")
    def _list_all_comments(self, call: Call) -> Reply:
        repo = self.repo_of(call)
        since = call.query.get("since", "")
        entries = [e for e in self.repos[repo]["comments"].values() if e["updated_at"] >= since]
        key = call.query.get("sort", "created") + "_at"
        descending = call.query.get("direction", "asc") == "desc"
        return Reply(body=newest_first(self._comments(repo, entries), key, descending=descending), paged=True)

    @route("GET", _R + "/issues/{number}/comments")
    def _list_comments(self, call: Call) -> Reply:
        repo, number = self.repo_of(call), int(call.parts["number"])
        self._issue_or_pull(repo, number)
        entries = [e for e in self.repos[repo]["comments"].values() if e["issue"] == number]
        return Reply(body=self._comments(repo, entries), paged=True)

    @route("POST", _R + "/issues/{number}/comments")
    def _post_comment(self, call: Call) -> Reply:
        repo, number = self.repo_of(call), int(call.parts["number"])
        self._issue_or_pull(repo, number)
        made = self.comment(repo, number, call.login, call.body["body"])
        return Reply(status=201, body=self._comments(repo, [self.repos[repo]["comments"][made]])[0])

    def _comment_of(self, call: Call) -> tuple[str, dict[str, Any]]:
        repo = self.repo_of(call)
        entry = self.repos[repo]["comments"].get(int(call.parts["comment"]))
        if entry is None:
            raise self.not_found()
        return repo, entry

    @route("GET", _R + "/issues/comments/{comment}")
    def _get_comment(self, call: Call) -> Reply:
        repo, entry = self._comment_of(call)
        return Reply(body=self._comments(repo, [entry])[0])

    @route("PATCH", _R + "/issues/comments/{comment}")
    def _patch_comment(self, call: Call) -> Reply:
        repo, entry = self._comment_of(call)
        if entry["by"] != call.login and _LEVELS[self.level(call.login, repo)] < _LEVELS["write"]:
            raise RefusedError(403, {"message": "Forbidden", "documentation_url": ""})
        entry.update(body=call.body["body"], updated_at=now())
        return Reply(body=self._comments(repo, [entry])[0])

    @route("DELETE", _R + "/issues/comments/{comment}")
    def _delete_comment(self, call: Call) -> Reply:
        repo, entry = self._comment_of(call)
        del self.repos[repo]["comments"][entry["id"]]
        return Reply(status=204)

    # --- routes: reactions --------------------------------------------------------------------------------

    def _react(self, call: Call, repo: str, subject: str) -> Reply:
        wanted = {"subject": subject, "by": call.login, "content": call.body["content"]}
        known = next((r for r in self.repos[repo]["reactions"] if wanted.items() <= r.items()), None)
        entry = known or {**wanted, "id": self.next_id(), "created_at": now()}
        if known is None:
            self.repos[repo]["reactions"].append(entry)
        shown = {key: entry[key] for key in ("id", "content", "created_at")}
        shown |= {"node_id": f"REA_{entry['id']}", "user": self.user(call.login)}
        return Reply(status=201 if known is None else 200, body=shown)

    @route("POST", _R + "/issues/{number}/reactions")
    def _react_to_issue(self, call: Call) -> Reply:
        return self._react(call, self.repo_of(call), f"issue:{call.parts['number']}")

    @route("POST", _R + "/issues/comments/{comment}/reactions")
    def _react_to_comment(self, call: Call) -> Reply:
        repo, entry = self._comment_of(call)
        return self._react(call, repo, f"comment:{entry['id']}")

    @route("POST", _R + "/pulls/comments/{comment}/reactions")
    def _react_to_review_comment(self, call: Call) -> Reply:
        return self._react(call, self.repo_of(call), f"review-comment:{call.parts['comment']}")

    # --- routes: labels -----------------------------------------------------------------------------------

    def _labels(self, repo: str, names: list[str]) -> list[dict[str, Any]]:
        return [shapes.label(self.origin, repo, self.repos[repo]["labels"][name]) for name in names]

    @route("GET", _R + "/labels")
    def _list_labels(self, call: Call) -> Reply:
        repo = self.repo_of(call)
        return Reply(body=self._labels(repo, list(self.repos[repo]["labels"])), paged=True)

    @route("POST", _R + "/labels")
    def _create_label(self, call: Call) -> Reply:
        repo, name = self.repo_of(call, "write"), call.body["name"]
        if name in self.repos[repo]["labels"]:
            errors = [{"resource": "Label", "code": "already_exists", "field": "name"}]
            raise RefusedError(422, {"message": "Validation Failed", "errors": errors, "documentation_url": ""})
        self._label(repo, name, call.body.get("color", "ededed"), call.body.get("description"))
        return Reply(status=201, body=self._labels(repo, [name])[0])

    @route("GET", _R + "/issues/{number}/labels")
    def _issue_labels(self, call: Call) -> Reply:
        repo, number = self.repo_of(call), int(call.parts["number"])
        return Reply(body=self._labels(repo, self._issue_or_pull(repo, number)["labels"]), paged=True)

    @route("POST", _R + "/issues/{number}/labels")
    def _add_labels(self, call: Call) -> Reply:
        repo, number = self.repo_of(call, "triage"), int(call.parts["number"])
        names = call.body["labels"] if isinstance(call.body, dict) else call.body
        for name in names:
            self.add_label(repo, number, call.login, name)
        return Reply(body=self._labels(repo, self._issue_or_pull(repo, number)["labels"]))

    @route("DELETE", _R + "/issues/{number}/labels/{label}")
    def _remove_label(self, call: Call) -> Reply:
        repo, number = self.repo_of(call, "triage"), int(call.parts["number"])
        self.remove_label(repo, number, call.login, call.parts["label"])
        return Reply(body=self._labels(repo, self._issue_or_pull(repo, number)["labels"]))

    # --- routes: pull requests ----------------------------------------------------------------------------

    @route("GET", _R + "/pulls")
    def _list_pulls(self, call: Call) -> Reply:
        repo = self.repo_of(call)
        state, head = call.query.get("state", "open"), call.query.get("head", "").partition(":")[2]
        found = [
            self.pull(repo, number, call.login, whole=False)
            for number, pull in sorted(self.repos[repo]["pulls"].items(), reverse=True)
            if (state == "all" or self.repos[repo]["issues"][number]["state"] == state)
            and head in ("", pull["head"])
        ]
        return Reply(body=found, paged=True)

    @route("POST", _R + "/pulls")
    def _create_pull(self, call: Call) -> Reply:
        repo, wanted = self.repo_of(call, "write"), call.body
        head = wanted["head"].rpartition(":")[2]
        shas = [self.git(repo, "rev-parse", "--verify", f"refs/heads/{ref}") for ref in (head, wanted["base"])]
        there = any(
            pull["head"] == head and self.repos[repo]["issues"][number]["state"] == "open"
            for number, pull in self.repos[repo]["pulls"].items()
        )
        reason = ""
        if not all(shas):
            reason = "invalid"
        elif not self.git(repo, "rev-list", "-1", shas[0], f"^{shas[1]}"):
            reason = f"No commits between {wanted['base']} and {head}"
        elif there:
            reason = f"A pull request already exists for {repo.split('/')[0]}:{head}."
        if reason:
            errors = [{"resource": "PullRequest", "code": "custom", "message": reason}]
            raise RefusedError(422, {"message": "Validation Failed", "errors": errors, "documentation_url": ""})
        number = self.open_pull(repo, call.login, head, wanted["base"], wanted["title"], wanted.get("body", ""))
        self.repos[repo]["pulls"][number]["draft"] = bool(wanted.get("draft"))
        return Reply(status=201, body=self.pull(repo, number, call.login))

    def _pull_of(self, call: Call, needed: str = "read") -> tuple[str, int]:
        repo, number = self.repo_of(call, needed), int(call.parts["number"])
        if number not in self.repos[repo]["pulls"]:
            raise self.not_found()
        return repo, number

    @route("GET", _R + "/pulls/{number}")
    def _get_pull(self, call: Call) -> Reply:
        repo, number = self._pull_of(call)
        return Reply(body=self.pull(repo, number, call.login))

    @route("PATCH", _R + "/pulls/{number}")
    def _patch_pull(self, call: Call) -> Reply:
        repo, number = self._pull_of(call, "write")
        issue = self.repos[repo]["issues"][number]
        for key in ("title", "body"):
            if call.body.get(key) is not None:
                issue[key] = call.body[key]
        if call.body.get("base"):
            self.repos[repo]["pulls"][number]["base"] = call.body["base"]
        if call.body.get("state") == "closed":
            self.close(repo, number, call.login)
        issue["updated_at"] = now()
        return Reply(body=self.pull(repo, number, call.login))

    @route("POST", _R + "/pulls/{number}/requested_reviewers")
    def _ask_review(self, call: Call) -> Reply:
        repo, number = self._pull_of(call, "write")
        author = self.repos[repo]["issues"][number]["by"]
        for login in call.body.get("reviewers", ()):
            if login == author or _LEVELS[self.level(login, repo)] < _LEVELS["read"]:
                message = "Reviews may only be requested from collaborators."
                raise RefusedError(422, {"message": message, "documentation_url": ""})
        for login in call.body.get("reviewers", ()):
            if login not in self.repos[repo]["pulls"][number]["reviewers"]:
                self.request_review(repo, number, call.login, login)
        return Reply(status=201, body=self.pull(repo, number, call.login, whole=False))

    @route("GET", _R + "/pulls/{number}/reviews")
    def _list_reviews(self, call: Call) -> Reply:
        repo, number = self._pull_of(call)
        found = [r for r in self.repos[repo]["reviews"].values() if r["number"] == number]
        return Reply(body=[shapes.review(self.origin, repo, r, self.user(r["by"])) for r in found], paged=True)

    def _review_comments(self, repo: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [shapes.review_comment(self.origin, repo, e, self.user(e["by"])) for e in entries]

    @route("GET", _R + "/pulls/{number}/reviews/{review}/comments")
    def _list_of_review(self, call: Call) -> Reply:
        repo, _ = self._pull_of(call)
        wanted = int(call.parts["review"])
        entries = [e for e in self.repos[repo]["review_comments"].values() if e["review"] == wanted]
        return Reply(body=self._review_comments(repo, entries), paged=True)

    @route("GET", _R + "/pulls/{number}/comments")
    def _list_pull_comments(self, call: Call) -> Reply:
        repo, number = self._pull_of(call)
        entries = [e for e in self.repos[repo]["review_comments"].values() if e["number"] == number]
        return Reply(body=self._review_comments(repo, entries), paged=True)

    @route("GET", _R + "/pulls/comments")
    def _list_all_pull_comments(self, call: Call) -> Reply:
        repo, since = self.repo_of(call), call.query.get("since", "")
        entries = [e for e in self.repos[repo]["review_comments"].values() if e["created_at"] >= since]
        return Reply(body=self._review_comments(repo, entries), paged=True)

    @route("POST", _R + "/pulls/{number}/comments/{comment}/replies")
    def _reply(self, call: Call) -> Reply:
        repo, number = self._pull_of(call)
        parent = self.repos[repo]["review_comments"].get(int(call.parts["comment"]))
        if parent is None:
            raise self.not_found()
        fields = {"path": parent["path"], "line": parent["line"], "review": self.next_id()}
        made = self._review_comment(
            repo, number, call.login, call.body["body"], reply_to=parent["reply_to"] or parent["id"], **fields
        )
        return Reply(status=201, body=self._review_comments(repo, [made])[0])

    # --- routes: refs, checks -----------------------------------------------------------------------------

    @route("GET", _R + "/git/ref/{ref+}")
    def _get_ref(self, call: Call) -> Reply:
        repo, ref = self.repo_of(call), f"refs/{call.parts['ref']}"
        sha = self.git(repo, "rev-parse", "--verify", "--quiet", ref)
        if not sha:
            raise self.not_found()
        url = f"{self.url}/repos/{repo}/git/{ref}"
        target = {"type": "commit", "sha": sha, "url": f"{self.url}/repos/{repo}/git/commits/{sha}"}
        return Reply(body={"ref": ref, "node_id": "REF", "url": url, "object": target})

    @route("DELETE", _R + "/git/refs/{ref+}")
    def _delete_ref(self, call: Call) -> Reply:
        repo, ref = self.repo_of(call, "write"), f"refs/{call.parts['ref']}"
        if not self.git(repo, "rev-parse", "--verify", "--quiet", ref):
            raise RefusedError(422, {"message": "Reference does not exist", "documentation_url": ""})
        self.git(repo, "update-ref", "-d", ref)
        return Reply(status=204)

    @route("GET", _R + "/commits/{ref}/check-runs")
    def _list_checks(self, call: Call) -> Reply:
        repo = self.repo_of(call)
        sha = self.git(repo, "rev-parse", call.parts["ref"])
        found = [
            shapes.check_run(self.origin, repo, c) for c in self.repos[repo]["checks"] if c["head_sha"] == sha
        ]
        page = page_of(found, call.query)[0]
        return Reply(body={"total_count": len(found), "check_runs": page})

    @route("GET", _R + "/commits/{ref}/status")
    def _get_status(self, call: Call) -> Reply:
        repo = self.repo_of(call)
        sha = self.git(repo, "rev-parse", call.parts["ref"])
        url = f"{self.url}/repos/{repo}/commits/{sha}"
        shown = {"state": "pending", "statuses": [], "sha": sha, "total_count": 0, "commit_url": url}
        return Reply(body=shown | {"url": f"{url}/status", "repository": self._repository(repo, call.login)})

    # --- routes: GitHub App -------------------------------------------------------------------------------

    @route("GET", _R + "/installation")
    def _get_installation(self, call: Call) -> Reply:
        repo = f"{call.parts['owner']}/{call.parts['name']}"
        for app_id, app in self.apps.items():
            if repo in app["repositories"]:
                return Reply(body=self._installation(app_id, app, repo))
        raise self.not_found()

    def _installation(self, app_id: str, app: dict[str, Any], repo: str) -> dict[str, Any]:
        owner = self.user(repo.split("/")[0])
        url = f"{self.url}/app/installations/{app['installation']}"
        return {
            "id": app["installation"],
            "app_id": int(app_id),
            "app_slug": app["slug"],
            "target_id": owner["id"],
            "target_type": "User",
            "account": owner,
            "repository_selection": "selected",
            "access_tokens_url": f"{url}/access_tokens",
            "repositories_url": f"{self.url}/installation/repositories",
            "html_url": f"{self.origin}/settings/installations/{app['installation']}",
            "permissions": app["permissions"],
            "events": [],
            "single_file_name": None,
            "has_multiple_single_files": False,
            "single_file_paths": [],
            "created_at": now(),
            "updated_at": now(),
            "suspended_by": owner if app["suspended_at"] else None,
            "suspended_at": app["suspended_at"],
        }

    @route("POST", "/app/installations/{installation}/access_tokens")
    def _create_token(self, call: Call) -> Reply:
        if not call.token.count(".") == 2:
            raise RefusedError(401, {"message": "A JSON web token could not be decoded", "documentation_url": ""})
        wanted = int(call.parts["installation"])
        app = next((a for a in self.apps.values() if a["installation"] == wanted), None)
        if app is None:
            raise self.not_found()
        if app["suspended_at"]:
            raise RefusedError(403, {"message": "This installation has been suspended", "documentation_url": ""})
        body = call.body or {}
        if set(body.get("permissions", ())) - set(app["permissions"]):
            message = "The permissions requested are not granted to this installation."
            raise RefusedError(422, {"message": message, "documentation_url": ""})
        names = body.get("repositories") or [r.split("/")[1] for r in app["repositories"]]
        token = f"ghs_{uuid.uuid4().hex}.{uuid.uuid4().hex}.{uuid.uuid4().hex}"
        self.tokens[token] = app["bot"]
        ends = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        app.setdefault("minted", []).append({"token": token, "repositories": names, **body})
        granted = body.get("permissions", {"metadata": "read"})
        return Reply(
            status=201,
            body={
                "token": token,
                "expires_at": ends,
                "permissions": granted,
                "repository_selection": "selected",
            },
        )

    @route("DELETE", "/installation/token")
    def _revoke_token(self, call: Call) -> Reply:
        self.tokens.pop(call.token, None)
        return Reply(status=204)

    # --- GraphQL: draft and ready, who edited --------------------------------------------------------------

    @route("POST", "^/api/graphql")
    def _graphql(self, call: Call) -> Reply:
        if not call.login:
            raise RefusedError(401, {"message": "Bad credentials", "documentation_url": ""})
        query = call.body["query"]
        known = {
            f"PR_{repo.replace('/', '_')}_{number}": (repo, number)
            for repo in self.repos
            for number in self.repos[repo]["pulls"]
        }
        variables = json.dumps(call.body.get("variables", {})) + query
        found = next((target for node, target in known.items() if f'"{node}"' in variables), None)
        name = next((n for n in ("markPullRequestReadyForReview", "convertPullRequestToDraft") if n in query), "")
        if name and found is not None:
            repo, number = found
            self.repos[repo]["pulls"][number]["draft"] = name.startswith("convert")
            self.repos[repo]["issues"][number]["updated_at"] = now()
            return Reply(
                body={
                    "data": {
                        name: {"clientMutationId": None, "pullRequest": {"isDraft": name.startswith("convert")}}
                    }
                }
            )
        editor = re.search(r"lastEditedAt|userContentEdits", query)
        if editor:
            return Reply(body={"data": self._editors(call.body.get("variables", {}))})
        return Reply(body={"errors": [{"type": "NOT_FOUND", "message": "not known to this stand-in"}]})

    def _editors(self, variables: dict[str, Any]) -> dict[str, Any]:
        repo = f"{variables['owner']}/{variables['name']}"
        entry = self._issue_or_pull(repo, int(variables["number"]))
        edits = [{"editedAt": at, "editor": self._actor(login)} for login, at in reversed(entry["edits"])]
        last = edits[0] if edits else {"editedAt": None, "editor": None}
        shown = {"createdAt": entry["created_at"], "lastEditedAt": last["editedAt"], "editor": last["editor"]}
        return {"repository": {"issueOrPullRequest": shown | {"userContentEdits": {"nodes": edits}}}}

    @staticmethod
    def _actor(login: str) -> dict[str, Any]:
        """As GraphQL names somebody: a bot without the ending that it has elsewhere."""
        kind = "Bot" if login.endswith("[bot]") else "User"
        return {"login": login.removesuffix("[bot]"), "__typename": kind}
