"""Start a fake forge with a repository in it, checked against its description where that is at hand."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.forge import github, gitlab
from tests.fakes.forge.contract import Contract, contracts_folder
from tests.fakes.forge.github import GitHub
from tests.fakes.forge.gitlab import GitLab
from tests.fakes.forge.server import Forge
from tests.site import git


@contextmanager
def running_github(repositories: dict[str, Path]) -> Iterator[GitHub]:
    """A GitHub with these repositories (name to bare repository); fails at the end on a violated contract."""
    folder = contracts_folder()
    contract = Contract(folder / "github-openapi-trimmed.json", prefix="/api/v3") if folder else None
    with GitHub(contract) as hub:
        for name, bare in repositories.items():
            hub.add_repository(name, bare)
        yield hub
        refuse_violations(hub, github.ALLOWED_VIOLATIONS)


@contextmanager
def running_gitlab(projects: dict[str, Path]) -> Iterator[GitLab]:
    """A GitLab with these projects (path to bare repository); fails at the end on a violated contract."""
    folder = contracts_folder()
    contract = Contract(folder / "gitlab-openapi-trimmed.json") if folder else None
    with GitLab(contract) as lab:
        for path, bare in projects.items():
            lab.add_project(path, bare)
        yield lab
        refuse_violations(lab, gitlab.ALLOWED_VIOLATIONS)


def refuse_violations(forge: Forge, allowed: tuple[str, ...]) -> None:
    found = [v for v in forge.violations if not any(re.search(pattern, v) for pattern in allowed)]
    assert not found, "\n".join(found[:20])


def push_branch(bare: Path, branch: str, folder: Path) -> str:
    """A commit on a branch of a repository, as a push would leave it; returns its hash."""
    work = folder / branch.replace("/", "-")
    git("clone", "--quiet", str(bare), str(work), cwd=folder)
    (work / "b.py").write_text(branch)
    git("add", "--all", cwd=work)
    git("commit", "--quiet", "--message=Work", cwd=work)
    git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}", cwd=work)
    return git("rev-parse", "HEAD", cwd=work)
