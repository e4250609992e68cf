"""What must not leave does not: a secret of the root in something that is pushed or told in a request."""

import base64
import subprocess
import sys
from pathlib import Path

from tests.forge_site import forge_site
from tests.site import Site, git, wait_for

SECRET = "hunter2-and-more"
ENCODED = base64.b64encode(f"key={SECRET}\n".encode()).decode()
CODE = "E_SECRET_IN_OUTPUT"

PLACES = {
    "file": ("echo {secret} > key.txt; git add key.txt; git commit -qm add", "key.txt"),
    "encoded": ("echo {encoded} > key.txt", "key.txt"),
    "name": ("echo x > {secret}.txt", "the names of the files"),
    "message": ("echo x > a.txt; git add .; git commit -qm 'Use {secret}'", "a commit's message"),
    "history": ("echo {secret} > k; git add k; git commit -qm a; git rm -q k; echo x > y; git add y;"
                " git commit -qm b", "k"),
}  # fmt: skip
SAID = "echo x > a.txt; agent-daemon decision 'It is {secret}'; echo 'I used {secret}'"


def test_what_must_not_leave_is_sent_back_to_the_agent(site: Site) -> None:
    """Each task's first attempt would let a secret out, in its own way; told so, the second one does not."""
    site.config["workstations"]["backend"]["count"] = 2
    lines = [
        f"  *{name}*) {script.format(secret=SECRET, encoded=ENCODED)};;"
        for name, script in {"said": SAID, **{name: script for name, (script, _) in PLACES.items()}}.items()
    ]
    good = f"git rm -rq --cached --ignore-unmatch key.txt {SECRET}.txt; rm -f key.txt {SECRET}.txt; echo z > z.txt"
    site.use_script(
        "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b",
        f"if grep -q {CODE}; then {good}; exit 0; fi",
        "case $PWD in",
        *lines,
        "esac",
    )
    site.write_config()
    keep = [sys.executable, "-m", "supervisor", "--root", str(site.root.path), "secret", "set", "deploy/key"]
    subprocess.run(keep, input=SECRET, text=True, env=site._environment(), check=True, timeout=60)
    for name in ("said", *PLACES):
        site.write_task(name)
    site.start()
    for name, (_, place) in PLACES.items():
        task = site.wait_state(f"demo.{name}", "review")
        assert [attempt.verdict for attempt in task.attempts] == ["claim refused", "completed"], name
        (event,) = (e for e in site.events("claim.refused") if e["task"] == task.id)
        (problem,) = event["details"]["problems"]
        assert (problem["code"], problem["place"]) == (CODE, place)
        assert "the secret deploy/key" in problem["message"]
        assert SECRET not in git("log", "-p", "--format=%B", f"main..{task.branch}", cwd=site.remote)
        assert SECRET not in (site.root.requests / f"{task.id}.md").read_text()
    told = site.wait_state("demo.said", "review")  # (in text it is hidden)
    assert [attempt.verdict for attempt in told.attempts] == ["completed"]
    request = (site.root.requests / f"{told.id}.md").read_text()
    assert SECRET not in request and "I used [hidden]" in request and "It is [hidden]" in request
    objects = subprocess.run(
        ["git", "cat-file", "--batch", "--batch-all-objects"], cwd=site.remote, capture_output=True, check=True
    )
    assert objects.stdout and SECRET.encode() not in objects.stdout and ENCODED.encode() not in objects.stdout
    assert SECRET not in site.root.events.read_text()
    assert SECRET not in (site.folder / "supervisor.log").read_text()


def test_in_what_is_told_on_an_issue_it_is_hidden_and_noted(tmp_path: Path) -> None:
    """A question that holds one reaches people all the same."""
    with forge_site(tmp_path) as forges:
        site, token = forges.site, "AKIA" + "ABCD" * 4
        site.use_script(f"agent-daemon blocked question 'Is {token} right, or {SECRET}?'")
        site.write_config()
        keep = [sys.executable, "-m", "supervisor", "--root", str(site.root.path), "secret", "set", "deploy/key"]
        subprocess.run(keep, input=SECRET, text=True, env=site._environment(), check=True, timeout=60)
        site.start()
        number = forges.labelled()
        site.wait_state(f"hub.{number}", "blocked")
        asked = "Is [hidden] right, or [hidden]?"
        wait_for(lambda: [said for said in forges.said(number) if asked in said], what="the question is asked")
        wait_for(lambda: [said for said in forges.said(number) if ":story" in said and asked in said])
        log = (site.folder / "supervisor.log").read_text()
        assert f"{CODE}: what must not leave is hidden in a comment" in log
        assert not [said for said in (*forges.said(number), log) if SECRET in said or token in said]
