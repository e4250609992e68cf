"""GitHub's answers as the published description shapes them, from the fake's small state."""

from typing import Any

_USER_LINKS = [
    "events",
    "followers",
    "following",
    "gists",
    "organizations",
    "received_events",
    "repos",
    "starred",
    "subscriptions",
]
_REPOSITORY_LINKS = [
    "archive",
    "assignees",
    "blobs",
    "branches",
    "collaborators",
    "comments",
    "commits",
    "compare",
    "contents",
    "contributors",
    "deployments",
    "downloads",
    "events",
    "forks",
    "git_commits",
    "git_refs",
    "git_tags",
    "hooks",
    "issue_comment",
    "issue_events",
    "issues",
    "keys",
    "labels",
    "languages",
    "merges",
    "milestones",
    "notifications",
    "pulls",
    "releases",
    "stargazers",
    "statuses",
    "subscribers",
    "subscription",
    "tags",
    "teams",
    "trees",
]


def escaped(login: str) -> str:
    """A login in a URL: GitHub escapes the brackets of `name[bot]`."""
    return login.replace("[", "%5B").replace("]", "%5D")


def user(origin: str, login: str, number: int) -> dict[str, Any]:
    url = f"{origin}/api/v3/users/{escaped(login)}"
    return {
        "login": login,
        "id": number,
        "node_id": f"U_{number}",
        "avatar_url": f"{origin}/avatars/{number}",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{origin}/{escaped(login)}",
        **{f"{name}_url": f"{url}/{name}" for name in _USER_LINKS},
        "type": "Bot" if login.endswith("[bot]") else "User",
        "site_admin": False,
    }


def whole_user(origin: str, login: str, number: int) -> dict[str, Any]:
    texts = dict.fromkeys(("bio", "blog", "company", "email", "hireable", "location", "name"))
    counts = dict.fromkeys(("followers", "following", "public_gists", "public_repos"), 0)
    private = dict.fromkeys(
        ("collaborators", "disk_usage", "owned_private_repos", "private_gists", "total_private_repos"), 0
    )
    return {
        **user(origin, login, number),
        **texts,
        "blog": "",
        **counts,
        **private,
        "two_factor_authentication": True,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    }


def repository(origin: str, full_name: str, owner: dict[str, Any], **own: Any) -> dict[str, Any]:
    name = full_name.split("/")[1]
    url = f"{origin}/api/v3/repos/{full_name}"
    counts = "forks forks_count open_issues open_issues_count stargazers_count watchers watchers_count size"
    return {
        "id": own["id"],
        "node_id": f"R_{own['id']}",
        "name": name,
        "full_name": full_name,
        "owner": owner,
        "private": False,
        "html_url": f"{origin}/{full_name}",
        "description": None,
        "fork": False,
        "url": url,
        **{f"{link}_url": f"{url}/{link}" for link in _REPOSITORY_LINKS},
        "git_url": f"git://127.0.0.1/{full_name}.git",
        "ssh_url": f"git@127.0.0.1:{full_name}.git",
        "svn_url": f"{origin}/{full_name}",
        "clone_url": f"{origin}/{full_name}.git",
        "homepage": None,
        "language": None,
        **dict.fromkeys(counts.split(), 0),
        "default_branch": own["default_branch"],
        **dict.fromkeys(["has_issues", "has_projects", "has_wiki", "has_downloads"], True),
        **dict.fromkeys(["has_pages", "has_discussions", "archived", "disabled"], False),
        "mirror_url": None,
        "license": None,
        "pushed_at": own["created_at"],
        "created_at": own["created_at"],
        "updated_at": own["created_at"],
        "permissions": own["permissions"],
    }


def label(origin: str, full_name: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": entry["id"],
        "node_id": f"L_{entry['id']}",
        "url": f"{origin}/api/v3/repos/{full_name}/labels/{entry['name'].replace(' ', '%20')}",
        "name": entry["name"],
        "color": entry["color"],
        "default": False,
        "description": entry["description"],
    }


def comment(
    origin: str, full_name: str, entry: dict[str, Any], author: dict[str, Any], kind: str = "issues"
) -> dict[str, Any]:
    """A comment of a conversation; `kind` is ``pull`` where that is a request's."""
    api = f"{origin}/api/v3/repos/{full_name}"
    return {
        "id": entry["id"],
        "node_id": f"IC_{entry['id']}",
        "url": f"{api}/issues/comments/{entry['id']}",
        "html_url": f"{origin}/{full_name}/{kind}/{entry['issue']}#issuecomment-{entry['id']}",
        "issue_url": f"{api}/issues/{entry['issue']}",
        "body": entry["body"],
        "user": author,
        "created_at": entry["created_at"],
        "updated_at": entry["updated_at"],
        "author_association": "NONE",
        "performed_via_github_app": None,
    }


def event(origin: str, full_name: str, entry: dict[str, Any], actor: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": entry["id"],
        "node_id": f"EV_{entry['id']}",
        "url": f"{origin}/api/v3/repos/{full_name}/issues/events/{entry['id']}",
        "actor": actor,
        "event": entry["event"],
        "commit_id": None,
        "commit_url": None,
        "created_at": entry["created_at"],
        "performed_via_github_app": None,
        **entry["extra"],
    }


def review(origin: str, full_name: str, entry: dict[str, Any], author: dict[str, Any]) -> dict[str, Any]:
    page = f"{origin}/{full_name}/pull/{entry['number']}"
    api = f"{origin}/api/v3/repos/{full_name}/pulls/{entry['number']}"
    return {
        "id": entry["id"],
        "node_id": f"PRR_{entry['id']}",
        "user": author,
        "body": entry["body"],
        "state": entry["state"],
        "html_url": f"{page}#pullrequestreview-{entry['id']}",
        "pull_request_url": api,
        "author_association": "NONE",
        "_links": {
            "html": {"href": f"{page}#pullrequestreview-{entry['id']}"},
            "pull_request": {"href": api},
        },
        "submitted_at": entry["submitted_at"],
        "commit_id": entry["commit_id"],
    }


def review_comment(origin: str, full_name: str, entry: dict[str, Any], author: dict[str, Any]) -> dict[str, Any]:
    api = f"{origin}/api/v3/repos/{full_name}/pulls"
    page = f"{origin}/{full_name}/pull/{entry['number']}#discussion_r{entry['id']}"
    shown = {
        "id": entry["id"],
        "node_id": f"PRRC_{entry['id']}",
        "url": f"{api}/comments/{entry['id']}",
        "pull_request_review_id": entry["review"],
        "diff_hunk": "@@ -1 +1 @@",
        "path": entry["path"],
        "position": 1,
        "original_position": 1,
        "line": entry["line"],
        "original_line": entry["line"],
        "side": "RIGHT",
        "commit_id": entry["commit_id"],
        "original_commit_id": entry["commit_id"],
        "user": author,
        "body": entry["body"],
        "created_at": entry["created_at"],
        "updated_at": entry["created_at"],
        "html_url": page,
        "pull_request_url": f"{api}/{entry['number']}",
        "author_association": "NONE",
        "_links": {
            "self": {"href": f"{api}/comments/{entry['id']}"},
            "html": {"href": page},
            "pull_request": {"href": f"{api}/{entry['number']}"},
        },
    }
    return shown | ({"in_reply_to_id": entry["reply_to"]} if entry["reply_to"] else {})


def check_run(origin: str, full_name: str, entry: dict[str, Any]) -> dict[str, Any]:
    api = f"{origin}/api/v3/repos/{full_name}"
    return {
        "id": entry["id"],
        "node_id": f"CR_{entry['id']}",
        "head_sha": entry["head_sha"],
        "external_id": "",
        "url": f"{api}/check-runs/{entry['id']}",
        "html_url": f"{origin}/{full_name}/runs/{entry['id']}",
        "details_url": f"{origin}/{full_name}/runs/{entry['id']}",
        "status": entry["status"],
        "conclusion": entry["conclusion"],
        "started_at": entry["started_at"],
        "completed_at": entry["started_at"] if entry["conclusion"] else None,
        "output": {
            "title": entry["title"],
            "summary": entry["summary"],
            "text": None,
            "annotations_count": 0,
            "annotations_url": f"{api}/check-runs/{entry['id']}/annotations",
        },
        "name": entry["name"],
        "check_suite": {"id": entry["id"]},
        "app": None,
        "pull_requests": [],
    }


def pull_links(origin: str, full_name: str, number: int, sha: str) -> dict[str, Any]:
    """Everything in a pull request that is only an address."""
    api, page = f"{origin}/api/v3/repos/{full_name}", f"{origin}/{full_name}/pull/{number}"
    addresses = {
        "self": f"{api}/pulls/{number}",
        "html": page,
        "issue": f"{api}/issues/{number}",
        "comments": f"{api}/issues/{number}/comments",
        "review_comments": f"{api}/pulls/{number}/comments",
        "review_comment": f"{api}/pulls/comments{{/number}}",
        "commits": f"{api}/pulls/{number}/commits",
        "statuses": f"{api}/statuses/{sha}",
    }
    return {
        "url": addresses["self"],
        "html_url": page,
        "issue_url": addresses["issue"],
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        **{f"{name}_url": addresses[name] for name in addresses if name not in ("self", "html", "issue")},
        "_links": {name: {"href": href} for name, href in addresses.items()},
    }
