"""From a task file to a merged branch, with the real supervisor, the real daemon and a scripted coding CLI."""

import json
import os
import signal
from pathlib import Path

import pytest

from agent_daemon.processes import identify, is_alive
from supervisor.core.states import State
from supervisor.mail import digest
from tests.site import Site, git, wait_for

FIX = "sed -i 's/a - b/a + b/' calc.py"
CHECK = {"name": "sum", "command": "python3 -c 'import calc; assert calc.add(1, 2) == 3'"}


def merge(site: Site, branch: str) -> None:
    """What a person does with a good branch."""
    clone = site.folder / f"person-{branch.replace('/', '-')}"
    git("clone", "--quiet", str(site.remote), str(clone), cwd=site.folder)
    git("merge", "--quiet", "--no-edit", f"origin/{branch}", cwd=clone)
    git("push", "--quiet", "origin", "main", cwd=clone)


def test_a_task_file_becomes_a_pushed_branch_and_is_completed_by_its_merge(site: Site) -> None:
    site.use_script("cat > prompt.txt.log", "rm prompt.txt.log", FIX, "echo fixed the sign")
    site.write_config()
    site.start()
    site.write_task("fix-add", verification=[CHECK], acceptance_criteria=["1 + 2 is 3"])
    task = site.wait_state("demo.fix-add", "review")

    assert task.delivery is not None
    assert git("rev-parse", task.branch, cwd=site.remote) == task.delivery.pushed_head
    assert "a + b" in git("show", f"{task.branch}:calc.py", cwd=site.remote)
    assert git("log", "-1", "--format=%an", task.branch, cwd=site.remote) == "Cloud Code"
    request = (site.root.requests / "demo.fix-add.md").read_text()
    assert "fixed the sign" in request and "exit code 0" in request and "not re-run" in request
    wait_for(lambda: site.events("task.review"))
    names = [event["event"] for event in site.events()]
    assert names.count("branch.pushed") == names.count("request.opened") == 1

    merge(site, task.branch)
    done = site.wait_state("demo.fix-add", "completed")
    wait_for(lambda: site.store.is_archived("demo.fix-add"), what="the record is archived")
    assert done.state is State.COMPLETED
    assert not site.root.worktree("backend-1", "demo", "demo.fix-add").exists()
    report = site.root.attempt_out("backend-1", "demo.fix-add", 1)
    assert (report / "logs" / "cli.log").exists()


def test_a_failing_verification_comes_back_as_feedback_then_blocks_then_is_retried_by_a_person(site: Site) -> None:
    seen = site.folder / "prompts"
    seen.mkdir()
    site.use_script(
        f"n=$(ls {seen} | wc -l); cat > {seen}/$n.md",
        f"if [ -e {site.folder}/be-good ]; then {FIX}; else echo '# tried' >> calc.py; fi",
    )
    site.write_config()
    site.start()
    site.write_task("fix-add", verification=[CHECK])
    blocked = site.wait_state("demo.fix-add", "blocked")

    assert blocked.failures == 2 and blocked.attempt == 2
    assert "verification failed: 'sum'" in blocked.waits_for[0].message
    second = (seen / "1.md").read_text()
    assert "E_VERIFICATION_FAILED" in second and "AssertionError" in second
    saved = site.root.salvage / "demo.fix-add"
    wait_for(lambda: sorted(path.name for path in saved.iterdir()) == ["1.bundle", "2.bundle"])
    first, second_attempt = blocked.attempts
    assert second_attempt.start_commit == first.bundle_head, "the second attempt built on the first"

    (site.folder / "be-good").touch()
    assert "pending" in site.cli("task", "retry", "fix-add", "--note", "mind the sign").stdout
    task = site.wait_state("demo.fix-add", "review")
    assert task.attempt == 3 and task.failures == 0
    assert "mind the sign" in (seen / "2.md").read_text()
    assert git("show", f"{task.branch}:calc.py", cwd=site.remote).count("# tried") == 2, "no work was lost"


def test_a_task_starts_from_the_head_of_the_one_it_depends_on(site: Site) -> None:
    site.config["workstations"]["backend"]["count"] = 2
    site.use_script("cat > /dev/null", "echo x >> steps.txt")
    site.write_config()
    site.write_task("second", depends_on=["first"])
    site.start()
    wait_for(lambda: site.record("demo.second"))
    site.write_task("first")
    first = site.wait_state("demo.first", "review")
    second = site.wait_state("demo.second", "review")
    assert git("show", f"{first.branch}:steps.txt", cwd=site.remote) == "x"
    assert git("show", f"{second.branch}:steps.txt", cwd=site.remote) == "x\nx"
    assert first.delivery and first.delivery.pushed_head in git("rev-list", second.branch, cwd=site.remote).split()


def test_the_diff_of_a_task_that_builds_on_another_one_shows_only_its_own_changes(site: Site) -> None:
    def files_of(stem: str) -> list[str]:
        text = json.loads(site.cli("task", "diff", stem, "--json").stdout)["text"]
        return [line.split(" b/")[1] for line in text.splitlines() if line.startswith("diff --git")]

    merge = f"if [ -e {site.folder}/moved ]; then git fetch -q; git merge -q --no-edit origin/main; fi"
    site.use_script("cat > /dev/null", merge, "echo x >> $(basename $PWD).txt", f"[ ! -e {site.folder}/fails ]")
    site.write_config()
    site.start()
    site.write_task("first")
    first = site.wait_state("demo.first", "review")
    site.write_task("second", depends_on=["first"])
    site.wait_state("demo.second", "review")
    assert (files_of("first"), files_of("second")) == (["demo.first.txt"], ["demo.second.txt"])
    work = site.folder / "remote.git.work"
    (work / "else.txt").write_text("else")
    git("add", "--all", cwd=work)
    git("commit", "-qm", "Else", cwd=work)
    git("push", "-q", str(site.remote), "main", cwd=work)
    (site.folder / "moved").touch()
    site.cli("task", "retry", "second")
    wait_for(lambda: (task := site.record("demo.second")) is not None and task.attempt == 2)
    again = site.wait_state("demo.second", "review")
    assert again.delivery is not None and again.delivery.base == git("rev-parse", "main", cwd=work)
    assert files_of("second") == ["demo.second.txt"]
    (site.folder / "fails").touch()
    site.cli("task", "retry", "second")
    site.wait_state("demo.second", "blocked")
    assert wait_for(lambda: files_of("second")) == ["demo.second.txt"]
    git("fetch", "-q", str(site.remote), first.branch, cwd=work)
    git("merge", "-q", "--no-edit", "FETCH_HEAD", cwd=work)
    git("push", "-q", str(site.remote), "main", cwd=work)
    site.wait_state("demo.first", "completed")
    assert files_of("first") == ["demo.first.txt"]


def put(file: Path, text: str) -> None:
    """As editors do it: nobody finds half of it."""
    fresh = file.with_name(f".{file.name}.person")
    fresh.write_text(text)
    fresh.replace(file)


def test_the_text_of_a_running_task_is_changed_by_its_file_and_by_its_tasking(site: Site) -> None:
    prompts = site.folder / "prompts"
    prompts.mkdir()
    site.use_script(f"cd {prompts}; n=$(ls | wc -l); cat > .$n; mv .$n $n.md", "sleep 60")
    site.write_config()
    site.start()
    site.write_task("long", description="first text")
    wait_for(lambda: (prompts / "0.md").exists(), what="the first prompt")

    site.write_task("long", description="second text")
    wait_for(lambda: (prompts / "1.md").exists(), what="the prompt after the file was edited")
    assert "second text" in (prompts / "1.md").read_text()

    tasking = site.root.attempt_in("backend-1", "demo.long", 1) / "tasking.yaml"
    link = site.root.worktree("backend-1", "demo", "demo.long") / ".cloud-code" / "tasking.yaml"
    assert link.resolve() == tasking
    edited = tasking.read_text().replace("second text", "third text")
    put(tasking, edited)
    wait_for(lambda: (prompts / "2.md").exists(), what="the prompt after the tasking was edited")
    assert "third text" in (prompts / "2.md").read_text()
    wait_for(lambda: (r := site.record("demo.long")) is not None and r.description == "third text")
    wait_for(lambda: digest(tasking.read_bytes()) == site.record("demo.long").attempts[0].mail.digest)

    put(tasking, tasking.read_text().replace("attempt: 1", "attempt: 7"))
    rejected = tasking.with_name("tasking.yaml.rejected")
    wait_for(rejected.exists, what="the refused edit is kept")
    assert "'attempt' cannot be changed here" in rejected.read_text().splitlines()[0]
    wait_for(lambda: "attempt: 1" in tasking.read_text())

    put(tasking, tasking.read_text().replace("status: assigned", "status: cancelled"))
    site.wait_state("demo.long", "cancelled")
    wait_for(lambda: site.store.is_archived("demo.long"), what="its worktree is released")


def test_pause_and_resume_keep_the_work(site: Site) -> None:
    site.use_script(
        "cat > /dev/null", "echo begun >> work.txt", f"while [ ! -e {site.folder}/go ]; do sleep 0.1; done"
    )
    site.write_config()
    site.start()
    site.write_task("long")
    site.wait_state("demo.long", "in_progress")
    worktree = site.root.worktree("backend-1", "demo", "demo.long")
    wait_for((worktree / "work.txt").exists)
    assert "paused" in site.cli("task", "pause", "long").stdout
    report = site.root.attempt_out("backend-1", "demo.long", 1) / "reporting.yaml"
    wait_for(lambda: "status: paused" in report.read_text())
    assert (worktree / "work.txt").read_text() == "begun\n"
    (site.folder / "go").touch()
    site.cli("task", "resume", "long")
    task = site.wait_state("demo.long", "review")
    assert task.attempt == 1
    assert git("show", f"{task.branch}:work.txt", cwd=site.remote) == "begun\nbegun"


def test_deleting_the_file_cancels_and_the_work_is_saved(site: Site) -> None:
    site.use_script("cat > /dev/null", "echo half >> work.txt", "sleep 60")
    site.write_config()
    site.start()
    path = site.write_task("long")
    site.wait_state("demo.long", "in_progress")
    wait_for((site.root.worktree("backend-1", "demo", "demo.long") / "work.txt").exists)
    path.unlink()
    site.wait_state("demo.long", "cancelled")
    wait_for(lambda: site.store.is_archived("demo.long"), what="released")
    bundle = site.root.salvage / "demo.long" / "1.bundle"
    listed = git("bundle", "list-heads", str(bundle), cwd=site.remote)
    assert listed
    site.write_task("long", description="again")
    again = wait_for(lambda: (r := site.record("demo.long")) and r.rerun == 2 and r)
    assert again.branch.endswith("-r2")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_an_agent_is_not_disturbed_when_the_supervisor_goes_and_comes(site: Site, number: signal.Signals) -> None:
    starts = site.folder / "starts"
    site.use_script(
        "cat > /dev/null", f"echo $$ >> {starts}", f"while [ ! -e {site.folder}/go ]; do sleep 0.1; done", FIX
    )
    site.write_config()
    site.start()
    site.write_task("fix-add", verification=[CHECK])
    site.wait_state("demo.fix-add", "in_progress")
    wait_for(starts.exists)
    (daemon,) = site.daemons()
    site.stop_supervisors(number)
    (site.folder / "go").touch()
    report = site.root.attempt_out("backend-1", "demo.fix-add", 1) / "reporting.yaml"
    wait_for(lambda: "status: completed" in report.read_text(), what="the agent finishes on its own")
    site.start()
    task = site.wait_state("demo.fix-add", "review")
    assert site.daemons() == [daemon]
    assert task.attempt == 1 and len(starts.read_text().split()) == 1
    wait_for(lambda: site.events("task.review"))
    names = [event["event"] for event in site.events()]
    assert names.count("task.assigned") == names.count("branch.pushed") == names.count("request.opened") == 1


def test_a_killed_daemon_is_restarted_and_carries_on(site: Site) -> None:
    starts = site.folder / "starts"
    site.use_script(
        "cat > /dev/null", f"echo $$ >> {starts}", f"while [ ! -e {site.folder}/go ]; do sleep 0.1; done", FIX
    )
    site.write_config()
    site.start()
    site.write_task("fix-add", verification=[CHECK])
    site.wait_state("demo.fix-add", "in_progress")
    first = identify(int(wait_for(lambda: starts.exists() and starts.read_text())))
    assert first is not None
    (daemon,) = site.daemons()
    os.kill(daemon.pid, signal.SIGKILL)
    wait_for(lambda: len(starts.read_text().split()) == 2, what="the coding CLI is started again")
    assert not is_alive(first), "nothing of the first run is left"
    (site.folder / "go").touch()
    task = site.wait_state("demo.fix-add", "review")
    assert task.attempt == 1


def test_protected_paths_wait_for_a_person(site: Site) -> None:
    site.config["projects"]["demo"]["protected_paths"] = ["deploy/**"]
    site.use_script("cat > /dev/null", "mkdir -p deploy", "echo x > deploy/prod.sh")
    site.write_config()
    site.start()
    site.write_task("deploy")
    blocked = site.wait_state("demo.deploy", "blocked")
    assert blocked.waits_for[0].reason == "approval" and "deploy/prod.sh" in blocked.waits_for[0].message
    assert git("branch", "--list", blocked.branch, cwd=site.remote) == ""
    assert (site.root.held / "demo.deploy" / "1.bundle").exists()
    site.cli("task", "approve", "deploy")
    task = site.wait_state("demo.deploy", "review")
    assert git("show", f"{task.branch}:deploy/prod.sh", cwd=site.remote) == "x"


def test_a_branch_that_exists_already_is_left_alone(site: Site) -> None:
    site.use_script("cat > /dev/null", FIX)
    site.write_config()
    git("branch", "cloud-code/fix-add", "main", cwd=site.remote)
    site.start()
    site.write_task("fix-add")
    blocked = site.wait_state("demo.fix-add", "blocked")
    assert "E_BRANCH_EXISTS" in blocked.waits_for[0].message
    git("branch", "-D", "cloud-code/fix-add", cwd=site.remote)
    site.cli("task", "retry", "fix-add")
    site.wait_state("demo.fix-add", "review")


def test_nonsense_is_told_and_the_rest_goes_on(site: Site) -> None:
    site.use_script("cat > /dev/null", FIX)
    site.config["projects"]["gone"] = {"repository": str(site.folder / "missing.git")}
    site.write_config()
    site.root.tasks.joinpath("typo.yaml").write_text("title: x\nproject: demo\npriorty: high\n")
    site.root.tasks.joinpath("deep.yaml").write_text("[" * 50_000)
    site.root.tasks.joinpath("Bad Name.yaml").write_text("title: x\n")
    site.root.tasks.joinpath("binary.yaml").write_bytes(bytes(range(256)))
    site.root.tasks.joinpath("nowhere.yaml").symlink_to("/etc/passwd")
    site.start()
    site.write_task("lost", project="gone")
    site.write_task("fix-add", project="demo")
    site.wait_state("demo.fix-add", "review")
    wait_for(lambda: site.record("gone.lost").preparing.tries)  # type: ignore[union-attr]
    explained = site.cli("task", "explain", "gone.lost").stdout
    assert "E_NO_REPOSITORY" in explained and "Correct projects.gone.repository in config.yaml" in explained
    refused = {e["details"]["file"]: e["details"] for e in site.events("input.refused")}
    assert refused["tasks/typo.yaml"]["line"] == 3 and "priority" in str(refused["tasks/typo.yaml"])
    assert refused["tasks/deep.yaml"]["code"] == "E_TOO_DEEP"
    assert refused["tasks/nowhere.yaml"]["code"] == "E_SYMLINK"
    assert {"tasks/Bad Name.yaml", "tasks/binary.yaml"} <= set(refused)


def test_a_repository_that_is_not_there_for_a_moment_costs_a_moment(site: Site) -> None:
    site.use_script("cat > /dev/null", FIX)
    site.write_config()
    aside = site.remote.rename(site.folder / "aside.git")
    site.start()
    site.write_task("fix-add")
    wait_for(lambda: site.events("task.not_prepared"))
    aside.rename(site.remote)
    assert site.wait_state("demo.fix-add", "review", "blocked").state == "review"


def test_half_of_the_files_gone_for_a_moment_cancels_nothing(site: Site) -> None:
    site.use_script("cat > /dev/null", "sleep 60")
    site.write_config()
    site.start()
    for stem in ("one", "two", "three"):
        site.write_task(stem)
    wait_for(lambda: all(site.record(f"demo.{stem}") for stem in ("one", "two", "three")))
    aside = site.folder / "aside"
    site.root.tasks.rename(aside)
    wait_for(lambda: [e for e in site.events("input.refused") if e["details"]["code"] == "E_TASKS_VANISHED"])
    site.root.tasks.mkdir()
    wait_for(lambda: site.events("supervisor.started"))
    for path in aside.iterdir():
        path.rename(site.root.tasks / path.name)
    site.write_task("four")
    wait_for(lambda: site.record("demo.four"))
    assert not site.events("task.cancelled")


@pytest.mark.parametrize(
    ("limit", "state", "words"),
    [({"max_turns": 3}, "blocked", "limit of 3 turns"), ({"cost_usd": 0.35}, "blocked", "budget")],
    ids=["turns", "cost"],
)
def test_limits_end_the_run_and_keep_the_work(site: Site, limit: dict[str, float], state: str, words: str) -> None:
    turn = """{"type": "progress", "message": "turn", "usage": {"turns": 1, "cost_usd": 0.1}}"""
    site.config["retry"] = {"first_seconds": 60}
    site.use_script(
        "cat > /dev/null",
        "for n in $(seq 600); do",
        f"  echo '{turn}'; echo $n >> work.txt; sleep 0.1",
        "  [ $n -lt 6 ] || sleep 600",  # a daemon that is late to look finds no more turns than these
        "done",
    )
    site.write_config()
    site.start()
    site.write_task("endless", limits=limit)
    task = site.wait_state("demo.endless", state)
    assert words in task.history[-1].reason or words in str(task.waits_for)
    assert 3 <= task.attempts[0].usage.turns <= 6
    wait_for(lambda: (r := site.record("demo.endless")) and r.attempts[0].saved)
    assert (site.root.salvage / "demo.endless" / "1.bundle").exists()


def test_a_damaged_report_is_told_and_written_again(site: Site) -> None:
    site.use_script("cat > /dev/null", f"while [ ! -e {site.folder}/go ]; do sleep 0.1; done", FIX)
    site.write_config()
    site.start()
    site.write_task("fix-add")
    site.wait_state("demo.fix-add", "in_progress")
    report = site.root.attempt_out("backend-1", "demo.fix-add", 1) / "reporting.yaml"
    (daemon,) = site.daemons()
    os.kill(daemon.pid, signal.SIGSTOP)  # or it might write over the link before anyone has looked
    report.unlink()
    report.symlink_to("/etc/passwd")
    (refused,) = wait_for(lambda: site.events("report.refused"))
    os.kill(daemon.pid, signal.SIGCONT)
    assert refused["details"]["code"] == "E_SYMLINK" and refused["details"]["file"].endswith("reporting.yaml")
    wait_for(lambda: site.events("report.readable"), what="the daemon has heeded feedback.yaml")
    (site.folder / "go").touch()
    site.wait_state("demo.fix-add", "review")


def test_a_report_that_stays_unreadable_blocks_its_task(site: Site) -> None:
    site.use_script("cat > /dev/null", "sleep 60")
    site.config["timing"]["problem_grace_seconds"] = 2
    site.write_config()
    site.start()
    site.write_task("fix-add")
    site.wait_state("demo.fix-add", "in_progress")
    (daemon,) = site.daemons()
    os.kill(daemon.pid, signal.SIGSTOP)
    report = site.root.attempt_out("backend-1", "demo.fix-add", 1) / "reporting.yaml"
    report.unlink()
    os.mkfifo(report)
    blocked = site.wait_state("demo.fix-add", "blocked")
    os.kill(daemon.pid, signal.SIGCONT)
    assert "E_NOT_REGULAR" in blocked.waits_for[0].message and "reporting.yaml" in blocked.waits_for[0].message
    wait_for(
        lambda: (r := site.record("demo.fix-add")) and r.attempts[0].saved, what="its work is saved all the same"
    )


def test_a_full_disk_stops_nothing_for_good(site: Site) -> None:
    """The folder of records refuses to be written for a while, as a full disk would."""
    site.use_script("cat > /dev/null", FIX)
    site.write_config()
    site.start()
    wait_for(lambda: site.events("workstation.started"))
    aside = site.root.records.with_name("tasks.aside")
    site.root.records.rename(aside)
    site.write_task("fix-add")
    log = site.folder / "supervisor.log"
    wait_for(lambda: "E_STATE_DISK" in log.read_text())
    aside.rename(site.root.records)
    site.wait_state("demo.fix-add", "review")


def test_a_second_supervisor_on_the_same_root_is_refused(site: Site) -> None:
    site.write_config()
    site.start()
    wait_for(lambda: site.events("supervisor.started"))
    second = site.cli("run", check=False)
    assert second.returncode == 1 and "E_LOCKED" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_document_is_handed_in_without_a_push(site: Site) -> None:
    site.use_script("cat > /dev/null", "echo '# The plan' > .cloud-code/document.md")
    site.write_config()
    site.start()
    site.write_task("plan", expects="document", type="plan")
    site.wait_state("demo.plan", "completed")
    assert (site.root.requests / "demo.plan.md").read_text() == "# The plan\n"
    assert git("for-each-ref", "--format=%(refname)", cwd=site.remote) == "refs/heads/main"
