"""Things that cross each other: a person, an agent and the supervisor acting at the same moment."""

import signal
from pathlib import Path

import pytest

from supervisor.core.record import TaskRecord
from tests.site import PATIENCE_SECONDS, Site, files_below, git, wait_for

FIX = "sed -i 's/a - b/a + b/' calc.py"


def test_work_that_cannot_be_bundled_stays_in_its_worktree(site: Site) -> None:
    site.config["retry"] = {"first_seconds": 1}
    site.use_script(
        "cat > /dev/null",
        f"if [ ! -e {site.folder}/once ]; then touch {site.folder}/once; echo precious > precious.txt;",
        "  git checkout -q --orphan fresh; git rm -rq --cached .; fi",
        f"echo again > again.txt; cp precious.txt {site.folder}/seen.txt",
    )
    site.write_config()
    site.start()
    site.write_task("odd")
    task = site.wait_state("demo.odd", "blocked", "review")
    assert (site.folder / "seen.txt").read_text() == "precious\n", "the second attempt found the first one's work"
    worktree = site.root.worktree("backend-1", "demo", "demo.odd")
    saved = any(attempt.saved and attempt.bundle for attempt in task.attempts)
    assert (worktree / "precious.txt").exists() or saved


def test_a_dependency_is_merged_and_its_branch_deleted_meanwhile(site: Site) -> None:
    site.use_script(
        "cat > /dev/null",
        "echo x >> steps.txt",
        f"if [ $(wc -l < steps.txt) = 2 ]; then while [ ! -e {site.folder}/go ]; do sleep 0.1; done; fi",
    )
    site.write_config()
    site.start()
    site.write_task("first")
    first = site.wait_state("demo.first", "review")
    site.write_task("second", depends_on=["first"])
    site.wait_state("demo.second", "in_progress")
    git("update-ref", "refs/heads/main", f"refs/heads/{first.branch}", cwd=site.remote)
    git("branch", "-D", first.branch, cwd=site.remote)
    site.wait_state("demo.first", "completed")
    (site.folder / "go").touch()
    second = site.wait_state("demo.second", "review")
    assert git("show", f"{second.branch}:steps.txt", cwd=site.remote) == "x\nx"


def test_cancel_and_retry_at_once_end_the_first_run(site: Site) -> None:
    starts = site.folder / "starts"
    site.use_script("cat > /dev/null", f"echo $$ >> {starts}", f"[ $(wc -l < {starts}) = 2 ] || sleep 60", FIX)
    site.write_config()
    site.start()
    site.write_task("twice")
    wait_for(starts.exists)
    site.cli("workstation", "stop", "backend-1")
    wait_for(lambda: not site.daemons())
    site.cli("task", "cancel", "twice")
    site.cli("task", "retry", "twice")
    site.cli("workstation", "start", "backend-1")
    task = site.wait_state("demo.twice", "review")
    assert task.rerun == 2 and len(starts.read_text().split()) == 2
    assert [attempt.verdict for attempt in task.attempts] == ["cancelled", "completed"]
    assert task.branch.endswith("-r2")


def test_verification_that_is_edited_while_it_runs_is_run_anew(site: Site) -> None:
    site.config["retry"] = {"first_seconds": 0.2}
    site.use_script("cat > /dev/null", "echo x >> x.txt")
    site.write_config()
    site.start()
    site.write_task("checked", verification=[{"name": "tests", "command": "sleep 600 # beyond this test"}])
    report = site.root.attempt_out("backend-1", "demo.checked", 1) / "reporting.yaml"
    wait_for(lambda: report.exists() and "status: verifying" in report.read_text())
    site.write_task("checked", verification=[{"name": "tests", "command": "exit 1 # the real ones"}])
    blocked = site.wait_state("demo.checked", "blocked", "review")
    assert blocked.state == "blocked", "what passed was not what was asked for"
    assert "exit 1" in str(blocked.feedback)


def test_a_folder_in_place_of_the_report_harms_nobody(site: Site) -> None:
    site.use_script(
        "cat > /dev/null",
        "r=$(readlink .cloud-code/reporting.yaml); if [ -f $r ]; then rm -f $r; mkdir $r; fi",
        "echo x >> x.txt; sleep 1",
    )
    site.write_config()
    site.start()
    site.write_task("folder")
    site.wait_state("demo.folder", "review")
    site.write_task("later", description="after it")
    site.wait_state("demo.later", "review")


def test_one_broken_mail_folder_leaves_the_other_workstations_alone(site: Site) -> None:
    site.config["workstations"]["other"] = {"driver": "local", "clis": ["scripted"]}
    site.use_script("cat > /dev/null", FIX)
    site.write_config()
    site.start()
    wait_for(lambda: len(site.events("workstation.started")) == 2)
    out = site.root.mail_out("backend-1")
    wait_for((out / "workstation.yaml").exists)
    site.signal_daemons(signal.SIGSTOP, "backend-1")  # or it might make the folder anew in between
    out.rename(out.with_name("out.aside"))
    out.write_text("")
    site.signal_daemons(signal.SIGCONT, "backend-1")
    site.write_task("fix-add", specialist="other")
    site.wait_state("demo.fix-add", "review")


def test_what_others_merged_meanwhile_is_not_undone_by_a_dependent_task(site: Site) -> None:
    site.use_script("cat > /dev/null", "echo x >> steps.txt")
    site.write_config()
    site.start()
    site.write_task("one")
    site.wait_state("demo.one", "review")
    colleague = site.folder / "colleague"
    git("clone", "-q", str(site.remote), str(colleague), cwd=site.folder)
    (colleague / "important.txt").write_text("work of a colleague")
    git("add", "--all", cwd=colleague)
    git("commit", "-qm", "Important", cwd=colleague)
    git("push", "-q", "origin", "main", cwd=colleague)
    site.write_task("two", depends_on=["one"])
    two = site.wait_state("demo.two", "review", "blocked", "failed")
    assert two.state == "review" and two.attempt == 1
    assert two.delivery is not None and [f.path for f in two.delivery.files] == ["steps.txt"]
    git("fetch", "-q", "origin", cwd=colleague)
    git("merge", "-q", "--no-edit", f"origin/{two.branch}", cwd=colleague)
    assert (colleague / "important.txt").exists()


def test_a_program_that_is_not_there_is_passed_over_and_at_the_end_of_the_chain_a_person_is_asked(
    site: Site,
) -> None:
    for name in ("first", "second"):
        site.config["clis"][name] = {"adapter": "command", "argv": [f"/nonexistent/{name}"]}
    site.config["workstations"]["backend"]["clis"] = ["first", "second"]
    site.write_config()
    site.start()
    site.write_task("fix-add")
    blocked = site.wait_state("demo.fix-add", "blocked")
    assert [(a.cli, a.code) for a in blocked.attempts] == [(n, "E_CLI_NOT_STARTED") for n in ("first", "second")]
    assert "/nonexistent/second" in blocked.waits_for[0].message


def test_a_daemon_that_falls_silent_again_and_again_loses_its_attempt(site: Site) -> None:
    site.config["timing"] |= {"suspect_after_seconds": 6, "restart_after_seconds": 7}
    site.config["retry"] = {"first_seconds": 60}
    site.use_script("cat > /dev/null", "sleep 60")
    site.write_config()
    site.start()
    site.write_task("long")
    site.wait_state("demo.long", "in_progress")

    def stop_and_lose() -> bool:
        site.signal_daemons(signal.SIGSTOP)
        task = site.record("demo.long")
        return task is not None and task.state == "failed"

    wait_for(stop_and_lose, what="the attempt is given up")
    assert site.events("workstation.suspect") and len(site.events("workstation.silent")) >= 2


def test_a_new_run_begins_anew_and_leaves_unsaved_work_of_the_first_where_it_can_be_found(site: Site) -> None:
    site.use_script(
        "cat > /dev/null",
        f"if [ ! -e {site.folder}/once ]; then touch {site.folder}/once; echo precious > precious.txt;",
        "  git checkout -q --orphan cloud-code/odd2; git rm -rq --cached .; fi",
        "ls > listing.txt",
    )
    site.config["projects"]["demo"]["limits"] = {"max_failures": 1}
    site.write_config()
    site.start()
    site.write_task("odd")
    site.wait_state("demo.odd", "blocked", "review")
    site.cli("task", "cancel", "odd")
    site.cli("task", "retry", "odd")
    again = site.wait_state("demo.odd", "review")
    assert again.rerun == 2 and again.branch.endswith("-r2")
    assert "precious" not in git("show", f"{again.branch}:listing.txt", cwd=site.remote)
    assert [
        *files_below(site.root.workspace("backend-1"), "precious.txt"),
        *files_below(site.root.salvage / "demo.odd", "*.bundle"),
    ]


ONCE = "if [ ! -e {0}/once ]; then touch {0}/once; echo precious > precious.txt;"
UNRELATED = "git checkout -q --orphan fresh; git add precious.txt; git commit -qm odd; git checkout -q --detach"


def test_a_new_run_does_not_take_up_a_detached_head_that_was_never_saved(site: Site) -> None:
    site.use_script("cat > /dev/null", ONCE.format(site.folder), f"  {UNRELATED}; exit 1; fi", "ls > listing.txt")
    site.config["projects"]["demo"]["limits"] = {"max_failures": 1}
    site.write_config()
    site.start()
    site.write_task("odd")
    blocked = site.wait_state("demo.odd", "blocked")
    wait_for(lambda: (r := site.record("demo.odd")) and r.attempts[0].save_error, what=str(blocked.attempts))
    site.cli("task", "cancel", "odd")
    site.cli("task", "retry", "odd")
    again = site.wait_state("demo.odd", "review", "blocked")
    assert again.state == "review" and again.branch.endswith("-r2")
    assert "precious" not in git("show", f"{again.branch}:listing.txt", cwd=site.remote)
    assert files_below(site.root.workspace("backend-1"), "precious.txt"), "what was never saved is kept"


def test_unrelated_history_costs_one_attempt_and_not_the_task(site: Site) -> None:
    site.use_script("cat > /dev/null", ONCE.format(site.folder), f"  {UNRELATED}; exit 0; fi", FIX)
    site.write_config()
    site.start()
    site.write_task("odd")
    task = site.wait_state("demo.odd", "review", "blocked")
    assert task.state == "review" and task.attempt == 2, task.waits_for
    assert "a + b" in git("show", f"{task.branch}:calc.py", cwd=site.remote)
    assert files_below(site.root.workspace("backend-1"), "precious.txt"), "what was never saved is kept"


def test_a_head_that_an_honest_agent_left_detached_is_what_is_handed_in(site: Site) -> None:
    site.use_script(
        "cat > /dev/null",
        "git checkout -q -b mine; echo dropped > dropped.txt; git add --all; git commit -qm dropped",
        f"git checkout -q --detach HEAD~1; {FIX}; git commit -qam fixed; echo left > left.txt",
    )
    site.write_config()
    site.start()
    site.write_task("fix-add")
    task = site.wait_state("demo.fix-add", "review", "blocked", "failed")
    assert task.state == "review" and task.attempt == 1
    assert "a + b" in git("show", f"{task.branch}:calc.py", cwd=site.remote)
    assert git("ls-tree", "--name-only", task.branch, cwd=site.remote).split() == ["calc.py", "left.txt"]


def test_a_mirror_that_the_disk_damaged_is_replaced_while_work_goes_on(site: Site) -> None:
    site.config["projects"]["demo"]["limits"] = {"max_failures": 3}
    site.use_script("cat > /dev/null", FIX, "echo more >> more.txt; git add more.txt; git commit -qm More")
    site.write_config()
    site.start()
    site.write_task("before")
    site.wait_state("demo.before", "review")
    mirror = site.root.mirror("default", "demo")
    for path in [*mirror.glob("objects/??/*"), *mirror.glob("objects/pack/*.pack")]:
        path.chmod(0o644)
        path.write_bytes(b"rubbish")
    site.write_task("after")
    after = site.wait_state("demo.after", "review", "blocked")
    assert after.state == "review", site.story("demo.after")
    (renewed,) = site.events("mirror.renewed")
    assert renewed["details"]["project"] == "demo" and Path(renewed["details"]["aside"]).is_dir()


def test_a_blob_of_the_mirror_that_only_the_workstation_reads_is_noticed(site: Site) -> None:
    site.use_script("cat > /dev/null", FIX)
    site.config["projects"]["demo"]["limits"] = {"max_failures": 3}
    site.write_config()
    site.start()
    site.cli("workstation", "stop", "backend-1")
    wait_for(lambda: not site.daemons())
    site.write_task("fix-add")
    mirror = site.root.mirror("default", "demo")
    blob = git("rev-parse", "main:calc.py", cwd=site.remote)
    site.write_task("other")
    wait_for(lambda: site.record("demo.other"))
    git(
        "clone", "-q", "--bare", "--no-hardlinks", str(site.remote), str(site.folder / "seed.git"), cwd=site.folder
    )
    assert not mirror.exists()
    mirror.parent.mkdir(parents=True, exist_ok=True)
    (site.folder / "seed.git").rename(mirror)
    (mirror / "objects/pack").mkdir(exist_ok=True)
    loose = mirror / "objects" / blob[:2] / blob[2:]
    loose.chmod(0o644)
    loose.write_bytes(b"")
    site.cli("workstation", "start", "backend-1")
    site.wait_state("demo.fix-add", "review")
    assert site.events("mirror.renewed")


def hold_pushes(site: Site) -> None:
    """The remote takes a push only once `go` exists, and says by `asked` that one waits.

    What nobody lets go on is refused in the end: it must not arrive when nobody expects it any more.
    """
    hook = site.remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    waiting = f"for i in $(seq 2400); do [ -e {site.folder}/go ] && exit 0; sleep 0.05; done; exit 1"
    hook.write_text(f"#!/bin/sh\ntouch {site.folder}/asked\n{waiting}\n")
    hook.chmod(0o755)


def archived(site: Site, task_id: str) -> bool:
    return site.store.is_archived(task_id)


def released(site: Site, task_id: str) -> bool:
    task = site.record(task_id)
    return archived(site, task_id) and task is not None and task.attempts[0].released


def cancel_while_pushing(site: Site) -> None:
    """The remote holds the push of `fix-add` back, and the task is cancelled meanwhile."""
    site.use_script("cat > /dev/null", FIX)
    hold_pushes(site)
    site.write_config()
    site.start()
    site.write_task("fix-add")
    wait_for((site.folder / "asked").exists)
    site.cli("task", "cancel", "fix-add")


def test_a_push_that_a_cancellation_crosses_is_told_when_it_arrives(site: Site) -> None:
    cancel_while_pushing(site)
    task = site.wait_state("demo.fix-add", "cancelled")
    assert [effect.status for effect in task.effects] == ["sending"] and not archived(site, "demo.fix-add")
    (site.folder / "go").touch()
    wait_for(lambda: archived(site, "demo.fix-add"))
    task = site.record("demo.fix-add")
    assert task is not None and [(e.kind, e.status) for e in task.effects] == [("push", "done")]
    (pushed,) = site.events("branch.pushed")
    assert pushed["details"]["state"] == "cancelled"
    assert git("rev-parse", task.branch, cwd=site.remote) == pushed["details"]["head"]
    assert "stays on the remote" in site.cli("task", "explain", "fix-add").stdout


@pytest.mark.parametrize("remote", ["has it", "has it and goes on", "has something else", "has nothing"])
def test_a_push_whose_supervisor_died_is_looked_up_after_the_task_was_cancelled(site: Site, remote: str) -> None:
    arrived = remote.startswith("has it")
    cancel_while_pushing(site)
    task = site.wait_state("demo.fix-add", "cancelled")
    site.stop_supervisors(signal.SIGKILL)
    assert task.delivery is not None
    if arrived:  # the answer to the push was lost
        quarantine = site.root.quarantine / "demo.fix-add.1.git"
        (site.remote / "hooks" / "pre-receive").unlink()
        head = task.delivery.pushed_head
        git(
            "--git-dir",
            str(quarantine),
            "push",
            "-q",
            str(site.remote),
            f"{head}:refs/heads/{task.branch}",
            cwd=site.folder,
        )
    if remote in ("has it and goes on", "has something else"):
        parent = task.branch if arrived else "main"
        commit = git("commit-tree", f"{parent}^{{tree}}", "-p", parent, "-m", "By a colleague", cwd=site.remote)
        git("update-ref", f"refs/heads/{task.branch}", commit, cwd=site.remote)
    site.start()
    wait_for(lambda: archived(site, "demo.fix-add"))
    task = site.record("demo.fix-add")
    (effect,) = task.effects if task is not None else ()
    assert effect.status == ("done" if arrived else "pending")
    assert bool(site.events("branch.pushed")) is arrived and bool(site.events("push.given_up")) is not arrived


def test_a_push_of_a_run_that_was_cancelled_is_told_though_the_next_run_has_begun(site: Site) -> None:
    cancel_while_pushing(site)
    site.cli("task", "retry", "fix-add")
    (site.folder / "go").touch()
    task = site.wait_state("demo.fix-add", "review")
    assert task.rerun == 2
    wait_for(lambda: (r := site.record("demo.fix-add")) and all(effect.status == "done" for effect in r.effects))
    wait_for(lambda: len(site.events("branch.pushed")) >= 2, what="the first push is told, too")
    first, second = sorted(site.events("branch.pushed"), key=lambda event: "run" not in event["details"])
    assert "earlier" in first["details"]["run"] and second["details"]["branch"] == task.branch


def push_as_person(site: Site, branch: str, files: dict[str, str]) -> str:
    """A colleague's commit on top of a branch of the remote."""
    colleague = site.folder / "colleague"
    if not colleague.exists():
        git("clone", "-q", str(site.remote), str(colleague), cwd=site.folder)
    git("fetch", "-q", "origin", cwd=colleague)
    git("checkout", "-q", "--detach", f"origin/{branch}", cwd=colleague)
    for name, text in files.items():
        (colleague / name).write_text(text)
    git("add", "--all", cwd=colleague)
    git("commit", "-qm", "By a colleague", cwd=colleague)
    git("push", "-q", "origin", f"HEAD:refs/heads/{branch}", cwd=colleague)
    return git("rev-parse", "HEAD", cwd=colleague)


def test_a_push_whose_answer_was_lost_is_no_strangers_branch_because_a_colleague_went_on(site: Site) -> None:
    site.use_script("cat > /dev/null", FIX)
    site.write_config()
    killed = site.start(CLOUD_CODE_FAILPOINT="push.done_before_record")
    site.write_task("fix-add")
    killed.wait(PATIENCE_SECONDS)
    task = site.record("demo.fix-add")
    assert task is not None and [effect.status for effect in task.effects] == ["sending"]
    theirs = push_as_person(site, task.branch, {"theirs.txt": "theirs"})
    site.start()
    task = site.wait_state("demo.fix-add", "review", "blocked")
    assert task.state == "review" and len(site.events("branch.pushed")) == 1
    assert git("rev-parse", task.branch, cwd=site.remote) == theirs


def bring_to_conflict(site: Site, files: dict[str, str], *third: str) -> str:
    """A delivered task, asked for changes; a colleague pushes to its branch while attempt 2 works. The branch."""
    runs = site.folder / "runs"
    site.use_script(
        f"cat > {site.folder}/prompt; echo x >> {runs}; n=$(wc -l < {runs})",
        "if [ $n = 1 ]; then echo one > work.txt; fi",
        f"if [ $n = 2 ]; then echo two > work.txt; echo extra > extra.txt; touch {site.folder}/asked",
        f"while [ ! -e {site.folder}/go ]; do sleep 0.1; done; fi",
        f"if [ $n = 3 ]; then ls > {site.folder}/listing; {'; '.join(third) or 'true'}; fi",
    )
    site.write_config()
    site.start()
    site.write_task("fix-add")
    first = site.wait_state("demo.fix-add", "review")
    site.cli("task", "retry", "fix-add", "--note", "also the rest")
    wait_for((site.folder / "asked").exists)
    push_as_person(site, first.branch, files)
    (site.folder / "go").touch()
    blocked = site.wait_state("demo.fix-add", "blocked")
    assert "E_BRANCH_MOVED" in blocked.waits_for[0].message
    site.cli("task", "retry", "fix-add")
    return first.branch


def test_accepted_work_meets_what_a_colleague_pushed_to_the_branch(site: Site) -> None:
    branch = bring_to_conflict(site, {"theirs.txt": "theirs"})
    task = site.wait_state("demo.fix-add", "review")
    assert {"theirs.txt", "extra.txt"} <= set((site.folder / "listing").read_text().split())
    assert git("show", f"{branch}:theirs.txt", cwd=site.remote) == "theirs"
    assert git("show", f"{branch}:work.txt", cwd=site.remote) == "two"
    assert task.attempts[-1].number == 3 and not task.attempts[-1].left_out


def test_accepted_work_that_conflicts_with_what_a_colleague_pushed_is_laid_beside(site: Site) -> None:
    bundle = "$(dirname $(readlink .cloud-code/tasking.yaml))/earlier-2.bundle"
    head = f"$(git bundle list-heads {bundle} | cut -d' ' -f1)"
    take = f"git bundle unbundle {bundle}; git checkout {head} -- extra.txt; echo both > work.txt"
    branch = bring_to_conflict(site, {"work.txt": "theirs"}, take)
    task = site.wait_state("demo.fix-add", "review", "failed", "blocked")
    assert task.state == "review", site.story("demo.fix-add")
    assert "extra.txt" not in (site.folder / "listing").read_text()
    told = (site.folder / "prompt").read_text()
    assert "E_LEFT_OUT" in told and "work.txt" in told and str(task.attempts[1].bundle_head) in told
    assert git("show", f"{branch}:extra.txt", cwd=site.remote) == "extra"
    assert [left.attempt for left in task.attempts[2].left_out] == [2]
    (event,) = site.events("work.left_out")
    assert event["details"]["attempt"] == 2 and "conflicts" in event["details"]["reason"]


def test_an_attempt_that_is_asked_for_in_review_starts_from_what_was_delivered(site: Site) -> None:
    """Also where an attempt before had failed, and its work lies in state/salvage."""
    runs = site.folder / "runs"
    site.use_script(
        f"cat > /dev/null; echo x >> {runs}; n=$(wc -l < {runs})",
        "if [ $n = 1 ]; then echo half > half.txt; exit 1; fi",
        "if [ $n = 2 ]; then rm half.txt; echo whole > whole.txt; fi",
        f"if [ $n = 3 ]; then ls > {site.folder}/listing; echo more > more.txt; fi",
    )
    site.write_config()
    site.start()
    site.write_task("fix-add")
    site.wait_state("demo.fix-add", "review")
    site.cli("task", "retry", "fix-add", "--note", "more of it")
    listing = site.folder / "listing"
    wait_for(lambda: listing.exists() and listing.read_text())
    assert listing.read_text().split() == ["calc.py", "whole.txt"]
    task = site.wait_state("demo.fix-add", "review")
    assert git("show", f"{task.branch}:whole.txt", cwd=site.remote) == "whole"


def test_a_damaged_record_holds_its_attempt_and_mended_lets_it_go_on(site: Site) -> None:
    site.use_script("cat > /dev/null", f"while [ ! -e {site.folder}/go ]; do sleep 0.1; done", FIX)
    site.write_config()
    site.start()
    site.write_task("fix-add")
    site.wait_state("demo.fix-add", "in_progress")
    site.stop_supervisors()
    record = site.root.record("demo.fix-add")
    whole = record.read_text()
    record.write_text(whole[: len(whole) // 2])
    site.start()
    report = site.root.attempt_out("backend-1", "demo.fix-add", 1) / "reporting.yaml"
    wait_for(lambda: "status: paused" in report.read_text())
    tasking = site.root.attempt_in("backend-1", "demo.fix-add", 1) / "tasking.yaml"
    assert "is damaged" in tasking.read_text().splitlines()[0]
    site.stop_supervisors()
    record.write_text(whole)
    (site.root.quarantine / "record-demo.fix-add.yaml").unlink()
    (site.folder / "go").touch()
    site.start()
    task = site.wait_state("demo.fix-add", "review", "paused")
    assert task.state == "review" and task.attempt == 1
    assert not site.events("task.paused", "edit.refused")
    assert not tasking.with_name("tasking.yaml.rejected").exists()


def leave_unbundled(site: Site) -> tuple[TaskRecord, Path]:
    """A cancelled task whose agent broke the clone's objects, and its worktree."""
    site.config["projects"]["demo"]["limits"] = {"max_failures": 1}
    site.use_script(
        "cat > /dev/null",
        "echo precious > precious.txt",
        "mv $(git rev-parse --git-common-dir)/objects $(git rev-parse --git-common-dir)/objects.away; exit 1",
    )
    site.write_config()
    site.start()
    site.write_task("odd")
    site.wait_state("demo.odd", "blocked")
    site.cli("task", "cancel", "odd")
    wait_for(lambda: archived(site, "demo.odd"))
    task = site.record("demo.odd")
    assert task is not None
    return task, site.root.worktree("backend-1", "demo", "demo.odd")


def test_a_task_whose_work_cannot_be_saved_ends_and_says_where_it_lies(site: Site) -> None:
    task, worktree = leave_unbundled(site)
    assert task.state == "cancelled" and task.attempts[0].left_behind
    (event,) = wait_for(lambda: site.events("work.left_behind"))
    assert event["details"]["worktree"] == str(worktree) and "could not bundle" in event["details"]["message"]
    said = site.cli("task", "explain", "odd").stdout.replace("\n", " ")
    assert "cleaned up" not in said and "task salvage drop demo.odd --attempt 1" in said
    assert (worktree / "precious.txt").read_text() == "precious\n"
    site.cli("task", "salvage", "drop", "odd", "--attempt", "1", "--yes")
    wait_for(lambda: released(site, "demo.odd"))
    assert not worktree.exists()


def test_work_that_could_not_be_saved_is_saved_when_a_person_has_mended_what_was_in_the_way(site: Site) -> None:
    _, worktree = leave_unbundled(site)
    clone = site.root.clone("backend-1", "demo") / ".git"
    (clone / "objects.away").rename(clone / "objects")
    site.cli("workstation", "stop", "backend-1")
    wait_for(lambda: not site.daemons())
    site.cli("task", "salvage", "again", "odd")
    wait_for(site.root.salvaged("demo.odd", 1).exists)
    site.cli("workstation", "start", "backend-1")
    wait_for(lambda: released(site, "demo.odd"))
    assert not worktree.exists()
    restored = site.folder / "restored"
    site.cli("task", "salvage", "restore", "odd", "--folder", str(restored))
    assert (restored / "precious.txt").read_text() == "precious\n"
