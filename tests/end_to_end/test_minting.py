"""An agent asks for a token of its forge, works with it through a crash, and nothing of it is left afterwards."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_daemon.failpoints import VARIABLE
from tests.end_to_end.test_credentials import assert_nowhere, grants
from tests.fakes.forge.gitlab import MAINTAINER
from tests.forge_site import BOT, CALC, FIX, PROJECT, REPO, ForgeSite, forge_site
from tests.integration.test_minting import private_key
from tests.site import PATIENCE_SECONDS, make_remote, wait_for

OTHER = "grp/other"


@dataclass
class Mint:
    """A project whose forge makes tokens for its agents, and how those show on the forge.

    `made`: every one that agents were made so far; `live`: those that the forge still takes.
    """

    forges: ForgeSite
    project: str
    repository: str
    origin: str
    open_issue: Callable[[], int]
    made: Callable[[], list[str]]
    live: Callable[[], set[str]]

    @property
    def address(self) -> str:
        return f"{self.origin}/{self.repository}.git"

    @property
    def kind(self) -> str:
        return {"hub": "github_token", "lab": "gitlab_token"}[self.project]

    @property
    def variable(self) -> str:
        return self.kind.upper()

    def has(self) -> Path:
        """The agent's word that it has its token: the sum of that."""
        return self.forges.site.folder / "has"

    def use_agent(self, *steps: str) -> None:
        """The agent asks, clones the repository to another place, tells that, takes the steps, and waits."""
        site = self.forges.site
        given = f'"$CLOUD_CODE_CREDENTIALS/{self.variable}"'
        site.use_script(
            f"agent-daemon credential {self.kind} --scope {self.repository} --reason 'to read' --wait 60",
            f"git -c credential.helper='!agent-daemon git-credential' clone -q {self.address} {site.folder}/clone",
            f"mkdir .cache; echo '*' > .cache/.gitignore; cp {given} .cache/login",  # (as programs do)
            *steps,
            f"sha256sum < {given} > {self.has()}.new; mv {self.has()}.new {self.has()}",
            f"until [ -e {site.folder}/go ]; do sleep 0.1; done",
            f'echo "it is $(cat {given})"',
            FIX,
        )
        verify = f'test "$GIT_CONFIG_KEY_0" = credential.{self.origin}.helper && git ls-remote {self.address}'
        self.forges.project(self.project, verification=[{"name": "git", "command": verify}])
        site.config["credentials"] = {self.kind: {"access": {"read": {"mint": "repository"}}}}
        site.write_config()

    def agents_token(self) -> str:
        """The token that the agent says it has, among those that were made."""
        wait_for(self.has().exists, what="the agent has the token")
        told = self.has().read_text().split()[0]
        (token,) = [one for one in self.made() if _sum(one) == told]
        return token

    def finish(self, number: int) -> None:
        """Let the agent go on: its work is taken, and nothing is left of what it was given."""
        site = self.forges.site
        (site.folder / "go").touch()
        task = site.wait_state(f"{self.project}.{number}", "review")
        assert [attempt.verdict for attempt in task.attempts] == ["completed"]
        wait_for(lambda: not self.live(), what="the token is revoked")
        wait_for(lambda: not list(site.root.minted.glob("*")), what="its page is gone")
        assert (site.folder / "clone" / "calc.py").read_text() == CALC["calc.py"]
        assert_nowhere(site.folder, *self.made())
        assert "[hidden]" in site.cli("task", "logs", f"{self.project}.{number}").stdout


def _sum(token: str) -> str:
    return subprocess.run(["sha256sum"], input=token, capture_output=True, text=True, check=True).stdout.split()[0]


def github(forges: ForgeSite) -> Mint:
    site, hub = forges.site, forges.hub
    del site.config["projects"]["lab"]
    key = site.root.path / "app.pem"
    key.write_text(private_key())
    key.chmod(0o600)
    hub.add_app("12345", "cloudy", [REPO])
    forges.project("hub", auth={"app": {"id": "12345", "private_key": {"file": "app.pem"}}})

    def made() -> list[str]:
        minted = hub.apps["12345"].get("minted", [])
        return [one["token"] for one in minted if one["permissions"]["contents"] == "read"]

    return Mint(forges, "hub", REPO, hub.origin, forges.labelled, made, lambda: {*made()} & {*hub.tokens})


def gitlab(forges: ForgeSite) -> Mint:
    site, lab = forges.site, forges.lab
    del site.config["projects"]["hub"]
    lab.add_person(BOT, levels={PROJECT: MAINTAINER})
    lab.add_project(OTHER, make_remote(site.folder / "other.git", CALC))

    def open_issue() -> int:
        number = lab.open_issue(PROJECT, "rea", "Fix the sum", "It subtracts.")
        lab.add_label(PROJECT, number, "ada", "cloud-code")
        return number

    def made() -> list[str]:
        with lab.lock:
            return [one["token"] for one in lab.minted]

    def live() -> set[str]:
        with lab.lock:
            return {*lab.projects[PROJECT]["tokens"].values()} | {*made()} & {*lab.tokens}

    return Mint(forges, "lab", PROJECT, lab.origin, open_issue, made, live)


@pytest.fixture
def forges(tmp_path: Path) -> Iterator[ForgeSite]:
    with forge_site(tmp_path) as made:
        yield made


@pytest.mark.parametrize("forge", [github, gitlab])
def test_a_token_for_the_attempt_outlives_a_crash_and_ends_with_it(
    forges: ForgeSite, forge: Callable[[ForgeSite], Mint]
) -> None:
    site, mint = forges.site, forge(forges)
    mint.use_agent()
    site.start()
    number = mint.open_issue()
    token = mint.agents_token()
    assert mint.live() == {token}
    site.stop_supervisors(signal.SIGKILL)
    site.start()
    wait_for(lambda: grants(site)["cred-001"]["status"] == "granted")
    assert mint.live() == {token}
    mint.finish(number)


def test_one_of_gitlab_whose_making_was_cut_off_is_found_by_its_name_and_another_takes_its_place(
    forges: ForgeSite,
) -> None:
    site, mint = forges.site, gitlab(forges)
    beyond = f"{mint.origin}/{OTHER}.git"
    helped = "git -c credential.helper='!agent-daemon git-credential'"
    mint.use_agent(
        f"if GIT_TERMINAL_PROMPT=0 {helped} ls-remote {beyond}; then exit 7; fi",
        f"if {helped} -C {site.folder}/clone push origin HEAD:refs/heads/theirs; then exit 8; fi",
    )
    killed = site.start(**{VARIABLE: "mint.made"})
    number = mint.open_issue()
    assert killed.wait(timeout=PATIENCE_SECONDS) == -signal.SIGKILL
    (lost,) = mint.live()
    (page,) = site.root.minted.glob("*")
    assert lost not in page.read_text() and not mint.has().exists()
    site.start()
    token = mint.agents_token()
    assert token != lost
    wait_for(lambda: mint.live() == {token}, what="the lost one is revoked while the agent works")
    mint.finish(number)
