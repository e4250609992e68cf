"""A small world of real repositories: an upstream, a person's clone, an agent's clone."""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_DATE": "2026-01-07T10:30:00Z",
    "GIT_COMMITTER_DATE": "2026-01-07T10:31:00+0200",
    "LC_ALL": "C.UTF-8",
}
PERSON = ("Paula Person", "paula@example.org")


def git(folder: Path, *arguments: str, stdin: bytes | None = None) -> str:
    """Run git in a folder of the test and give what it prints, without the last line end."""
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        cwd=folder,
        env=_ENVIRONMENT,
        input=stdin,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, f"git {arguments}: {done.stderr.decode()}"
    return done.stdout.decode().rstrip("\n")


@dataclass(frozen=True)
class Clone:
    """A working copy and who commits in it."""

    path: Path
    name: str
    email: str

    def git(self, *arguments: str) -> str:
        return git(self.path, "-c", f"user.name={self.name}", "-c", f"user.email={self.email}", *arguments)

    def write(self, files: dict[str, str | bytes | None]) -> None:
        for name, content in files.items():
            path = self.path / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, message: str, files: dict[str, str | bytes | None]) -> str:
        """Write or (None) delete these files, commit everything, and give the commit."""
        self.write(files)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.head()

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def bundle(self, base: str, target: Path, branch: str = "work") -> Path:
        """Bundle base..HEAD under a branch's name, as the agent daemon does."""
        self.git("branch", "--force", branch, "HEAD")
        self.git("bundle", "create", "--quiet", str(target), f"refs/heads/{branch}", f"^{base}")
        return target


def make_upstream(folder: Path) -> tuple[Path, Clone]:
    """A bare repository with a few commits on main and one on a branch of people, and a person's clone of it."""
    made = _made_upstream()
    for name in ("upstream.git", "person"):
        shutil.copytree(made / name, folder / name, symlinks=True)
    config = folder / "person" / ".git" / "config"
    config.write_text(config.read_text().replace(str(made), str(folder)))
    return folder / "upstream.git", Clone(folder / "person", *PERSON)


@functools.cache
def _made_upstream() -> Path:
    """One to copy: many tests begin with the same."""
    folder = Path(tempfile.mkdtemp(prefix="cloud-code-upstream-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    bare = folder / "upstream.git"
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    person = clone(bare, folder / "person", *PERSON)
    person.git("checkout", "--quiet", "-b", "main")
    person.commit("Begin", {"README.md": "# App\n", "src/app.py": "print('hello')\n", "src/Old.txt": "old\n"})
    person.commit("Add a workflow", {".github/workflows/ci.yml": "on: push\n", "src/lib.py": "X = 1\n" * 50})
    person.git("push", "--quiet", "origin", "main")
    person.git("checkout", "--quiet", "-b", "people")
    person.commit("Something else", {"src/else.py": "Y = 2\n"})
    person.git("push", "--quiet", "origin", "people")
    person.git("checkout", "--quiet", "main")
    return folder


def clone(source: Path, target: Path, name: str, email: str) -> Clone:
    git(target.parent, "clone", "--quiet", str(source), str(target))
    return Clone(target, name, email)
