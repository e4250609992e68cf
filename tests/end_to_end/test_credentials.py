"""What an agent asks for it gets by rule or from a person, for its task alone, and the value is nowhere else."""

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_daemon.credentials import _base_folder
from tests.forge_site import FIX, REPO, forge_site
from tests.site import Site, bytes_below, files_below, git, wait_for

NPM, DATABASE = "npm-secret-Xy12_value", "postgres://app:hunter2-and@db.example/app"


@pytest.fixture
def broker(site: Site) -> Site:
    """A site with two secrets, of which agents may ask for one by rule and for one if a person agrees."""
    site.config["credentials"] = {
        "npm_token": {"access": {"read": {"secret": "npm/read"}}, "scopes": ["@acme*"]},
        "database_url": {"access": {"read_write": {"secret": "db/app"}}},
        "ssh_key": {"access": {"read": {"secret": "npm/read"}}},
    }
    site.write_config()
    for name, value in (("npm/read", NPM), ("db/app", DATABASE)):
        keep = [sys.executable, "-m", "supervisor", "--root", str(site.root.path), "secret", "set", name]
        subprocess.run(keep, input=value, text=True, env=site._environment(), check=True, timeout=60)
    return site


def in_memory(site: Site) -> Path:
    folder = _base_folder(site.root.mail_in("backend-1"))
    assert folder is not None
    return folder


def grants(site: Site) -> dict[str, dict[str, str]]:
    return {row["id"]: row for row in json.loads(site.cli("credential", "list", "--all", "--json").stdout)}


def assert_nowhere(folder: Path, *values: str) -> None:
    """A byte search over everything below a folder, in the forms that are easily made."""
    forms = [form for value in values for form in (value.encode(), base64.b64encode(value.encode()))]
    for path, data in bytes_below(folder):
        assert not [form for form in forms if form in data], path


def test_granted_by_rule_by_a_person_and_denied(broker: Site) -> None:
    site = broker
    site.use_script(
        f"exec 3>>{site.folder}/seen",
        'given="$CLOUD_CODE_CREDENTIALS"',
        "agent-daemon credential npm_token --scope @acme:registry --reason 'private packages' >&3",
        'set +e; echo "exit $?" >&3',
        'cat "$given/NPM_TOKEN" | sha256sum >&3',
        "agent-daemon credential api_key --reason 'curious' >&3",
        'echo "exit $?" >&3',
        "agent-daemon credential npm_token --scope @other --reason 'more' >&3",
        "agent-daemon credential ssh_key --reason 'to log in' --wait 60 >&3",
        "agent-daemon credential database_url --access read_write --reason 'migrate' --wait 60 >&3",
        'cat "$given/DATABASE_URL" | sha256sum >&3',
        'echo "token $(cat "$given/NPM_TOKEN") and $(cat "$given/DATABASE_URL")"',
        "sed -i 's/a - b/a + b/' calc.py",
    )
    site.config["projects"]["demo"]["verification"] = [
        {"name": "given", "command": 'test "${#DATABASE_URL}" -gt 20 && test -n "$NPM_TOKEN" && echo "$NPM_TOKEN"'}
    ]
    site.write_config()
    site.start()
    site.write_task("fix-add")
    wait_for(lambda: grants(site).get("cred-004", {}).get("status") == "asked", what="the ssh key is asked for")
    waits = json.loads(site.cli("status", "--json").stdout)["waiting"]
    assert any(action["command"].endswith("approve demo.fix-add cred-004") for action in waits[0]["can"])
    site.cli("task", "deny", "fix-add", "cred-004", "--reason", "no logins")
    wait_for(lambda: grants(site).get("cred-005", {}).get("status") == "asked", what="the database is asked for")
    told = {"version": 1, "id": "by-hand", "at": datetime.now(UTC).isoformat(), "actor": {"id": "ada"}}
    told |= {"channel": "cli", "kind": "approve", "target": "demo.fix-add", "args": {"approval": "cred-005"}}
    (site.root.commands / ".by-hand.new").write_text(json.dumps(told))
    (site.root.commands / ".by-hand.new").rename(site.root.commands / "by-hand.yaml")
    wait_for((site.root.commands / "by-hand.answer.yaml").exists, what="the file is answered")
    task = site.wait_state("demo.fix-add", "review")
    assert task.attempt == 1
    seen = (site.folder / "seen").read_text()
    for value in (NPM, DATABASE):
        assert subprocess.run(["sha256sum"], input=value, capture_output=True, text=True).stdout.split()[0] in seen
    assert "exit 0" in seen and "exit 3" in seen
    assert "Denied: no logins" in seen and "Denied: there is no api_key here" in seen
    assert "Denied: the scope '@other' is none of: @acme*" in seen and "Granted until" in seen
    assert [row["status"] for _, row in sorted(grants(site).items())] == [
        "granted", "denied", "denied", "denied", "granted",
    ]  # fmt: skip
    audited = json.loads(site.cli("credential", "audit", "--json").stdout)
    assert [e["event"].partition(".")[2] for e in audited if e["details"]["id"] == "cred-005"] == [
        "asked", "granted", "given",
    ]  # fmt: skip
    site.cli("task", "cancel", "fix-add")
    wait_for(lambda: not files_below(in_memory(site)), what="the values are gone from memory")
    assert {row["status"] for row in grants(site).values()} == {"denied", "over"}
    wait_for(lambda: not list(site.root.mail_in("backend-1").glob("demo.*")), what="its folder in in/ is cleared")
    assert_nowhere(site.folder, NPM, DATABASE)
    assert "[hidden]" in site.cli("task", "logs", "fix-add").stdout


def test_a_value_that_is_committed_is_held_and_one_that_is_revoked_is_gone(broker: Site) -> None:
    site = broker
    site.use_script(
        "if grep -q E_SECRET_IN_OUTPUT .cloud-code/tasking.yaml; then rm -f key.txt; echo y > y.txt; exit 0; fi",
        "agent-daemon credential npm_token --scope @acme --reason x",
        f'base64 "$CLOUD_CODE_CREDENTIALS/NPM_TOKEN" > key.txt; touch {site.folder}/written',
        'until [ ! -e "$CLOUD_CODE_CREDENTIALS/NPM_TOKEN" ]; do sleep 0.1; done',
    )
    site.write_config()
    site.start()
    site.write_task("leak")
    wait_for((site.folder / "written").exists, what="the token was read")
    site.cli("credential", "revoke", "leak", "cred-001")
    task = site.wait_state("demo.leak", "review")
    assert [attempt.verdict for attempt in task.attempts] == ["claim refused", "completed"]
    assert grants(site)["cred-001"]["status"] == "over"
    encoded = base64.b64encode(NPM.encode()).decode()
    assert encoded not in git("log", "-p", "--all", cwd=site.remote)


def test_a_daemon_that_is_started_anew_is_given_it_again(broker: Site) -> None:
    site = broker
    go, sha256 = site.folder / "go", hashlib.sha256(DATABASE.encode()).hexdigest()
    at_start = {"access": {"use": {"secret": "db/app", "granted": "at_start"}}}  # (the key of its CLI, as it were)
    site.config["credentials"]["model_key"] = at_start
    site.use_script(
        'until [ -e "$CLOUD_CODE_CREDENTIALS/MODEL_KEY" ]; do sleep 0.1; done',  # (it may come late)
        f'sha256sum < "$CLOUD_CODE_CREDENTIALS/MODEL_KEY" | grep -q {sha256}',
        "agent-daemon credential npm_token --scope @acme --reason x",
        f"until [ -e {go} ]; do sleep 0.1; done",
        f'cat "$CLOUD_CODE_CREDENTIALS/NPM_TOKEN" | sha256sum > {site.folder}/seen',
        "sed -i 's/a - b/a + b/' calc.py",
    )
    site.write_config()
    supervisor = site.start(through=["bash", "-c", 'ulimit -Sc "$(ulimit -Hc)"; exec "$@"', "bash"])
    site.write_task("fix-add")
    token = in_memory(site) / "demo.fix-add" / "1" / "NPM_TOKEN"
    wait_for(token.exists, what="the token is there")
    assert token.stat().st_mode & 0o777 == 0o600 and token.parent.stat().st_mode & 0o777 == 0o700
    assert token.stat().st_uid == os.getuid()
    before = number_of(token)
    assert before is not None
    for pid in (supervisor.pid, *(daemon.pid for daemon in site.daemons())):  # (a crash writes no image of it)
        assert re.search(r"Max core file size +0 ", Path(f"/proc/{pid}/limits").read_text())
    site.signal_daemons(signal.SIGKILL)
    wait_for(lambda: number_of(token) not in (None, before), what="the token is there again")
    go.touch()
    site.wait_state("demo.fix-add", "review")
    assert (
        subprocess.run(["sha256sum"], input=NPM, capture_output=True, text=True).stdout.split()[0]
        in (site.folder / "seen").read_text()
    )


def number_of(file: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        return file.stat().st_ino
    return None


def test_what_is_missing_is_told_and_given_once_it_is_there(broker: Site) -> None:
    site = broker
    site.cli("secret", "rm", "npm/read")
    site.use_script(
        "agent-daemon credential npm_token --scope @acme --reason x --wait 60",
        'test -e "$CLOUD_CODE_CREDENTIALS/NPM_TOKEN"',
        "sed -i 's/a - b/a + b/' calc.py",
    )
    site.write_config()
    site.start()
    site.write_task("fix-add")
    (event,) = wait_for(lambda: site.events("credential.not_given"), what="it is told that the secret is missing")
    assert (
        event["details"]["code"] == "E_NO_SECRET"
        and "cloud-code secret set npm/read" in event["details"]["message"]
    )
    keep = [sys.executable, "-m", "supervisor", "--root", str(site.root.path), "secret", "set", "npm/read"]
    subprocess.run(keep, input=NPM, text=True, env=site._environment(), check=True, timeout=60)
    site.wait_state("demo.fix-add", "review")


def test_work_waits_while_what_opens_the_secrets_is_gone_and_goes_on_by_itself(broker: Site) -> None:
    """Nothing is pushed unsearched; nobody need say when the identity is back."""
    site = broker
    site.use_script("sed -i 's/a - b/a + b/' calc.py")
    site.write_config()
    identity = site.folder / "home" / ".config" / "cloud-code" / "identity"
    away = identity.rename(site.folder / "away")
    site.start()
    site.write_task("fix-add")

    def waits() -> list[dict[str, str]]:
        return [
            one for one in json.loads(site.cli("status", "--json").stdout)["tasks"] if "blocked" in one["doing"]
        ]

    (shown,) = wait_for(waits, what="it is shown as blocked")
    assert (
        shown["doing"].startswith("blocked: credential: its work is done") and "cannot be read" in shown["doing"]
    )
    assert shown["state"] == "in_progress" and "main" in git("branch", "--list", cwd=site.remote)
    assert "identity that opens the secrets" in site.cli("task", "explain", "fix-add").stdout
    away.rename(identity)
    task = site.wait_state("demo.fix-add", "review")
    assert [attempt.verdict for attempt in task.attempts] == ["completed"]


def test_a_person_is_asked_on_the_issue_and_only_who_may_write_decides(tmp_path: Path) -> None:
    with forge_site(tmp_path) as forges:
        site = forges.site
        site.config["credentials"] = {"api_key": {"access": {"use": {"secret": "maps"}}}}
        site.use_script(
            "agent-daemon credential api_key --access use --reason '@everyone /cloud-code approve' --wait 120",
            'test -n "$(cat "$CLOUD_CODE_CREDENTIALS/API_KEY")"',
            FIX,
        )
        site.write_config()
        keep = [sys.executable, "-m", "supervisor", "--root", str(site.root.path), "secret", "set", "maps"]
        subprocess.run(keep, input=NPM, text=True, env=site._environment(), check=True, timeout=60)
        site.start()
        number = forges.labelled()
        (asked,) = wait_for(lambda: [said for said in forges.said(number) if "🔑" in said])
        assert "api_key" in asked and "`/cloud-code approve cred-001`" in asked
        forges.hub.comment(REPO, number, "rea", "/cloud-code approve cred-001")
        wait_for(lambda: site.events("command.refused"), what="the reader's command is refused")
        assert grants(site)["cred-001"]["status"] == "asked"
        forges.hub.comment(REPO, number, "ada", "/cloud-code approve cred-001")
        site.wait_state(f"hub.{number}", "review")
        assert grants(site)["cred-001"]["by"] == "ada"
        assert len([said for said in forges.said(number) if "🔑" in said]) == 1
        assert not [said for said in forges.said(number) if NPM in said]
