"""One login copied to several workstations is noticed: real files, real daemons' programs, the real commands."""

import base64
import hashlib
import hmac
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_daemon.logins import key_of
from agent_daemon.protocol.model import CliConfig
from agent_daemon.protocol.paths import Root
from supervisor.app import DRIVERS
from supervisor.asking import ask
from supervisor.config import load_config
from supervisor.core.lineage import Holder
from supervisor.core.settings import Config
from supervisor.doctor import Check
from supervisor.errors import CloudCodeError
from supervisor.installed_clis import find_clis
from supervisor.logins import check_logins, log_in_command, look_key
from supervisor.ports import Entry
from supervisor.secrets.examination import check_secrets
from supervisor.workstations.local import LocalWorkstations
from tests import preloaded
from tests.coding_run import Run
from tests.site import PATIENCE_SECONDS

TOKEN = "rt_0123456789abcdefghijklmnop"
CLAUDE = ".claude/.credentials.json"
OTHER = "rt_another_another_another_xx"
PATH = os.environ["PATH"]
COMMAND = {"adapter": "command", "argv": ["true"]}


def configured(folder: Path, **changes: Any) -> Root:
    """A root with these workstations and CLIs; the programs are never started but for their version."""
    (folder / "bin").mkdir(exist_ok=True)
    for name in ("codex", "claude"):
        program = folder / "bin" / name
        program.write_text("#!/bin/sh\necho 999.0.0\n")
        program.chmod(0o755)
    path = {"environment": {"PATH": f"{folder}/bin:/usr/bin:/bin"}}
    stations: dict[str, Any] = changes.pop(
        "workstations", {"backend": {"count": 3, "clis": ["codex", "claude-code"]}}
    )
    stations = {name: path | station for name, station in stations.items()}
    root = Root(folder / "root")
    for part in (root.path, root.tasks, root.path / "state"):
        part.mkdir(exist_ok=True)
    projects = {"demo": {"repository": "/nowhere"}}
    root.config.write_text(yaml.safe_dump({"projects": projects, "workstations": stations} | changes))
    return root


def log_in(root: Root, workstation: str, token: str, cli: str = "codex", more: str = "") -> Path:
    name, content = {
        "codex": (
            ".codex/auth.json",
            {"tokens": {"refresh_token": token, "access_token": f"{workstation}{more}"}},
        ),
        "claude-code": (CLAUDE, {"claudeAiOauth": {"refreshToken": token}}),
    }[cli]
    path = root.workspace(workstation) / ".homes" / cli / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    return path


def looked(root: Root) -> list[Check]:
    config = load_config(root)
    return list(check_logins(root, config, lambda kind: DRIVERS[config.workstations[kind].driver](root, config)))


def commanded(root: Root, *words: str) -> tuple[int, str]:
    done = preloaded.run(["--root", str(root.path), *words], os.environ, Path.cwd(), PATIENCE_SECONDS)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "own"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


def test_a_copy_is_told_with_who_has_it_and_what_to_do(tmp_path: Path) -> None:
    root = configured(tmp_path)
    log_in(root, "backend-1", TOKEN)
    log_in(root, "backend-2", OTHER)
    log_in(root, "backend-3", TOKEN, more="renewed since")
    log_in(root, "backend-1", "sk-ant-ort01-" + "1" * 20, "claude-code")
    log_in(root, "backend-2", "sk-ant-ort01-" + "2" * 20, "claude-code")
    check, besides = looked(root)
    assert (check.name, check.status, besides.status) == ("logins", "warning", "ok")
    assert check.detail.startswith(
        "E_LOGIN_SHARED: one login is that of codex of backend-1, backend-3 (.codex/auth"
    )
    home = root.workspace("backend-3") / ".homes/codex"
    command = f"workstation shell backend-3 env CODEX_HOME={home}/.codex HOME={home} codex login --device-auth"
    assert command in check.mend
    log_in(root, "backend-3", "rt_its_own_its_own_its_own")
    (check,) = looked(root)
    assert (check.status, check.detail) == ("ok", "5 logins of subscriptions found")


def test_the_command_that_is_told_gets_to_where_the_copy_is(tmp_path: Path) -> None:
    """As it is told, but with a program that says where it would log in."""
    root = configured(tmp_path)
    log_in(root, "backend-2", TOKEN)
    told = log_in_command(root, load_config(root), Holder("backend-2", "codex", ".codex/auth.json"))
    words = told.removeprefix("cloud-code ").replace("codex login --device-auth", "sh -c").split()
    code, said = commanded(root, *words, 'echo "$CODEX_HOME"; ls -A "$CODEX_HOME"')
    assert (code, said.split()) == (0, [f"{root.workspace('backend-2')}/.homes/codex/.codex", "auth.json"])


def test_a_copy_of_the_own_login_of_who_looks(tmp_path: Path, own_home: Path) -> None:
    root = configured(tmp_path)
    copy = log_in(root, "backend-1", TOKEN)
    (own_home / ".codex").mkdir()
    (own_home / ".codex/auth.json").write_bytes(copy.read_bytes())
    check, _ = looked(root)
    assert "codex of backend-1, your own home (.codex/auth.json)" in check.detail
    assert "workstation shell backend-1 env" in check.mend


def test_workstations_that_are_configured_to_have_one_home_are_one_place(tmp_path: Path, own_home: Path) -> None:
    """So too when it is that of the user."""
    home = own_home / ".codex"
    root = configured(tmp_path, clis={"codex": {"environment": {"CODEX_HOME": str(home)}}})
    for name in ("backend-1", "backend-2"):
        root.workspace(name).mkdir(parents=True)
    home.mkdir()
    (home / "auth.json").write_text(json.dumps({"tokens": {"refresh_token": TOKEN}}))
    (check,) = looked(root)
    assert (check.status, check.detail) == ("ok", "1 login of subscriptions found")


def test_nothing_is_said_where_nobody_has_such_a_login(tmp_path: Path) -> None:
    assert looked(configured(tmp_path)) == []  # nothing was ever started
    root = configured(tmp_path)
    for name in ("backend-1", "backend-2"):
        home = root.workspace(name) / ".homes/codex/.codex"
        home.mkdir(parents=True)
        (home / "auth.json").write_text(json.dumps({"OPENAI_API_KEY": "sk-" + "0" * 30}))
    assert looked(root) == []


@dataclass(frozen=True)
class Told:
    """What the commands say of a root with a login copied from one workstation to the other."""

    root: Root
    logins: list[Path]
    before: set[Path]
    clis: tuple[int, str]
    doctor: tuple[int, str]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    root = configured(tmp_path_factory.mktemp("told"))
    (root.path / "state/root-id").write_text("id: 0123456789ab\nepoch: 1\n")
    logins = [log_in(root, name, TOKEN) for name in ("backend-1", "backend-2")]
    logins += [log_in(root, name, TOKEN, "claude-code") for name in ("backend-1", "backend-2")]
    logins[-1].write_text(logins[-1].read_text()[:-2])  # it broke off
    before = files(root)
    clis = commanded(root, "workstation", "clis", "--json")
    return Told(root, logins, before, clis, commanded(root, "doctor", "--json"))


def files(root: Root) -> set[Path]:
    return {path for path in root.path.rglob("*") if path.is_file()}


def answer(said: str) -> Any:
    return json.loads(said[said.index("[\n") : said.rindex("]") + 1])


def test_both_commands_tell_it_and_neither_fails_for_it(told: Told) -> None:
    found = {(each["workstation"], each["cli"]["name"]): each for each in answer(told.clis[1])}
    assert told.clis[0] == 0
    here, other = found["backend-1", "codex"], found["backend-2", "codex"]
    assert other["shares_login_with"][0] == {"workstation": "backend-1", "cli": "claude-code", "login": CLAUDE}
    assert {"workstation": "backend-2", "cli": "codex", "login": ".codex/auth.json"} in here["shares_login_with"]
    assert any(said.startswith("E_LOGIN_SHARED: the login in .codex/auth.json") for said, _ in here["faults"])
    assert here["cli"]["logins"] == [".codex/auth.json"]
    assert found["backend-2", "claude-code"]["shares_login_with"] == []
    (check,) = [each for each in answer(told.doctor[1]) if "E_LOGIN_SHARED" in each["detail"]]
    assert check["status"] == "warning" and "codex of backend-1, backend-2 (" in check["detail"]


def test_a_token_gets_nowhere(told: Told) -> None:
    """Nor anything by which it could be told again: no part, no encoding, no mark with a key that is known."""
    raw, keys = TOKEN.encode(), (b"", b"0123456789ab", b"id: 0123456789ab\nepoch: 1\n")
    traces = {TOKEN, TOKEN[3:], base64.b64encode(raw).decode()[:-4], raw.hex(), hashlib.sha256(raw).hexdigest()}
    traces |= {hmac.digest(key, raw, "sha256").hex() for key in keys}
    said = told.clis[1] + told.doctor[1]
    assert [trace for trace in traces if trace in said] == []
    assert re.findall(r"[0-9a-f]{32}", said) == []
    left = files(told.root).difference(told.logins)
    assert [path for path in left if any(trace.encode() in path.read_bytes() for trace in traces)] == []
    assert [path for path in files(told.root) - told.before if path.is_relative_to(told.root.path / "state")] == []


RENEWS = """sed -i 's/rt_[a-z0-9]*/rt_renewed_renewed_renewed/' "$CODEX_HOME/auth.json"; cat > /dev/null"""


def test_a_copy_of_what_was_renewed_meanwhile_is_told_until_it_is_mended(tmp_path: Path) -> None:
    """The original is renewed by a run of its CLI: from then on the two files have no token in common."""
    root = configured(tmp_path, workstations={"backend": {"count": 2, "clis": ["codex"]}})
    (root.path / "state/root-id").write_text("id: 0123456789ab\nepoch: 1\n")
    original, copy = log_in(root, "backend-1", TOKEN), log_in(root, "backend-2", TOKEN)
    program = tmp_path / "bin/renewing"
    program.write_text(f"#!/bin/sh\n{RENEWS}\n")
    program.chmod(0o755)
    run = Run(tmp_path, CliConfig(name="codex", adapter="codex", argv=(str(program),)))
    run.attempt.places = replace(run.attempt.places, homes=original.parents[2])
    run.attempt.supervisor = "0123456789ab"
    run.tree.mkdir()
    run.code()
    assert "renewed" in original.read_text() and TOKEN in copy.read_text()
    check, _ = looked(root)
    assert "one login is that of codex of backend-2 (.codex/auth.json) and what codex of backend-1" in check.detail
    assert "workstation shell backend-2 env" in check.mend and "keep it" not in check.mend
    assert TOKEN not in "".join(path.read_text() for path in original.parents[1].iterdir() if path.is_file())
    log_in(root, "backend-2", OTHER)
    assert [check.status for check in looked(root)] == ["ok"]


def test_the_mark_of_a_token_is_another_one_in_each_root(tmp_path: Path) -> None:
    root = configured(tmp_path)
    log_in(root, "backend-1", TOKEN)
    config, driver = load_config(root), LocalWorkstations(root)

    def marks(key: bytes) -> list[str]:
        found = next(find_clis(root, config, driver, "backend-1", "backend", probe=False, key=key))
        assert found.cli.lineages is not None and TOKEN not in repr(found)
        return [one.mark for one in found.cli.lineages]

    assert marks(look_key(root, config)) != marks(look_key(root, config))  # nothing ever ran here
    (root.path / "state/root-id").write_text("id: 0123456789ab\nepoch: 1\n")
    assert marks(look_key(root, config)) == marks(key_of("0123456789ab")) != marks(key_of("0123456789ac"))


def test_a_login_in_a_variable_is_told_by_check_and_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_LOGIN", json.dumps({"openai": {"type": "oauth", "refresh": TOKEN}}))
    monkeypatch.setenv("MY_KEY", "sk-" + "0" * 30)
    mine = {"mine": COMMAND | {"pass_environment": ["MY_LOGIN", "MY_KEY"]}}
    root = configured(tmp_path, workstations={"backend": {"count": 2, "clis": ["mine"]}}, clis=mine)
    for name in ("backend-1", "backend-2"):
        root.workspace(name).mkdir(parents=True)
    check, _ = looked(root)
    assert "mine of backend-1, backend-2 (variable MY_LOGIN)" in check.detail and "take MY_LOGIN out" in check.mend
    _, said = commanded(root, "check", "config")
    assert "E_LOGIN_SHARED" in said and "MY_LOGIN hands one login to 2 workstations" in said
    assert "MY_KEY" not in said and TOKEN not in said
    configured(tmp_path, workstations={"backend": {"count": 1, "clis": ["mine"]}}, clis=mine)
    assert "E_LOGIN_SHARED" not in commanded(root, "check", "config")[1]


@pytest.mark.parametrize(
    ("value", "told"), [(json.dumps({"tokens": {"refresh_token": TOKEN}}), 1), ("sk-0123456789", 0)]
)
def test_a_credential_that_lends_a_login_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, told: int
) -> None:
    lends = {"codex_login": {"access": {"use": {"secret": "codex/login"}}, "deliver": "file"}}
    root = configured(tmp_path, credentials=lends, secrets={"backend": "env"})
    monkeypatch.setenv("CLOUD_CODE_SECRET_CODEX_LOGIN", value)
    checks = [check for check in check_secrets(root, load_config(root)) if "E_LOGIN_SHARED" in check.detail]
    assert [check.status for check in checks] == ["warning"] * told
    assert all(
        "credentials.codex_login.access.use" in check.detail and TOKEN not in repr(check) for check in checks
    )


class _Says(LocalWorkstations):
    """Workstations whose daemons answer with these words."""

    def __init__(self, root: Root, said: str) -> None:
        super().__init__(root)
        self.said = said

    def enter(self, name: str, command: tuple[str, ...], *, terminal: bool = True) -> Entry:
        return Entry(
            argv=("printf", "%s", self.said), cwd=self._root.path, environment={"PATH": os.environ["PATH"]}
        )


FOUND = {"name": "codex", "adapter": "codex", "wanted": "codex"}
LINE = {"login": ".codex/auth.json", "place": "1:2", "mark": "0" * 64}


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([FOUND], "unseen"),  # an older daemon
        ([FOUND | {"lineages": None}], "unseen"),
        ([], "unseen"),
        ([FOUND | {"lineages": 3}], "unseen"),
        ([FOUND | {"lineages": [{"login": "x"}]}], "unseen"),
        ([FOUND | {"lineages": [LINE | {"mark": 3}]}], "unseen"),
        ([FOUND | {"lineages": [LINE | {"mark": TOKEN}]}], ""),
        ([FOUND | {"lineages": [LINE | {"login": "\x1b[2J" * 99}] * 99}], "ok"),
    ],
)
def test_a_daemon_that_answers_otherwise(tmp_path: Path, lines: list[Any], status: str) -> None:
    """It is said that nobody looked, not that all is well; and nothing of it is taken for more than it is."""
    root = configured(tmp_path, workstations={"backend": {"count": 2, "clis": ["codex"]}})
    root.workspace("backend-1").mkdir(parents=True)
    config: Config = load_config(root)
    driver = _Says(root, "\n".join(map(json.dumps, lines)))
    checks = list(check_logins(root, config, lambda _: driver))
    assert TOKEN not in repr(checks) and len(repr(checks)) < 1000
    told = "unseen" if any("not looked at: backend-1" in check.detail for check in checks) else ""
    assert (told or "".join(check.status for check in checks)) == status


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("exec cat /dev/zero >&2", "no answer within 1 s"),
        ("exec < /dev/null; exec sleep 100", "no answer within 1 s"),
        ("sleep 100 & wait", "no answer within 1 s"),
        ("setsid sleep 100 & wait", "no answer within 1 s"),
    ],
)
def test_a_program_that_never_comes_to_an_end(program: str, why: str, seconds: float = 1) -> None:
    entry = Entry(argv=("bash", "-c", program), cwd=Path("/"), environment={"PATH": PATH})
    with pytest.raises(CloudCodeError, match=why) as refused:
        ask(entry, "x" * 1_000_000, seconds)
    assert refused.value.code == "E_CLI_NOT_ASKED"


@pytest.mark.parametrize(
    ("program", "why"),
    [("exec cat /dev/zero", "more than"), ("echo one >&2; echo two >&2; exit 3", "looked for: two")],
)
def test_a_program_that_answers_wrongly(program: str, why: str) -> None:
    test_a_program_that_never_comes_to_an_end(program, why, PATIENCE_SECONDS)
