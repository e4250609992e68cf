"""The images of the types: built by the command, with the programs that docs/workstations.md says are in them."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.docker_engine import BASE, CERTIFICATES, docker, engine, need_base
from tests.thorough import where_there_is_time

# Whole images are built, from packages of a distribution.
pytestmark = pytest.mark.timeout(900)

EVERYWHERE = ("git", "curl", "wget", "jq", "rg", "fd", "uv", "python3", "pip")
PROGRAMS = {
    "planner": ("bc",),
    "backend": ("poetry", "pipx", "ruff", "mypy", "pytest", "psql", "redis-cli"),
    "frontend": ("node", "npm", "yarn", "pnpm", "bun", "tsc", "eslint", "prettier", "playwright"),
    "database": ("psql", "mysql", "redis-cli", "sqlite3", "alembic", "mongosh"),
    "devops": ("ansible", "kubectl", "make", "ssh", "buildah", "podman"),
    "reviewer": ("ruff", "mypy", "eslint", "bandit", "semgrep", "detect-secrets"),
    "testing": ("pytest", "coverage", "locust", "jest", "playwright", "chromium"),
}
# How a program is asked whether it runs, where it is not by `--version`.
ASKED = {"kubectl": "version --client", "ssh": "-V"}
# As a workstation is run: no rights, no network, nothing to be written but /tmp, /var/tmp and /tools.
CONFINED = (
    "--network=none",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=2g",
    "--pids-limit=512",
    "--mount=type=volume,target=/tmp",
    "--mount=type=volume,target=/var/tmp",
    "--mount=type=volume,target=/tools",
)


@pytest.mark.parametrize("kind", ["planner", "backend", *where_there_is_time(*tuple(PROGRAMS)[2:])])
def test_the_image_of_a_type_has_its_programs(kind: str, tmp_path: Path) -> None:
    engine()
    need_base()
    tag = f"cloud-code-test/{kind}:{os.getuid()}"
    trusted = ["--certificates", str(CERTIFICATES)] if CERTIFICATES.is_dir() else []
    command = [sys.executable, "-m", "supervisor", "--root", str(tmp_path / "root"), "workstation", "build", kind]
    more = ["--packages", "bc,libjansson4"] if kind == "planner" else []
    built = subprocess.run(
        [*command, "--tag", tag, "--base", BASE, *trusted, *more], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    assert f"{tag} is built." in built.stderr

    asked = [f"{name} {ASKED.get(name, '--version')}" for name in (*EVERYWHERE, *PROGRAMS[kind])]
    script = 'for one in "$@"; do $one >/tmp/said 2>&1 || { echo "$one: $?"; tail -n 3 /tmp/said; }; done'
    ran = docker("run", "--rm", *CONFINED, "--entrypoint", "sh", tag, "-c", script, "sh", *asked, seconds=300)
    assert ran == ""
    settings = json.loads(docker("image", "inspect", tag))[0]["Config"]
    assert settings["User"] == f"{os.getuid()}:{os.getgid()}" and settings["Healthcheck"]["Test"]
    if kind == "devops":
        containers_are_built_and_run_on_a_kernel_of_their_own(tag)


BUILD_AND_RUN = r"""
set -eu
mkdir -p /tmp/made/root/bin && cd /tmp/made
for one in /bin/sh /bin/chown /bin/ls /bin/cat; do
    cp --parents $one $(ldd $one | grep -o '/[^ ]*') root
done
cat >Dockerfile <<'END'
FROM scratch
COPY root /
RUN echo built >/built && chown 7:8 /built
CMD ["/bin/sh", "-c", "cat /built; ls -ln /built; echo $HTTP_PROXY"]
END
python3 -m http.server --bind 127.0.0.1 3128 >/tmp/asked 2>&1 &
export HTTP_PROXY=http://127.0.0.1:3128 http_proxy=http://127.0.0.1:3128
{ buildah bud -t made . && podman save -o made.tar made; } >/tmp/told 2>&1 || { cat /tmp/told; exit 1; }
podman run --rm --memory 64m made
podman run --rm made /bin/sh -c 'exit 3' || echo "ended with $?"
own-kernel sh -c 'curl --silent --output /dev/null http://example.org/ && echo there >seen'
ls -n seen made.tar | cut -d ' ' -f 3,4
grep -o 'GET http://example.org/' /tmp/asked
ls /dev/shm
"""


def containers_are_built_and_run_on_a_kernel_of_their_own(tag: str) -> None:
    """With everything that a hardened workstation is not given: mounts, users, name spaces."""
    ran = docker("run", "--rm", *CONFINED, "--entrypoint", "bash", tag, "-c", BUILD_AND_RUN, seconds=300).split(
        "\n"
    )
    user = f"{os.getuid()} {os.getgid()}"
    assert ran[0] == "built" and ran[1].split()[2:4] == ["7", "8"]
    assert ran[2:] == ["http://10.0.2.2:3128", "ended with 3", user, user, "GET http://example.org/", ""]


def test_a_build_that_fails_leaves_the_former_image_and_no_container(tmp_path: Path) -> None:
    engine()
    need_base()
    mine = uuid.uuid4().hex
    tag, broken = (f"cloud-code-test/{name}:{mine}" for name in ("kept", "broken"))
    recipe = f"FROM {BASE}\nLABEL mine={mine}\nRUN ln -sf /bin/false /usr/bin/apt-get\n"
    command = ["docker", "build", "--quiet", "--tag", broken, "-"]
    subprocess.run(command, input=recipe, text=True, check=True, env={**os.environ, "DOCKER_BUILDKIT": "0"})
    docker("tag", BASE, tag)
    before = docker("image", "inspect", "--format", "{{.Id}}", tag)
    build = [sys.executable, "-m", "supervisor", "--root", str(tmp_path / "root"), "workstation", "build", "base"]
    built = subprocess.run([*build, "--tag", tag, "--base", broken], capture_output=True, text=True, check=False)
    try:
        assert built.returncode == 1 and "E_IMAGE_BUILD" in built.stderr, built.stderr
        assert "install.sh base" in built.stdout + built.stderr, "what failed stands above"
        assert docker("image", "inspect", "--format", "{{.Id}}", tag) == before
        assert docker("ps", "--all", "--quiet", "--filter", f"ancestor={broken}") == ""
    finally:
        docker("rmi", tag, broken)


def test_the_image_that_another_root_runs_in_is_not_built_for_another_user(tmp_path: Path) -> None:
    engine()
    need_base()
    tag, uid = f"cloud-code-test/shared:{tmp_path.name}", os.getuid()
    builder = {**os.environ, "DOCKER_BUILDKIT": "0"}
    build = [sys.executable, "-m", "supervisor", "--root", str(tmp_path / "root"), "workstation", "build", "base"]
    try:
        for made_for, words in ((uid + 1, "E_IMAGE_USER"), (uid, f"{tag} is also the image of workstations")):
            recipe = f"FROM {BASE}\nLABEL cloud-code.uid={made_for}\n"
            making = ["docker", "build", "--quiet", "--tag", tag, "-"]
            subprocess.run(making, input=recipe, text=True, check=True, env=builder)
            docker("create", "--name", tmp_path.name, "--label", "cloud-code.path=/srv/other", tag, "true")
            before = docker("image", "inspect", "--format", "{{.Id}}", tag)
            command = [*build, "--tag", tag, "--base", "scratch"]  # (in which nothing can be run)
            built = subprocess.run(command, capture_output=True, text=True, check=False)
            assert built.returncode == 1 and words in built.stderr and "/srv/other" in built.stderr, built.stderr
            assert docker("image", "inspect", "--format", "{{.Id}}", tag) == before
            docker("rm", tmp_path.name)
    finally:
        docker("rm", "--force", tmp_path.name, check=False)
        docker("rmi", tag, check=False)
