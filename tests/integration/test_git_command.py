"""The one way to run git: what it inherits, what it may use, how it ends, what it says when it fails."""

import contextlib
import http.server
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from supervisor.git.command import Credential, GitError, Limits, end_leftovers, open_git, run_git
from supervisor.git.errors import from_stderr
from supervisor.git.mirror import header_for, make_repository


def shell(script: str) -> list[str]:
    """Arguments that make git run a shell script in the environment and the group of its own."""
    return ["-c", f"alias.run=!{script} #", "run"]


def wait_until(condition: Callable[[], bool], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_nothing_is_inherited_but_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GIT_DIR", "GIT_TRACE", "GIT_CONFIG_PARAMETERS", "GIT_EXTERNAL_DIFF", "SSH_ASKPASS", "TOKEN"):
        monkeypatch.setenv(name, "/inherited")
    make_repository(tmp_path / "app.git")
    printed = run_git(shell("env"), git_dir=tmp_path / "app.git").decode()
    variables = dict(line.split("=", 1) for line in printed.splitlines())
    assert "/inherited" not in variables.values()
    assert variables["PATH"].endswith(os.environ["PATH"])
    assert variables["CLOUD_CODE_GIT"] == str(tmp_path / "app.git")
    assert variables["GIT_ALLOW_PROTOCOL"] == "file:https:ssh"
    assert variables["GIT_NO_LAZY_FETCH"] == variables["GIT_NO_REPLACE_OBJECTS"] == "1"
    assert variables["GIT_TERMINAL_PROMPT"] == "0"
    assert not Path(variables["HOME"]).exists()


def test_the_users_and_the_systems_configuration_are_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = leaked\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    listing = run_git(["config", "--list", "--show-origin"]).decode()
    assert {line.split("\t")[0] for line in listing.splitlines()} == {"command line:"}
    assert "http.followredirects=false" in listing


def test_hooks_do_not_run(tmp_path: Path) -> None:
    repository = tmp_path / "app.git"
    make_repository(repository)
    hook = repository / "hooks" / "reference-transaction"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    tree = run_git(["mktree"], git_dir=repository, stdin=b"").decode().strip()
    content = f"tree {tree}\nauthor A <a@b.c> 1 +0000\ncommitter A <a@b.c> 1 +0000\n\nx\n".encode()
    commit = run_git(["hash-object", "-t", "commit", "-w", "--stdin"], git_dir=repository, stdin=content)
    run_git(["update-ref", "refs/heads/main", commit.decode().strip()], git_dir=repository)
    assert run_git(["for-each-ref", "--format=%(refname)"], git_dir=repository) == b"refs/heads/main\n"
    assert not (tmp_path / "ran").exists()


def test_a_repository_around_the_temporary_folder_is_not_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_repository(tmp_path / ".git")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(GitError) as caught:
        run_git(["rev-parse", "--git-dir"])
    assert caught.value.exit_code == 128


def test_the_whole_group_ends_with_the_time(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    for seconds in (0.3, 3, 30):  # as much as it takes on a busy machine until the group is there
        started = time.monotonic()
        with pytest.raises(GitError) as caught:
            run_git(shell(f"sleep 60 & echo $! > {note}; trap '' TERM; wait; wait"), timeout_seconds=seconds)
        assert (caught.value.code, caught.value.retryable) == ("E_GIT_TIMEOUT", True)
        assert time.monotonic() - started < 30 + seconds
        if note.exists() and note.read_text():
            break
    wait_until(lambda: not is_running(int(note.read_text())))


def test_what_a_call_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    assert run_git(shell(f"sleep 60 >/dev/null 2>&1 & echo $! > {note}; echo done")) == b"done\n"
    wait_until(lambda: not is_running(int(note.read_text())))


def test_limits_are_in_force(tmp_path: Path) -> None:
    limits = Limits(memory_bytes=512 * 1024**2, cpu_seconds=7, file_bytes=1024**2)
    printed = run_git(shell("ulimit -v; ulimit -t; ulimit -f; ulimit -c"), limits=limits)
    assert printed.split() == [b"524288", b"7", b"2048", b"0"]
    make_repository(tmp_path / "app.git")
    with pytest.raises(GitError) as caught:
        run_git(
            ["hash-object", "-w", "--stdin"],
            git_dir=tmp_path / "app.git",
            stdin=os.urandom(2_000_000),
            limits=limits,
        )
    assert (caught.value.code, caught.value.exit_code) == ("E_GIT_LIMIT", None)


def test_words_about_a_full_disk_find_room_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written where temporary files are, which may be the disk that is full."""
    small, go = tmp_path / "small", tmp_path / "go"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    monkeypatch.setattr("tempfile.tempdir", str(small))
    words = f"while [ ! -e {go} ]; do sleep 0.01; done; echo 'fatal: No space left on device' >&2; exit 128"

    def fill() -> None:
        with contextlib.suppress(OSError), (small / "ballast").open("ab", buffering=0) as ballast:
            while ballast.write(b"\0" * 4096):
                continue

    try:
        with pytest.raises(GitError) as caught, open_git(shell(words)):
            fill()
            go.touch()
        assert (caught.value.code, caught.value.retryable) == ("E_STATE_DISK", True)
        fill()
        with pytest.raises(OSError, match="No space left"):
            run_git(shell("true"))
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_too_much_output_is_an_error_and_an_early_end_is_none() -> None:
    with pytest.raises(GitError) as caught:
        run_git(shell("yes"), max_output_bytes=100_000)
    assert caught.value.code == "E_GIT_OUTPUT"
    with open_git(shell("yes")) as output:
        assert output.read(4) == b"y\ny\n"


def test_input_from_bytes_and_from_a_files_position(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"skipped" + b"x" * 300_000)
    with path.open("rb", buffering=0) as file:
        file.seek(7)
        assert run_git(shell("cat"), stdin=file) == b"x" * 300_000
    assert run_git(shell("cat"), stdin=b"y" * 300_000) == b"y" * 300_000
    assert run_git(shell("cat")) == b""


def test_git_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError) as caught:
        run_git(["version"])
    assert caught.value.code == "E_GIT_MISSING"


def test_leftovers_of_a_killed_process_are_ended(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "root", tmp_path / "other"
    program = (
        "import sys; from pathlib import Path; from supervisor.git.command import run_git\n"
        "run_git(['-c', f'alias.run=!echo $$ > {sys.argv[1]}.pid; exec sleep 60 #', 'run'],"
        " owner=Path(sys.argv[1]) / 'mirrors' / 'app.git')"
    )
    parents = [
        subprocess.Popen([sys.executable, "-c", program, str(root)], env={**os.environ, "PYTHONPATH": os.getcwd()})
        for root in (ours, theirs)
    ]
    notes = [Path(f"{root}.pid") for root in (ours, theirs)]
    wait_until(lambda: all(note.exists() and note.read_text().strip() for note in notes))
    pids = [int(note.read_text()) for note in notes]
    for parent in parents:
        parent.kill()
        parent.wait()
    assert all(map(is_running, pids))
    assert end_leftovers(ours) >= 1
    assert [is_running(pid) for pid in pids] == [False, True]
    assert end_leftovers(ours) == 0
    assert end_leftovers(theirs) >= 1


# -- credentials -----------------------------------------------------------------------------------------


def test_a_credential_is_not_shown() -> None:
    credential = Credential.basic("git.example.org", "x-access-token", "hunter2")
    assert "hunter2" not in repr(credential) and "Authorization" not in repr(credential)
    assert header_for("https://git.example.org/a", credential)["GIT_CONFIG_COUNT"] == "1"
    assert header_for("/srv/app.git", credential) == header_for("git@git.example.org:a", credential) == {}


@pytest.mark.parametrize(
    ("host", "header"),
    [
        ("git.example.org/x", "A: b"),
        ("-x", "A: b"),
        ("git.example.org", "A: b\nC: d"),
        ("a b", "A: b"),
        ("h", "A"),
    ],
)
def test_a_credential_that_would_break_out_is_refused(host: str, header: str) -> None:
    with pytest.raises(GitError):
        Credential.http_header(host, header)


class _Server(http.server.BaseHTTPRequestHandler):
    """Answers as the path says, and remembers what it was sent and how git was called meanwhile."""

    seen: ClassVar[list[tuple[str, str | None]]] = []
    command_lines: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        type(self).seen.append((self.path, self.headers.get("Authorization")))
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if "ls-remote" in line:
                type(self).command_lines.append(line)
        status = {"denied": 401, "moved": 301, "down": 503, "absent": 404}[self.path.split("/")[1]]
        self.send_response(status)
        if status == 301:
            self.send_header("Location", f"https://localhost:{self.server.server_address[1]}/absent/info/refs")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
    names = "-addext subjectAltName=DNS:localhost"
    subprocess.run(["openssl", *request.split(), *names.split()], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as listening:
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"localhost:{listening.server_address[1]}", folder / "cert.pem"
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "code", "retryable"),
    [
        ("denied", "E_AUTHENTICATION", False),
        ("moved", "E_REPOSITORY_MOVED", False),
        ("down", "E_UNREACHABLE", True),
        ("absent", "E_NO_REPOSITORY", False),
    ],
)
def test_a_token_goes_to_its_host_only_and_into_no_command_line(
    server: tuple[str, Path], path: str, code: str, retryable: bool
) -> None:
    host, certificate = server
    _Server.seen.clear()
    credential = Credential.basic(host, "bot", "hunter2")
    encoded = credential.header.split()[-1]
    environment = {**credential.environment(), "GIT_SSL_CAINFO": str(certificate)}
    with pytest.raises(GitError) as caught:
        run_git(["ls-remote", f"https://{host}/{path}"], environment=environment)
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert encoded not in str(caught.value) + caught.value.stderr_tail
    assert {authorization for _, authorization in _Server.seen} == {f"Basic {encoded}"}
    assert {requested.split("/")[1] for requested, _ in _Server.seen} == {path}  # no redirect was followed
    assert _Server.command_lines and not any(encoded in line for line in _Server.command_lines)

    _Server.seen.clear()
    elsewhere = Credential.basic("git.example.org", "bot", "hunter2").environment()
    with pytest.raises(GitError):
        run_git(["ls-remote", f"https://{host}/{path}"], environment={**environment, **elsewhere})
    assert {authorization for _, authorization in _Server.seen} == {None}


def test_a_lock_file_that_cannot_be_written_is_the_disk_and_passes() -> None:
    """Git gives no reason for it: seen on a disk that was full."""
    error = from_stderr(
        "update-ref", b"fatal: cannot update ref 'refs/pins/a': couldn't write '/m/pins/a.lock'", 128
    )
    assert error.code == "E_STATE_DISK" and error.retryable
