"""The base branch moves while an agent works, while work is handed in, and while it waits for a merge."""

import time

import pytest

from agent_daemon.failpoints import MOVED_BASE_FAILPOINTS, VARIABLE
from supervisor.core.record import TaskRecord
from tests.site import Site, git, wait_for

FIX = "sed -i 's/a - b/a + b/' calc.py"
RIVAL = "def add(a, b):\n    return sum((a, b))\n"
MERGE = "git merge -q -X ours -m 'Merge main' origin/main"


class Colleague:
    """A person with a clone, who pushes to the base branch, or to another."""

    def __init__(self, site: Site) -> None:
        self.site, self.path = site, site.folder / "colleague"
        git("clone", "-q", str(site.remote), str(self.path), cwd=site.folder)

    def push(self, name: str, text: str, branch: str = "main") -> str:
        git("fetch", "-q", "origin", cwd=self.path)
        git("checkout", "-q", "--detach", f"origin/{branch}", cwd=self.path)
        (self.path / name).write_text(text)
        git("add", "--all", cwd=self.path)
        git("commit", "-qm", f"By a colleague: {name}", cwd=self.path)
        git("push", "-q", "origin", f"HEAD:{branch}", cwd=self.path)
        return git("rev-parse", "HEAD", cwd=self.path)

    def push_seen(self, name: str, text: str) -> str:
        """Push to the base branch, and wait until the supervisor has fetched that."""
        sha = self.push(name, text)
        mirror = self.site.root.mirror("default", "demo")
        wait_for(lambda: git("rev-parse", "main", cwd=mirror) == sha, what="the mirror is fresh")
        return sha


def start(site: Site, *steps: str, **project: object) -> Colleague:
    """The agent's steps, each run with its prompt in ``prompt.<n>`` and after ``go.<n>`` is there."""
    site.use_script(
        f"n=1; while [ -e {site.folder}/prompt.$n ]; do n=$((n + 1)); done",
        f"cat > {site.folder}/.prompt; mv {site.folder}/.prompt {site.folder}/prompt.$n",
        f"while [ ! -e {site.folder}/go.$n ]; do sleep 0.05; done",
        *steps,
    )
    site.config["projects"]["demo"] |= project
    site.write_config()
    site.start()
    return Colleague(site)


def wait_prompt(site: Site, number: int) -> str:
    path = site.folder / f"prompt.{number}"
    return wait_for(lambda: path.exists() and path.read_text(), what=f"attempt {number} has begun")


def go(site: Site, *numbers: int) -> None:
    for number in numbers:
        (site.folder / f"go.{number}").touch()


def explained(site: Site) -> str:
    return " ".join(site.cli("task", "explain", "fix-add").stdout.split())


def descends(site: Site, ancestor: str, head: str) -> bool:
    return git("merge-base", ancestor, head, cwd=site.remote) == ancestor


@pytest.mark.parametrize("mode", ["shared", "copy_on_write", "isolated"])
def test_work_is_put_on_top_and_verified_there(site: Site, mode: str) -> None:
    colleague = start(site, FIX, "git commit -qam 'Mend the sign'", "echo more > more.txt", workspace_mode=mode)
    site.write_task("fix-add", verification=[{"name": "both", "command": "test -e other.txt && test -e more.txt"}])
    wait_prompt(site, 1)
    moved = colleague.push_seen("other.txt", "other\n")
    go(site, 1)
    task = site.wait_state("demo.fix-add", "review", "blocked", "failed")
    assert task.state == "review" and task.attempt == 1 and task.delivery is not None
    assert task.delivery.base == moved and [f.path for f in task.delivery.files] == ["calc.py", "more.txt"]
    subjects = git("log", "--format=%s", f"{moved}..{task.branch}", cwd=site.remote).splitlines()
    assert subjects == ["Task fix-add", "Mend the sign"]
    assert f"the work was put on top of {moved[:12]}" in explained(site)
    report = (site.root.attempt_out("backend-1", "demo.fix-add", 1) / "reporting.yaml").read_text()
    assert "other.txt" not in report.split("verification:")[0], "what others did is not told as the agent's"


def test_a_conflict_goes_back_to_an_agent_who_settles_it(site: Site) -> None:
    colleague = start(site, f"if [ $n = 1 ]; then {FIX}; else {MERGE}; fi")
    site.write_task("fix-add")
    wait_prompt(site, 1)
    moved = colleague.push_seen("calc.py", RIVAL)
    go(site, 1, 2)
    told = wait_prompt(site, 2)
    assert "E_BASE_CONFLICT" in told and f"main has moved to {moved[:12]}" in told and "calc.py" in told
    assert "put the work on top of origin/main, by a rebase or a merge" in told
    task = site.wait_state("demo.fix-add", "review", "blocked")
    assert task.state == "review" and [a.verdict for a in task.attempts] == ["failed", "completed"]
    assert task.attempts[1].start_commit == task.attempts[0].bundle_head, "the work as it was"
    assert descends(site, moved, task.branch)
    assert "a + b" in git("show", f"{task.branch}:calc.py", cwd=site.remote)


def test_a_conflict_that_nobody_settles_waits_for_a_person(site: Site) -> None:
    colleague = start(site, f"if [ $n = 3 ]; then {MERGE}; elif [ $n = 1 ]; then {FIX}; else echo x > x.txt; fi")
    site.write_task("fix-add")
    wait_prompt(site, 1)
    colleague.push_seen("calc.py", RIVAL)
    go(site, 1, 2, 3)
    blocked = site.wait_state("demo.fix-add", "blocked", "review")
    assert blocked.state == "blocked" and blocked.attempt == 2
    assert blocked.waits_for[0].reason == "conflict" and "calc.py" in blocked.waits_for[0].message
    assert "Make another attempt, and say how both go together" in explained(site)
    site.cli("task", "retry", "fix-add", "--note", "keep the plus sign")
    assert "keep the plus sign" in wait_prompt(site, 3)
    assert site.wait_state("demo.fix-add", "review").attempt == 3


def test_verification_that_fails_on_top_is_told_as_such(site: Site) -> None:
    check = "test ! -e breaks-it || test -e mended"
    colleague = start(site, f"if [ $n = 1 ]; then {FIX}; else touch mended; echo mended > mended; fi")
    site.write_task("fix-add", verification=[{"name": "both", "command": check}])
    wait_prompt(site, 1)
    moved = colleague.push_seen("breaks-it", "x\n")
    go(site, 1, 2)
    assert f"main had moved: what failed ran on top of it at {moved[:12]}" in wait_prompt(site, 2)
    task = site.wait_state("demo.fix-add", "review", "blocked")
    assert task.state == "review" and task.delivery is not None and task.delivery.base == moved


def test_a_conflict_that_only_the_supervisor_sees_goes_back_too(site: Site) -> None:
    colleague = start(site, f"if [ $n = 1 ]; then {FIX}; else {MERGE}; fi", poll_interval_seconds=3600)
    site.write_task("fix-add")
    wait_prompt(site, 1)
    colleague.push("calc.py", RIVAL)
    go(site, 1, 2)
    assert "E_BASE_CONFLICT" in wait_prompt(site, 2)
    task = site.wait_state("demo.fix-add", "review", "blocked")
    assert task.state == "review" and [a.verdict for a in task.attempts] == ["conflict", "completed"]
    assert [event["details"]["files"] for event in site.events("claim.conflicts")] == [["calc.py"]]
    assert list(site.root.quarantine.iterdir()) == []


def test_a_move_in_the_last_moment_that_conflicts_with_nothing_holds_nothing_up(site: Site) -> None:
    colleague = start(site, FIX, poll_interval_seconds=3600)
    site.write_task("fix-add")
    task = begin_and_move(site, colleague, "other.txt")
    assert task.attempt == 1 and task.base_conflict is None


def begin_and_move(site: Site, colleague: Colleague, name: str, text: str = RIVAL) -> TaskRecord:
    wait_prompt(site, 1)
    colleague.push(name, text)
    go(site, 1)
    return site.wait_state("demo.fix-add", "review")


def test_where_it_is_not_wanted_nothing_moves_and_a_conflict_is_told(site: Site) -> None:
    colleague = start(site, FIX, rebase="never")
    site.write_task("fix-add")
    wait_prompt(site, 1)
    moved = colleague.push_seen("calc.py", RIVAL)
    go(site, 1)
    task = site.wait_state("demo.fix-add", "review")
    assert task.attempt == 1 and task.delivery is not None and task.delivery.base != moved
    assert task.base_conflict is not None and task.base_conflict.files == ("calc.py",)
    assert "would not merge as it is" in explained(site)


def test_a_conflict_in_review_is_told_until_it_is_settled(site: Site) -> None:
    colleague = start(site, f"if [ $n = 1 ]; then {FIX}; else {MERGE}; fi")
    site.write_task("fix-add")
    go(site, 1)
    first = site.wait_state("demo.fix-add", "review")
    assert first.delivery is not None
    original = git("show", "main:calc.py", cwd=site.remote) + "\n"
    colleague.push("calc.py", RIVAL)
    (event,) = wait_for(lambda: site.events("request.conflicts"))
    assert event["details"]["files"] == ["calc.py"]
    assert "conflicts with main" in site.cli("status").stdout and "would not merge as it is" in explained(site)
    colleague.push("other.txt", "moved again\n")
    colleague.push("calc.py", original)
    wait_for(lambda: site.events("request.mergeable"))
    assert "would not merge" not in explained(site)
    colleague.push("calc.py", RIVAL)
    wait_for(lambda: len(site.events("request.conflicts")) == 2)

    go(site, 2)
    site.cli("task", "retry", "fix-add")
    told = wait_prompt(site, 2)
    assert "E_BASE_CONFLICT" in told and "no rebase" in told
    wait_for(lambda: (r := site.record("demo.fix-add")) and r.attempt == 2 and r.state == "review")
    second = site.record("demo.fix-add")
    assert second is not None and second.delivery is not None and second.base_conflict is None
    assert second.attempts[1].rebase == "never"
    assert descends(site, first.delivery.pushed_head, second.delivery.pushed_head), "nothing was rewritten"
    assert descends(site, git("rev-parse", "main", cwd=site.remote), second.delivery.pushed_head)


def test_a_conflict_in_review_starts_an_attempt_where_that_is_wanted(site: Site) -> None:
    steps = f"if [ $n = 1 ]; then {FIX}; else {MERGE}; fi"
    colleague = start(site, steps, conflict_in_review="attempt")
    site.write_task("fix-add")
    go(site, 1, 2)
    site.wait_state("demo.fix-add", "review")
    colleague.push("calc.py", RIVAL)
    assert "E_BASE_CONFLICT" in wait_prompt(site, 2)
    wait_for(lambda: (r := site.record("demo.fix-add")) and r.attempt == 2 and r.state == "review")
    colleague.push("other.txt", "other\n")
    settled = site.record("demo.fix-add")
    assert settled is not None and settled.attempt == 2 and len(site.events("request.conflicts")) == 1


def test_what_people_pushed_is_never_put_elsewhere(site: Site) -> None:
    colleague = start(site, f"if [ $n = 1 ]; then {FIX}; else echo more > more.txt; fi")
    site.write_task("fix-add")
    go(site, 1)
    first = site.wait_state("demo.fix-add", "review")
    theirs = colleague.push("theirs.txt", "theirs\n", branch=first.branch)
    colleague.push("other.txt", "other\n")
    site.cli("task", "retry", "fix-add", "--note", "more, please")
    go(site, 2)
    wait_for(lambda: (r := site.record("demo.fix-add")) and r.attempt == 2 and r.state == "review")
    second = site.record("demo.fix-add")
    assert second is not None and second.attempts[1].rebase == "never"
    assert descends(site, theirs, second.branch)
    assert git("show", f"{second.branch}:more.txt", cwd=site.remote) == "more"


def test_work_on_top_of_another_task_is_never_put_elsewhere(site: Site) -> None:
    colleague = start(site, "echo $n >> steps.txt")
    go(site, 1, 2)
    site.write_task("fix-add")
    first = site.wait_state("demo.fix-add", "review")
    colleague.push("other.txt", "other\n")
    site.write_task("second", depends_on=["fix-add"])
    second = site.wait_state("demo.second", "review")
    assert second.attempts[0].rebase == "never"
    assert first.delivery is not None and descends(site, first.delivery.pushed_head, second.branch)


@pytest.mark.parametrize("place", MOVED_BASE_FAILPOINTS)
def test_a_daemon_killed_while_it_switches_completes_that(site: Site, place: str) -> None:
    counter = site.folder / "kills"
    counter.write_text("2")
    site.use_script(
        "cat > /dev/null; touch begun",
        f"[ -e done.txt ] || {{ {FIX}; echo done > done.txt; }}",
        f"while [ ! -e {site.folder}/go.1 ]; do sleep 0.05; done",
    )
    site.write_config()
    site.start(**{VARIABLE: f"{place}={counter}"})
    colleague = Colleague(site)
    site.write_task("fix-add", verification=[{"name": "both", "command": "test -e other.txt && test -e done.txt"}])
    wait_for((site.root.worktree("backend-1", "demo", "demo.fix-add") / "begun").exists)
    moved = colleague.push_seen("other.txt", "other\n")
    go(site, 1)
    task = site.wait_state("demo.fix-add", "review", "blocked")
    assert counter.read_text() == "1", "killed in the middle, once"
    assert task.state == "review" and task.attempt == 1 and task.delivery is not None
    assert task.delivery.base == moved
    assert [f.path for f in task.delivery.files] == ["begun", "calc.py", "done.txt"]


def test_a_rebase_that_the_agent_left_in_the_middle_costs_an_attempt_and_no_work(site: Site) -> None:
    whole = "$(grep -o 'at [0-9a-f]\\{40\\}' $prompt | cut -c4-)"
    commit_two = f"{FIX}; git commit -qam fix; echo 3 > three.txt; git add three.txt; git commit -qm three"
    colleague = start(
        site,
        f"prompt={site.folder}/prompt.$n",
        f"if [ $n = 1 ]; then {commit_two}; fi",
        "if [ $n = 2 ]; then git rebase -q origin/main || true; fi",
        f"if [ $n = 3 ]; then git reset -q --hard; git merge -q -X theirs -m all {whole}; fi",
        limits={"max_failures": 3},
    )
    site.write_task("fix-add")
    wait_prompt(site, 1)
    colleague.push_seen("calc.py", RIVAL)
    go(site, 1, 2, 3)
    assert "E_UNSETTLED" in wait_prompt(site, 3)
    task = site.wait_state("demo.fix-add", "review", "blocked")
    assert task.state == "review" and task.attempt == 3
    assert git("show", f"{task.branch}:three.txt", cwd=site.remote) == "3"
    assert "a + b" in git("show", f"{task.branch}:calc.py", cwd=site.remote)


def test_refused_work_that_was_put_on_top_does_not_take_others_work_for_its_own(site: Site) -> None:
    colleague = start(
        site,
        f"git status --porcelain > {site.folder}/status.$n",
        f"if [ $n = 1 ]; then {FIX}; echo 1 > name.txt; echo 2 > NAME.txt; else rm NAME.txt; fi",
    )
    site.write_task("fix-add")
    wait_prompt(site, 1)
    moved = colleague.push_seen("other.txt", "other\n")
    go(site, 1, 2)
    task = site.wait_state("demo.fix-add", "review", "blocked")
    assert task.state == "review" and task.attempts[1].start_squashed
    told = (site.folder / "status.2").read_text()
    assert "calc.py" in told and "other.txt" not in told
    assert task.delivery is not None and task.delivery.base == moved
    assert "other.txt" not in [file.path for file in task.delivery.files]


def test_a_remote_that_is_away_is_told_once_and_asked_again(site: Site) -> None:
    colleague = start(site, FIX)
    site.write_task("fix-add")
    go(site, 1)
    site.wait_state("demo.fix-add", "review")
    away = site.remote.with_name("away.git")
    site.remote.rename(away)
    wait_for(lambda: site.events("poll.failed"))
    log = site.folder / "supervisor.log"
    size = log.stat().st_size
    time.sleep(2)  # (several polls: what must not happen can only be waited for)
    assert len(site.events("poll.failed")) == 1 and log.stat().st_size - size < 10_000
    away.rename(site.remote)
    colleague.push("calc.py", RIVAL)
    wait_for(lambda: site.events("request.conflicts"))
