"""A site whose projects are on forges: both stand-ins running, real programs against them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.forge.github import GitHub
from tests.fakes.forge.gitlab import DEVELOPER, REPORTER, GitLab
from tests.fakes.forge.running import running_github, running_gitlab
from tests.site import Site, make_remote

BOT = "cloud-code-bot"
REPO, PROJECT = "acme/app", "grp/app"
CALC = {"calc.py": "def add(a, b):\n    return a - b\n"}
FIX = "sed -i 's/a - b/a + b/' calc.py"


@dataclass
class ForgeSite:
    """A site with the project `hub` on a GitHub and the project `lab` on a GitLab.

    Ada may write on both, Rea may read, Eve is a stranger.
    """

    site: Site
    hub: GitHub
    lab: GitLab

    def project(self, name: str, **settings: Any) -> None:
        self.site.config["projects"][name] |= settings

    def said(self, number: int) -> list[str]:
        """Our comments on an issue or request of the GitHub."""
        with self.hub.lock:
            comments = list(self.hub.repos[REPO]["comments"].values())
        return [c["body"] for c in comments if c["issue"] == number and c["by"] == BOT]

    def noted(self, number: int) -> list[str]:
        """Our notes on an issue of the GitLab."""
        with self.lab.lock:
            notes = list(self.lab.projects[PROJECT]["notes"].values())
        ours = [note for note in notes if note["by"] == BOT and not note["system"]]
        return [note["body"] for note in ours if note["kind"] == "issues" and note["iid"] == number]

    def labelled(self, title: str = "Fix the sum", body: str = "It subtracts.", by: str = "rea") -> int:
        """An issue on the GitHub that somebody opens and Ada labels."""
        number = self.hub.open_issue(REPO, by, title, body)
        self.hub.add_label(REPO, number, "ada", "cloud-code")
        return number

    def labels(self, number: int) -> list[str]:
        with self.hub.lock:
            return list(self.hub.repos[REPO]["issues"][number]["labels"])

    def reactions(self, comment: int) -> list[str]:
        """Ours on a comment of the GitHub."""
        with self.hub.lock:
            found = [r for r in self.hub.repos[REPO]["reactions"] if r["by"] == BOT]
        return [r["content"] for r in found if r["subject"] == f"comment:{comment}"]

    def request_of(self, task_id: str) -> int:
        task = self.site.record(task_id)
        assert task is not None and task.request is not None and task.request.number is not None
        return task.request.number


@contextmanager
def forge_site(folder: Path) -> Iterator[ForgeSite]:
    with ExitStack() as stack:
        hub = stack.enter_context(running_github({REPO: make_remote(folder / "hub.git", CALC)}))
        lab = stack.enter_context(running_gitlab({PROJECT: make_remote(folder / "lab.git", CALC)}))
        hub.add_person(BOT, "hub-token", {REPO: "write"})
        lab.add_person(BOT, "lab-token", {PROJECT: DEVELOPER})
        hub.add_person("ada", permissions={REPO: "write"})
        lab.add_person("ada", levels={PROJECT: DEVELOPER})
        hub.add_person("rea", permissions={REPO: "read"})
        lab.add_person("rea", levels={PROJECT: REPORTER})
        hub.add_person("eve")
        lab.add_person("eve")
        site = Site(folder)
        stack.callback(site.close)
        token = {"hub": "hub-token", "lab": "lab-token"}
        for name, value in token.items():
            path = site.root.path / f"{name}.token"
            path.write_text(value)
            path.chmod(0o600)
        site.config["projects"] = {
            name: {
                "forge": kind,
                "repository": repository,
                "url": url,
                "auth": {"token": {"file": f"{name}.token"}},
                "base_branch": "main",
                "poll_interval_seconds": 1,
                "limits": {"max_failures": 2},
            }
            for name, kind, repository, url in (
                ("hub", "github", REPO, hub.origin),
                ("lab", "gitlab", PROJECT, lab.origin),
            )
        }
        yield ForgeSite(site, hub, lab)
