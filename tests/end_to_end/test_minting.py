"""An agent asks for a token of its forge, works with it through a crash, and nothing of it is left afterwards."""

import signal
import subprocess
from pathlib import Path

from tests.end_to_end.test_credentials import assert_nowhere, grants
from tests.forge_site import FIX, REPO, forge_site
from tests.integration.test_minting import private_key
from tests.site import wait_for


def test_a_token_of_github_for_the_attempt(tmp_path: Path) -> None:
    with forge_site(tmp_path) as forges:
        site, hub = forges.site, forges.hub
        del site.config["projects"]["lab"]
        key = site.root.path / "app.pem"
        key.write_text(private_key())
        key.chmod(0o600)
        hub.add_app("12345", "cloudy", [REPO])
        forges.project("hub", auth={"app": {"id": "12345", "private_key": {"file": "app.pem"}}})
        verify = (
            f'test "$GIT_CONFIG_KEY_0" = credential.{hub.origin}.helper && git ls-remote {hub.origin}/{REPO}.git'
        )
        forges.project("hub", verification=[{"name": "git", "command": verify}])
        site.config["credentials"] = {"github_token": {"access": {"read": {"mint": "repository"}}}}
        has, go = site.folder / "has", site.folder / "go"
        site.use_script(
            f"agent-daemon credential github_token --scope {REPO} --reason 'to read' --wait 60",
            "git -c credential.helper='!agent-daemon git-credential' ls-remote "
            f"{hub.origin}/{REPO}.git main > {has}.git 2>&1",
            f'sha256sum < "$CLOUD_CODE_CREDENTIALS/GITHUB_TOKEN" > {has}.new; mv {has}.new {has}',
            f"until [ -e {go} ]; do sleep 0.1; done",
            'echo "it is $(cat "$CLOUD_CODE_CREDENTIALS/GITHUB_TOKEN")"',
            FIX,
        )
        site.write_config()
        site.start()
        number = forges.labelled()
        wait_for(has.exists, what="the agent has the token")
        (token,) = [
            one["token"] for one in hub.apps["12345"]["minted"] if one["permissions"]["contents"] == "read"
        ]
        told = subprocess.run(["sha256sum"], input=token, capture_output=True, text=True, check=True).stdout
        assert told.split()[0] in has.read_text() and token in hub.tokens
        site.stop_supervisors(signal.SIGKILL)
        site.start()
        wait_for(lambda: grants(site)["cred-001"]["status"] == "granted")
        assert token in hub.tokens
        assert "refs/heads/main" in Path(f"{has}.git").read_text()
        go.touch()
        task = site.wait_state(f"hub.{number}", "review", timeout_seconds=60)
        assert [attempt.verdict for attempt in task.attempts] == ["completed"]
        wait_for(lambda: token not in hub.tokens, what="the token is revoked")
        wait_for(lambda: not list(site.root.minted.glob("*")), what="its page is gone")
        assert_nowhere(site.folder, token)
        assert "[hidden]" in site.cli("task", "logs", f"hub.{number}").stdout
