"""What must not leave does not: the hook that everything passes which is pushed or told in a request."""

import subprocess
import threading
from collections.abc import Iterator

import pytest

from agent_daemon.protocol.errors import Problem
from supervisor.app import Supervisor, locked
from tests.site import Site, git

SECRET = "hunter2-and-more"
CODE = "E_SECRET_IN_OUTPUT"


def scan(content: Iterator[bytes]) -> Problem | None:
    """The simplest one there is: an exact value, wherever the chunks are cut."""
    if SECRET.encode() not in b"".join(content):
        return None
    return Problem(code=CODE, message="A secret would leave.", mend="Take it out of every commit.")


@pytest.fixture
def scanned(site: Site) -> Iterator[Site]:
    """A supervisor in a thread of ours, for the hook is no configuration; its daemons are real."""
    stop = threading.Event()

    def run() -> None:
        with locked(site.root):
            supervisor = Supervisor(site.root, scan=scan)
            supervisor.run(stop)
            for station in supervisor.fleet.stations.values():
                if station.handle is not None:
                    supervisor.drivers[station.file.driver].stop(station.handle)

    thread = threading.Thread(target=run)
    site.start_thread = thread.start  # type: ignore[attr-defined]
    yield site
    stop.set()
    thread.join(timeout=60)


PLACES = {
    "file": ("echo {secret} > key.txt; git add key.txt; git commit -qm add", "key.txt"),
    "name": ("echo x > {secret}.txt", "the names of the files"),
    "message": ("echo x > a.txt; git add .; git commit -qm 'Use {secret}'", "a commit's message"),
    "history": ("echo {secret} > k; git add k; git commit -qm a; git rm -q k; echo x > y; git add y;"
                " git commit -qm b", "k"),
    "summary": ("echo x > a.txt; echo 'I used {secret}'", "the report's summary or verification"),
}  # fmt: skip


def test_what_must_not_leave_is_sent_back_to_the_agent(scanned: Site) -> None:
    """Each task's first attempt would let a secret out, in its own way; told so, the second one does not."""
    scanned.config["workstations"]["backend"]["count"] = len(PLACES)
    lines = [f"  *{name}*) {script.format(secret=SECRET)};;" for name, (script, _) in PLACES.items()]
    good = f"git rm -rq --cached --ignore-unmatch key.txt {SECRET}.txt; rm -f key.txt {SECRET}.txt; echo z > z.txt"
    scanned.use_script(
        "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b",
        f"if grep -q {CODE}; then {good}; exit 0; fi",
        "case $PWD in",
        *lines,
        "esac",
    )
    scanned.write_config()
    for name in PLACES:
        scanned.write_task(name)
    scanned.start_thread()  # type: ignore[attr-defined]
    for name, (_, place) in PLACES.items():
        task = scanned.wait_state(f"demo.{name}", "review")
        assert [attempt.verdict for attempt in task.attempts] == ["claim refused", "completed"], name
        (event,) = (e for e in scanned.events("claim.refused") if e["task"] == task.id)
        (problem,) = event["details"]["problems"]
        assert (problem["code"], problem["place"]) == (CODE, place)
        assert SECRET not in git("log", "-p", "--format=%B", f"main..{task.branch}", cwd=scanned.remote)
        assert SECRET not in (scanned.root.requests / f"{task.id}.md").read_text()
    objects = subprocess.run(
        ["git", "cat-file", "--batch", "--batch-all-objects"], cwd=scanned.remote, capture_output=True, check=True
    )
    assert objects.stdout and SECRET.encode() not in objects.stdout
    assert SECRET not in scanned.root.events.read_text()
