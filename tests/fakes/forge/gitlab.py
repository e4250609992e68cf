"""A small GitLab: issues, notes, labels, members, merge requests, discussions, pipelines, tokens.

    with GitLab(Contract(...)) as lab:
        lab.add_project("grp/app", bare)
        lab.add_person("ada", token="t1", levels={"grp/app": 40})
        issue = lab.open_issue("grp/app", "ada", "Fix it", "…", labels=["cloud-code"])

What a person does on the web site is a method here; what a program does comes in over HTTP.
"""

import json
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.fakes.forge.contract import Contract
from tests.fakes.forge.server import Call, Forge, RefusedError, Reply, newest_first, now, route

_P = "/projects/{id}"
GUEST, REPORTER, DEVELOPER, MAINTAINER, OWNER = 10, 20, 30, 40, 50
# Exchanges that the (loose) description gets wrong.
ALLOWED_VIOLATIONS = (
    r": status (301|304|307|401|403|405|409|422|429|502) is not in the description",
    r"members/all/\{user_id\}: status 404 is not in the description",
    r"merge_requests.*: answer (\d+/)?(assignees|reviewers):",  # (described as one person, is a list)
    r"^GET /api/v4/projects/\{id\}/hooks: answer \d+/id:",  # (described as text, is a number)
    r"(resource_label_events|personal_access_tokens/self).*: not in the description",
    r"GET \S+/access_tokens: not in the description",
    r"POST \S+/access_tokens: status 400 is not in the description",
)


class GitLab(Forge):
    """See the module."""

    prefix = "/api/v4"
    rate_headers = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")

    def __init__(self, contract: Contract | None = None, rate_limit: int = 2000) -> None:
        super().__init__(contract, rate_limit)
        self.people: dict[str, dict[str, Any]] = {}
        self.projects: dict[str, dict[str, Any]] = {}
        self.moved: dict[str, str] = {}
        self.minted: list[dict[str, Any]] = []  # (every project access token that was asked for)
        self.has_scoped_labels = True  # (with a paid plan)
        self.told_of_token: dict[str, Any] = {"scopes": ["api"], "expires_at": None}

    # --- set up ---------------------------------------------------------------------------------------

    def add_person(self, login: str, token: str = "", levels: dict[str, int] | None = None) -> str:
        """An account; `levels` maps a project to 10, 20, 30, 40 or 50."""
        with self.lock:
            self.people.setdefault(login, {"id": self.next_id(), "levels": {}})
            self.people[login]["levels"].update(levels or {})
            if token:
                self.tokens[token] = login
        return login

    def add_project(self, path: str, bare: Path, default_branch: str = "main") -> None:
        with self.lock:
            self.repositories[path] = bare
            self.projects[path] = {
                "id": self.next_id(),
                "default_branch": default_branch,
                "created_at": now(),
                "issues": {},
                "requests": {},
                "notes": {},
                "discussions": {},
                "labels": {},
                "label_events": [],
                "emoji": [],
                "pipelines": [],
                "tokens": {},
                "has_tokens": True,  # (without a paid plan GitLab.com has none)
                "hooks": [],
                "shown": {},
            }

    def rename(self, old: str, new: str) -> None:
        """Rename or transfer a project: reads by its old path are redirected, by its number they go on."""
        with self.lock:
            self.projects[new], self.repositories[new] = self.projects.pop(old), self.repositories[old]
            self.moved[old] = new
            for person in self.people.values():
                if old in person["levels"]:
                    person["levels"][new] = person["levels"].pop(old)

    # --- what people do on the site -------------------------------------------------------------------

    def open_issue(
        self, path: str, login: str, title: str, body: str = "", labels: list[str] | None = None
    ) -> int:
        with self.lock:
            iid = max(self.projects[path]["issues"], default=0) + 1
            self.projects[path]["issues"][iid] = self._item(iid, login, title, body)
            self._tell(path, "Issue Hook", "issue", login, iid, "open")
        for name in labels or ():
            self.add_label(path, iid, login, name)
        return iid

    def add_label(self, path: str, iid: int, login: str, name: str, kind: str = "issues") -> None:
        with self.lock:
            item = self.projects[path][kind][iid]
            self.make_label(path, name)
            if "::" in name and self.has_scoped_labels:  # (labels of one scope exclude each other)
                scope = name.rpartition("::")[0] + "::"
                for other in [label for label in item["labels"] if label.startswith(scope) and label != name]:
                    self.remove_label(path, iid, login, other, kind)
            if name not in item["labels"]:
                item["labels"].append(name)
                self._label_event(path, kind, iid, login, name, "add")
                self._tell(path, "Issue Hook", "issue", login, iid, "update")

    def remove_label(self, path: str, iid: int, login: str, name: str, kind: str = "issues") -> None:
        with self.lock:
            item = self.projects[path][kind][iid]
            if name in item["labels"]:
                item["labels"].remove(name)
                self._label_event(path, kind, iid, login, name, "remove")

    def assign(self, path: str, iid: int, login: str, assignee: str) -> None:
        with self.lock:
            item = self.projects[path]["issues"][iid]
            item["assignees"].append(assignee)
            self.note(path, iid, login, f"assigned to @{assignee}", system=True)

    def edit_issue(self, path: str, iid: int, login: str, **changes: Any) -> None:
        """Change `title` or `body`; GitLab leaves a system note that says who did."""
        with self.lock:
            item = self.projects[path]["issues"][iid]
            if "title" in changes:
                self.note(path, iid, login, f"changed title from **{item['title']}**", system=True)
            if "body" in changes:
                self.note(path, iid, login, "changed the description", system=True)
            item.update(changes)
            item["updated_at"] = now()

    def close(self, path: str, iid: int, login: str, kind: str = "issues") -> None:
        with self.lock:
            item = self.projects[path][kind][iid]
            item.update(state="closed", closed_at=now(), closed_by=login, updated_at=now())
            self._tell(path, "Issue Hook", "issue", login, iid, "close")

    def note(
        self, path: str, iid: int, login: str, body: str, kind: str = "issues", *, system: bool = False
    ) -> int:
        with self.lock:
            entry = {
                "id": self.next_id(),
                "kind": kind,
                "iid": iid,
                "body": body,
                "by": login,
                "system": system,
                "created_at": now(),
                "updated_at": now(),
                "position": None,
                "discussion": None,
            }
            self.projects[path]["notes"][entry["id"]] = entry
            self.projects[path][kind][iid]["updated_at"] = now()
            if not system:
                self._tell(path, "Note Hook", "note", login, iid, "create")
            return int(entry["id"])

    def discuss(self, path: str, iid: int, login: str, file: str, line: int, body: str) -> str:
        """A discussion on a line of a merge request's diff."""
        with self.lock:
            number = self.note(path, iid, login, body, "requests")
            discussion = uuid.uuid4().hex
            entry = self.projects[path]["notes"][number]
            entry.update(discussion=discussion, position={"new_path": file, "new_line": line})
            self.projects[path]["discussions"][discussion] = {"iid": iid, "notes": [number], "resolved": False}
            return discussion

    def merge(self, path: str, iid: int, login: str) -> None:
        """Merge a merge request: the target branch on disk gets its head."""
        with self.lock:
            request = self.projects[path]["requests"][iid]
            head = self._head(path, request)
            self.git(path, "update-ref", f"refs/heads/{request['target']}", head)
            request.update(state="merged", merged_by=login, merged_at=now(), updated_at=now())
            if request["remove_source_branch"]:
                self.git(path, "update-ref", "-d", f"refs/heads/{request['source']}")
            self._tell(path, "Merge Request Hook", "merge_request", login, iid, "merge")

    def register_hook(self, path: str, url: str, **changes: Any) -> None:
        """A webhook as its settings show it; `hooks` of the server is what is delivered to."""
        told = dict.fromkeys(("issues_events", "note_events", "merge_requests_events", "pipeline_events"), True)
        made = {"id": self.next_id(), "url": url, "alert_status": "executable", "created_at": now(), **told}
        with self.lock:
            self.projects[path]["hooks"].append(made | changes)

    def add_pipeline(self, path: str, sha: str, status: str, failed: tuple[str, ...] = ()) -> int:
        """A pipeline on a commit (running, success, failed, canceled, manual …) with jobs that `failed`."""
        with self.lock:
            jobs = [(self.next_id(), name) for name in failed]
            entry = {"id": self.next_id(), "sha": sha, "status": status, "created_at": now(), "jobs": jobs}
            self.projects[path]["pipelines"].append(entry)
            return int(entry["id"])

    # --- state ------------------------------------------------------------------------------------------

    def make_label(self, path: str, name: str, color: str = "#ededed", description: str | None = None) -> None:
        entry = {"id": self.next_id(), "name": name, "color": color, "description": description}
        self.projects[path]["labels"].setdefault(name, entry)

    def _item(self, iid: int, login: str, title: str, body: str) -> dict[str, Any]:
        return {
            "id": self.next_id(),
            "iid": iid,
            "by": login,
            "title": title,
            "body": body,
            "labels": [],
            "assignees": [],
            "state": "opened",
            "created_at": now(),
            "updated_at": now(),
            "closed_at": None,
            "closed_by": None,
        }

    def _label_event(self, path: str, kind: str, iid: int, login: str, name: str, action: str) -> None:
        self.projects[path]["label_events"].append(
            {
                "id": self.next_id(),
                "kind": kind,
                "iid": iid,
                "by": login,
                "label": name,
                "action": action,
                "created_at": now(),
            }
        )
        self.projects[path][kind][iid]["updated_at"] = now()

    def _head(self, path: str, request: dict[str, Any]) -> str:
        found = self.git(path, "rev-parse", "--verify", "--quiet", f"refs/heads/{request['source']}")
        request["sha"] = found or request["sha"]
        return str(request["sha"])

    def level(self, login: str, path: str) -> int:
        return int(self.people.get(login, {"levels": {}})["levels"].get(path, 0))

    def may_use_git(self, login: str, repository: str, *, push: bool) -> bool:
        """All projects here are private."""
        return self.level(login, repository) >= (DEVELOPER if push else REPORTER)

    # --- webhooks -----------------------------------------------------------------------------------------

    def _tell(self, path: str, event: str, kind: str, login: str, iid: int, action: str) -> None:
        if not self.hooks:
            return
        project = self.projects[path]
        payload = {
            "object_kind": kind,
            "event_type": kind,
            "user": self.user(login),
            "project": {"id": project["id"], "path_with_namespace": path},
            "object_attributes": {"iid": iid, "action": action},
        }
        data = json.dumps(payload).encode()
        for url, secret in self.hooks:
            headers = {
                "Content-Type": "application/json",
                "X-Gitlab-Event": event,
                "X-Gitlab-Token": secret,
                "X-Gitlab-Event-UUID": str(uuid.uuid4()),
                "Idempotency-Key": str(uuid.uuid4()),
            }
            self.deliver(url, data, headers)

    # --- shapes -------------------------------------------------------------------------------------------

    def user(self, login: str) -> dict[str, Any]:
        return {
            "id": self.people[login]["id"],
            "username": login,
            "name": login.title(),
            "state": "active",
            "locked": False,
            "avatar_url": f"{self.origin}/avatars/{login}",
            "web_url": f"{self.origin}/{login}",
        }

    def _notes_of_people(self, path: str, kind: str, iid: int) -> int:
        notes = self.projects[path]["notes"].values()
        return sum(note["kind"] == kind and note["iid"] == iid and not note["system"] for note in notes)

    def issue(self, path: str, iid: int) -> dict[str, Any]:
        item, project = self.projects[path]["issues"][iid], self.projects[path]
        return {
            **self._common(item, path),
            "type": "ISSUE",
            "issue_type": "issue",
            "web_url": f"{self.origin}/{path}/-/issues/{iid}",
            "user_notes_count": self._notes_of_people(path, "issues", iid),
            "due_date": None,
            "confidential": False,
            "discussion_locked": None,
            "closed_by": self.user(item["closed_by"]) if item["closed_by"] else None,
            "weight": None,
            "moved_to_id": None,
            "has_tasks": False,
            "_links": {"self": f"{self.url}/projects/{project['id']}/issues/{iid}"},
        }

    def _common(self, item: dict[str, Any], path: str) -> dict[str, Any]:
        assignees = [self.user(login) for login in item["assignees"]]
        return {
            "id": item["id"],
            "iid": item["iid"],
            "project_id": self.projects[path]["id"],
            "title": item["title"],
            "description": item["body"],
            "state": item["state"],
            "created_at": item["created_at"],
            "updated_at": item["updated_at"],
            "closed_at": item["closed_at"],
            "labels": list(item["labels"]),
            "milestone": None,
            "assignees": assignees,
            "assignee": assignees[0] if assignees else None,
            "author": self.user(item["by"]),
            "upvotes": 0,
            "downvotes": 0,
            "references": {"short": f"#{item['iid']}", "full": f"{path}#{item['iid']}"},
            "time_stats": {"time_estimate": 0, "total_time_spent": 0},
        }

    def request(self, path: str, iid: int) -> dict[str, Any]:
        item, project = self.projects[path]["requests"][iid], self.projects[path]
        sha = self._head(path, item)
        target = self.git(path, "rev-parse", f"refs/heads/{item['target']}")
        clean = bool(self.git(path, "merge-tree", "--write-tree", target, sha))
        status = ("mergeable" if clean else "conflict") if item["state"] == "opened" else "not_open"
        draft = item["title"].lower().startswith(("draft:", "[draft]", "(draft)"))
        pipelines = [self._pipeline(path, entry) for entry in project["pipelines"] if entry["sha"] == sha]
        return {
            **self._common(item, path),
            "source_branch": item["source"],
            "target_branch": item["target"],
            "source_project_id": item.get("fork", project["id"]),
            "target_project_id": project["id"],
            "sha": sha,
            "merge_commit_sha": None,
            "squash_commit_sha": None,
            "draft": draft,
            "work_in_progress": draft,
            "merge_status": "can_be_merged" if clean else "cannot_be_merged",
            "detailed_merge_status": "draft_status" if draft and clean else status,
            "has_conflicts": not clean,
            "merged_by": self.user(item["merged_by"]) if item["merged_by"] else None,
            "merge_user": self.user(item["merged_by"]) if item["merged_by"] else None,
            "merged_at": item["merged_at"],
            "closed_by": self.user(item["closed_by"]) if item["closed_by"] else None,
            "reviewers": [self.user(login) for login in item["reviewers"]],
            "force_remove_source_branch": item["remove_source_branch"],
            "should_remove_source_branch": None,
            "web_url": f"{self.origin}/{path}/-/merge_requests/{iid}",
            "user_notes_count": self._notes_of_people(path, "requests", iid),
            "squash": False,
            "head_pipeline": pipelines[-1] if pipelines else None,
            "diff_refs": {"base_sha": target, "head_sha": sha, "start_sha": target},
        }

    def _note(self, path: str, entry: dict[str, Any]) -> dict[str, Any]:
        item = self.projects[path][entry["kind"]][entry["iid"]]
        resolvable = entry["discussion"] is not None
        discussion = self.projects[path]["discussions"].get(entry["discussion"], {})
        return {
            "id": entry["id"],
            "type": "DiffNote" if entry["position"] else None,
            "body": entry["body"],
            "attachment": None,
            "author": self.user(entry["by"]),
            "created_at": entry["created_at"],
            "updated_at": entry["updated_at"],
            "system": entry["system"],
            "noteable_id": item["id"],
            "noteable_type": "Issue" if entry["kind"] == "issues" else "MergeRequest",
            "noteable_iid": entry["iid"],
            "project_id": self.projects[path]["id"],
            "resolvable": resolvable,
            **({"resolved": discussion.get("resolved", False)} if resolvable else {}),
            "confidential": False,
            "internal": False,
            "imported": False,
            "commands_changes": {},
            **({"position": {"position_type": "text", **entry["position"]}} if entry["position"] else {}),
        }

    def _pipeline(self, path: str, entry: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": entry["id"],
            "iid": entry["id"],
            "project_id": self.projects[path]["id"],
            "sha": entry["sha"],
            "ref": "x",
            "status": entry["status"],
            "source": "push",
            "created_at": entry["created_at"],
            "updated_at": entry["created_at"],
            "web_url": f"{self.origin}/{path}/-/pipelines/{entry['id']}",
        }

    # --- who asks ---------------------------------------------------------------------------------------

    def project_of(self, call: Call, needed: int = GUEST) -> str:
        """The project of a call, by number or path."""
        if not call.login:
            raise RefusedError(401, {"message": "401 Unauthorized"})
        wanted = call.parts["id"]
        if wanted in self.moved:
            if call.method != "GET":
                raise RefusedError(405, {"message": "405 Non GET methods are not allowed for moved projects"})
            number = self.projects[self.moved[wanted]]["id"]
            address = call.path.replace(quote(wanted, safe=""), str(number), 1)
            raise RefusedError(301, {"message": "301 Moved"}, Location=f"{self.origin}{address}")
        found = next((p for p, s in self.projects.items() if wanted in (p, str(s["id"]))), None)
        if found is None or self.level(call.login, found) < GUEST:
            raise RefusedError(404, {"message": "404 Project Not Found"})
        if self.level(call.login, found) < needed:
            raise RefusedError(403, {"message": "403 Forbidden"})
        return found

    def _item_of(self, call: Call, kind: str, needed: int = GUEST) -> tuple[str, int, dict[str, Any]]:
        path, iid = self.project_of(call, needed), int(call.parts["iid"])
        if iid not in self.projects[path][kind]:
            raise RefusedError(404, {"message": "404 Not found"})
        return path, iid, self.projects[path][kind][iid]

    # --- routes: accounts and projects --------------------------------------------------------------------

    @route("GET", "/user")
    def _get_user(self, call: Call) -> Reply:
        if not call.login:
            raise RefusedError(401, {"message": "401 Unauthorized"})
        return Reply(body={**self.user(call.login), "bot": False, "email": f"{call.login}@example.org"})

    @route("GET", "/version")
    def _get_version(self, call: Call) -> Reply:
        return Reply(body={"version": "17.9.0", "revision": "abc"})

    @route("GET", "/personal_access_tokens/self")
    def _get_token(self, call: Call) -> Reply:
        return Reply(body={"id": 1, "name": "t", "active": True} | self.told_of_token)

    @route("GET", _P)
    def _get_project(self, call: Call) -> Reply:
        path = self.project_of(call)
        project, level = self.projects[path], self.level(call.login, path)
        return Reply(
            body={
                "id": project["id"],
                "name": path.split("/")[-1],
                "path": path.split("/")[-1],
                "path_with_namespace": path,
                "default_branch": project["default_branch"],
                "web_url": f"{self.origin}/{path}",
                "http_url_to_repo": f"{self.origin}/{path}.git",
                "visibility": "private",
                "archived": False,
                "issues_access_level": "enabled",
                "merge_requests_access_level": "enabled",
                "permissions": {"project_access": {"access_level": level}, "group_access": None},
            }
            | project["shown"]
        )

    @route("GET", _P + "/members/all")
    def _list_members(self, call: Call) -> Reply:
        path, wanted = self.project_of(call), call.query.get("query", "")
        found = [
            {**self.user(login), "access_level": self.level(login, path), "expires_at": None}
            for login in self.people
            if self.level(login, path) and wanted in login
        ]
        return Reply(body=found, paged=True)

    @route("GET", _P + "/members/all/{user}")
    def _get_member(self, call: Call) -> Reply:
        path = self.project_of(call)
        login = next((n for n, p in self.people.items() if str(p["id"]) == call.parts["user"]), "")
        level = self.level(login, path)
        if not level:
            raise RefusedError(404, {"message": "404 Not found"})
        return Reply(body={**self.user(login), "access_level": level, "expires_at": None})

    # --- routes: issues -----------------------------------------------------------------------------------

    def _list(self, call: Call, found: list[dict[str, Any]]) -> Reply:
        wanted = set(filter(None, call.query.get("labels", "").split(",")))
        state = call.query.get("state", "all")
        after = call.query.get("updated_after", "")
        kept = [
            item
            for item in found
            if wanted <= set(item["labels"])
            and state in ("all", item["state"])
            and item["updated_at"] >= after[:19]
            and call.query.get("assignee_username[]", call.query.get("assignee_username", ""))
            in ("", *(person["username"] for person in item["assignees"]))
        ]
        key = call.query.get("order_by", "created_at")
        return Reply(body=newest_first(kept, key, descending=call.query.get("sort", "desc") == "desc"), paged=True)

    @route("GET", _P + "/issues")
    def _list_issues(self, call: Call) -> Reply:
        path = self.project_of(call)
        return self._list(call, [self.issue(path, iid) for iid in self.projects[path]["issues"]])

    @route("GET", _P + "/issues/{iid}")
    def _get_issue(self, call: Call) -> Reply:
        path, iid, _ = self._item_of(call, "issues")
        return Reply(body=self.issue(path, iid))

    @route("PUT", _P + "/issues/{iid}")
    def _put_issue(self, call: Call) -> Reply:
        path, iid, _ = self._item_of(call, "issues", REPORTER)
        self._change(call, path, iid, "issues")
        return Reply(body=self.issue(path, iid))

    def _change(self, call: Call, path: str, iid: int, kind: str) -> None:
        item, body = self.projects[path][kind][iid], call.body
        for key, field in (("title", "title"), ("description", "body")):
            if key in body:
                item[field] = body[key]
        for name in filter(None, body.get("remove_labels", "").split(",")):
            self.remove_label(path, iid, call.login, name, kind)
        for name in filter(None, body.get("add_labels", "").split(",")):
            self.add_label(path, iid, call.login, name, kind)
        if body.get("state_event") == "close":
            self.close(path, iid, call.login, kind)
        item["updated_at"] = now()

    @route("GET", _P + "/issues/{iid}/resource_label_events")
    def _list_label_events(self, call: Call) -> Reply:
        path, iid, _ = self._item_of(call, "issues")
        return Reply(
            body=[
                {
                    "id": event["id"],
                    "user": self.user(event["by"]),
                    "created_at": event["created_at"],
                    "resource_type": "Issue",
                    "resource_id": self.projects[path]["issues"][iid]["id"],
                    "label": {"id": 1, "name": event["label"], "color": "#ededed", "description": None},
                    "action": event["action"],
                }
                for event in self.projects[path]["label_events"]
                if event["kind"] == "issues" and event["iid"] == iid
            ],
            paged=True,
        )

    # --- routes: notes ------------------------------------------------------------------------------------

    def _list_notes(self, call: Call, kind: str) -> Reply:
        path, iid, _ = self._item_of(call, kind)
        found = [
            self._note(path, entry)
            for entry in self.projects[path]["notes"].values()
            if entry["kind"] == kind and entry["iid"] == iid
        ]
        descending = call.query.get("sort", "desc") == "desc"
        return Reply(
            body=newest_first(found, call.query.get("order_by", "created_at"), descending=descending), paged=True
        )

    def _post_note(self, call: Call, kind: str) -> Reply:
        path, iid, _ = self._item_of(call, kind)
        made = self.note(path, iid, call.login, call.body["body"], kind)
        return Reply(status=201, body=self._note(path, self.projects[path]["notes"][made]))

    def _put_note(self, call: Call, kind: str) -> Reply:
        path, _, _ = self._item_of(call, kind)
        entry = self.projects[path]["notes"].get(int(call.parts["note"]))
        if entry is None:
            raise RefusedError(404, {"message": "404 Note Not Found"})
        if entry["by"] != call.login and self.level(call.login, path) < MAINTAINER:
            raise RefusedError(403, {"message": "403 Forbidden"})
        entry.update(body=call.body["body"], updated_at=now())
        return Reply(body=self._note(path, entry))

    @route("GET", _P + "/issues/{iid}/notes")
    def _list_issue_notes(self, call: Call) -> Reply:
        return self._list_notes(call, "issues")

    @route("POST", _P + "/issues/{iid}/notes")
    def _post_issue_note(self, call: Call) -> Reply:
        return self._post_note(call, "issues")

    @route("PUT", _P + "/issues/{iid}/notes/{note}")
    def _put_issue_note(self, call: Call) -> Reply:
        return self._put_note(call, "issues")

    @route("GET", _P + "/merge_requests/{iid}/notes")
    def _list_request_notes(self, call: Call) -> Reply:
        return self._list_notes(call, "requests")

    @route("POST", _P + "/merge_requests/{iid}/notes")
    def _post_request_note(self, call: Call) -> Reply:
        return self._post_note(call, "requests")

    @route("PUT", _P + "/merge_requests/{iid}/notes/{note}")
    def _put_request_note(self, call: Call) -> Reply:
        return self._put_note(call, "requests")

    # --- routes: reactions --------------------------------------------------------------------------------

    def _award(self, call: Call, path: str, subject: str) -> Reply:
        wanted = {"subject": subject, "by": call.login, "name": call.body["name"]}
        if any(wanted.items() <= entry.items() for entry in self.projects[path]["emoji"]):
            raise RefusedError(404, {"message": "404 Award Emoji Name has already been taken Not Found"})
        entry = {**wanted, "id": self.next_id()}
        self.projects[path]["emoji"].append(entry)
        shown = {"id": entry["id"], "name": entry["name"], "user": self.user(call.login), "created_at": now()}
        return Reply(status=201, body=shown | {"updated_at": now(), "awardable_id": 1, "awardable_type": "Note"})

    @route("POST", _P + "/issues/{iid}/award_emoji")
    def _award_issue(self, call: Call) -> Reply:
        path, iid, _ = self._item_of(call, "issues")
        return self._award(call, path, f"issue:{iid}")

    @route("POST", _P + "/issues/{iid}/notes/{note}/award_emoji")
    def _award_note(self, call: Call) -> Reply:
        path, _, _ = self._item_of(call, "issues")
        return self._award(call, path, f"note:{call.parts['note']}")

    @route("POST", _P + "/merge_requests/{iid}/notes/{note}/award_emoji")
    def _award_request_note(self, call: Call) -> Reply:
        path, _, _ = self._item_of(call, "requests")
        return self._award(call, path, f"note:{call.parts['note']}")

    # --- routes: labels -----------------------------------------------------------------------------------

    def _label(self, path: str, name: str) -> dict[str, Any]:
        entry = self.projects[path]["labels"][name]
        return {**entry, "text_color": "#FFFFFF", "priority": None, "is_project_label": True, "subscribed": False}

    @route("GET", _P + "/labels")
    def _list_labels(self, call: Call) -> Reply:
        path = self.project_of(call)
        return Reply(body=[self._label(path, name) for name in self.projects[path]["labels"]], paged=True)

    @route("POST", _P + "/labels")
    def _create_label(self, call: Call) -> Reply:
        path, name = self.project_of(call, REPORTER), call.body["name"]
        if name in self.projects[path]["labels"]:
            raise RefusedError(409, {"message": "Label already exists"})
        self.make_label(path, name, call.body["color"], call.body.get("description"))
        return Reply(status=201, body=self._label(path, name))

    # --- routes: merge requests ---------------------------------------------------------------------------

    @route("GET", _P + "/merge_requests")
    def _list_requests(self, call: Call) -> Reply:
        path = self.project_of(call)
        source = call.query.get("source_branch", "")
        found = [self.request(path, iid) for iid in self.projects[path]["requests"]]
        reviewer = call.query.get("reviewer_username", "")
        kept = [
            item
            for item in found
            if source in ("", item["source_branch"])
            and reviewer in ("", *(person["username"] for person in item["reviewers"]))
        ]
        return self._list(call, kept)

    @route("POST", _P + "/merge_requests")
    def _create_request(self, call: Call) -> Reply:
        path, body = self.project_of(call, DEVELOPER), call.body
        source, target = body["source_branch"], body["target_branch"]
        sha = self.git(path, "rev-parse", "--verify", "--quiet", f"refs/heads/{source}")
        if not sha:
            raise RefusedError(400, {"message": {"source_branch": ["does not exist"]}})
        for request in self.projects[path]["requests"].values():
            if request["source"] == source and request["target"] == target and request["state"] == "opened":
                message = f"Another open merge request already exists for this source branch: !{request['iid']}"
                raise RefusedError(409, {"message": [message]})
        iid = max(self.projects[path]["requests"], default=0) + 1
        logins = {person["id"]: login for login, person in self.people.items()}
        self.projects[path]["requests"][iid] = {
            **self._item(iid, call.login, body["title"], body.get("description", "")),
            "source": source,
            "target": target,
            "sha": sha,
            "merged_by": None,
            "merged_at": None,
            "remove_source_branch": bool(body.get("remove_source_branch")),
            "reviewers": [logins[number] for number in body.get("reviewer_ids", ()) if number in logins],
        }
        for name in filter(None, body.get("labels", "").split(",")):
            self.add_label(path, iid, call.login, name, "requests")
        return Reply(status=201, body=self.request(path, iid))

    @route("GET", _P + "/merge_requests/{iid}")
    def _get_request(self, call: Call) -> Reply:
        path, iid, _ = self._item_of(call, "requests")
        return Reply(body=self.request(path, iid))

    @route("PUT", _P + "/merge_requests/{iid}")
    def _put_request(self, call: Call) -> Reply:
        path, iid, item = self._item_of(call, "requests", DEVELOPER)
        self._change(call, path, iid, "requests")
        logins = {person["id"]: login for login, person in self.people.items()}
        if "reviewer_ids" in call.body:
            item["reviewers"] = [logins[n] for n in call.body["reviewer_ids"] if n in logins]
        item["target"] = call.body.get("target_branch", item["target"])
        return Reply(body=self.request(path, iid))

    @route("GET", _P + "/merge_requests/{iid}/pipelines")
    def _list_pipelines(self, call: Call) -> Reply:
        path, _, item = self._item_of(call, "requests")
        sha = self._head(path, item)
        found = [self._pipeline(path, entry) for entry in self.projects[path]["pipelines"] if entry["sha"] == sha]
        return Reply(body=found, paged=True)

    @route("GET", _P + "/merge_requests/{iid}/discussions")
    def _list_discussions(self, call: Call) -> Reply:
        path, iid, _ = self._item_of(call, "requests")
        project = self.projects[path]
        found = [
            {
                "id": name,
                "individual_note": False,
                "notes": [self._note(path, project["notes"][number]) for number in entry["notes"]],
            }
            for name, entry in project["discussions"].items()
            if entry["iid"] == iid
        ]
        found += [
            {"id": f"{note['id']:040x}", "individual_note": True, "notes": [self._note(path, note)]}
            for note in project["notes"].values()
            if note["kind"] == "requests" and note["iid"] == iid and note["discussion"] is None
        ]
        return Reply(body=found, paged=True)

    def _discussion(self, call: Call) -> tuple[str, dict[str, Any]]:
        path, _, _ = self._item_of(call, "requests")
        entry = self.projects[path]["discussions"].get(call.parts["discussion"])
        if entry is None:
            raise RefusedError(404, {"message": "404 Discussion Not Found"})
        return path, entry

    @route("POST", _P + "/merge_requests/{iid}/discussions/{discussion}/notes")
    def _reply(self, call: Call) -> Reply:
        path, entry = self._discussion(call)
        made = self.note(path, entry["iid"], call.login, call.body["body"], "requests")
        self.projects[path]["notes"][made]["discussion"] = call.parts["discussion"]
        entry["notes"].append(made)
        return Reply(status=201, body=self._note(path, self.projects[path]["notes"][made]))

    @route("PUT", _P + "/merge_requests/{iid}/discussions/{discussion}")
    def _resolve(self, call: Call) -> Reply:
        path, entry = self._discussion(call)
        entry["resolved"] = bool(call.body["resolved"])
        notes = [self._note(path, self.projects[path]["notes"][number]) for number in entry["notes"]]
        return Reply(body={"id": call.parts["discussion"], "individual_note": False, "notes": notes})

    @route("GET", _P + "/repository/commits/{sha}/statuses")
    def _list_statuses(self, call: Call) -> Reply:
        path, wanted = self.project_of(call), int(call.query.get("pipeline_id", 0))
        shown = [
            {
                "id": number,
                "sha": entry["sha"],
                "ref": "x",
                "status": "success" if name == "lint" else "failed",
                "name": name,
                "target_url": f"{self.origin}/{path}/-/jobs/{number}",
                "description": None,
                "created_at": entry["created_at"],
                "allow_failure": name.startswith("may fail"),
                "pipeline_id": entry["id"],
            }
            for entry in self.projects[path]["pipelines"]
            if entry["sha"] == call.parts["sha"] and wanted in (0, entry["id"])
            for number, name in ((0, "lint"), *entry["jobs"])
        ]
        return Reply(body=shown, paged=True)

    # --- routes: branches, tokens, hooks --------------------------------------------------------------------

    @route("GET", _P + "/repository/branches/{branch}")
    def _get_branch(self, call: Call) -> Reply:
        path, name = self.project_of(call), call.parts["branch"]
        sha = self.git(path, "rev-parse", "--verify", "--quiet", f"refs/heads/{name}")
        if not sha:
            raise RefusedError(404, {"message": "404 Branch Not Found"})
        commit = {"id": sha, "short_id": sha[:8], "title": ""}
        return Reply(body={"name": name, "merged": False, "protected": False, "default": False, "commit": commit})

    @route("DELETE", _P + "/repository/branches/{branch}")
    def _delete_branch(self, call: Call) -> Reply:
        path, name = self.project_of(call, DEVELOPER), call.parts["branch"]
        if not self.git(path, "rev-parse", "--verify", "--quiet", f"refs/heads/{name}"):
            raise RefusedError(404, {"message": "404 Branch Not Found"})
        self.git(path, "update-ref", "-d", f"refs/heads/{name}")
        return Reply(status=204)

    def _may_have_tokens(self, call: Call, path: str) -> bool:
        """A Maintainer, where the project has any; no token of a project makes others."""
        by_bot = call.login.startswith(("project_", "group_"))
        return (
            self.level(call.login, path) >= MAINTAINER and bool(self.projects[path]["has_tokens"]) and not by_bot
        )

    @route("POST", _P + "/access_tokens")
    def _create_token(self, call: Call) -> Reply:
        path, body = self.project_of(call), call.body
        if not self._may_have_tokens(call, path):
            message = "400 Bad request - User does not have permission to create project access token"
            raise RefusedError(400, {"message": message})
        number, token = self.next_id(), f"glpat-{uuid.uuid4().hex}"
        bot = self.add_person(f"project_{number}_bot", token, {path: body.get("access_level", MAINTAINER)})
        self.projects[path]["tokens"][number] = token
        self.minted.append({"id": number, "token": token, **body})
        shown = {"id": number, "name": body["name"], "token": token, "scopes": body["scopes"], "revoked": False}
        more = {"active": True, "user_id": self.people[bot]["id"], "expires_at": body["expires_at"]}
        level = {"access_level": body.get("access_level", MAINTAINER), "created_at": now()}
        return Reply(status=201, body=shown | more | level)

    @route("GET", _P + "/access_tokens")
    def _list_tokens(self, call: Call) -> Reply:
        path = self.project_of(call)
        if not self._may_have_tokens(call, path):
            raise RefusedError(401, {"message": "401 Unauthorized"})
        live = self.projects[path]["tokens"]
        shown = [{"active": True, **one} for one in self.minted if one["id"] in live]
        return Reply(body=[{k: v for k, v in one.items() if k != "token"} for one in shown], paged=True)

    @route("DELETE", _P + "/access_tokens/{token}")
    def _delete_token(self, call: Call) -> Reply:
        path = self.project_of(call, MAINTAINER)
        token = self.projects[path]["tokens"].pop(int(call.parts["token"]), None)
        if token is None:
            raise RefusedError(404, {"message": "404 Not found"})
        self.tokens.pop(token, None)
        return Reply(status=204)

    @route("GET", _P + "/hooks")
    def _list_hooks(self, call: Call) -> Reply:
        path = self.project_of(call, MAINTAINER)
        return Reply(body=self.projects[path]["hooks"], paged=True)
