"""The images of the types: built by the command, with the programs that docs/workstations.md says are in them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker_engine import BASE, CERTIFICATES, docker, engine, need_base
from tests.thorough import where_there_is_time

EVERYWHERE = ("git", "curl", "wget", "jq", "rg", "fd", "uv", "python3", "pip")
PROGRAMS = {
    "planner": (),
    "backend": ("poetry", "pipx", "ruff", "mypy", "pytest", "psql", "redis-cli"),
    "frontend": ("node", "npm", "yarn", "pnpm", "bun", "tsc", "eslint", "prettier", "playwright"),
    "database": ("psql", "mysql", "redis-cli", "sqlite3", "alembic", "mongosh"),
    "devops": ("ansible", "kubectl", "make", "ssh"),
    "reviewer": ("ruff", "mypy", "eslint", "bandit", "semgrep", "detect-secrets"),
    "testing": ("pytest", "coverage", "locust", "jest", "playwright", "chromium"),
}
# How a program is asked whether it runs, where it is not by `--version`.
ASKED = {"kubectl": "version --client", "ssh": "-V"}
# As a workstation is run: no rights, no network, nothing to be written but /tmp and the home.
CONFINED = (
    "--network=none",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--tmpfs=/tmp",
    "--tmpfs=/tools/home",
)


@pytest.mark.parametrize("kind", ["planner", "backend", *where_there_is_time(*tuple(PROGRAMS)[2:])])
def test_the_image_of_a_type_has_its_programs(kind: str, tmp_path: Path) -> None:
    engine()
    need_base()
    tag = f"cloud-code-test/{kind}:{os.getuid()}"
    trusted = ["--certificates", str(CERTIFICATES)] if CERTIFICATES.is_dir() else []
    command = [sys.executable, "-m", "supervisor", "--root", str(tmp_path / "root"), "workstation", "build", kind]
    built = subprocess.run([*command, "--tag", tag, "--base", BASE, *trusted], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    assert f"{tag} is built." in built.stderr

    asked = [f"{name} {ASKED.get(name, '--version')}" for name in (*EVERYWHERE, *PROGRAMS[kind])]
    script = 'for one in "$@"; do $one >/tmp/said 2>&1 || { echo "$one: $?"; tail -n 3 /tmp/said; }; done'
    ran = docker("run", "--rm", *CONFINED, "--entrypoint", "sh", tag, "-c", script, "sh", *asked, seconds=300)
    assert ran == ""
    settings = json.loads(docker("image", "inspect", tag))[0]["Config"]
    assert settings["User"] == f"{os.getuid()}:{os.getgid()}" and settings["Healthcheck"]["Test"]
