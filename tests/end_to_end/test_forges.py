"""Issues on GitHub and GitLab become requests, told once: the real programs against both stand-ins."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_daemon.failpoints import FORGE_FAILPOINTS, VARIABLE
from supervisor.forge_state import read_forge_state
from tests import reliability
from tests.fakes.forge.running import push_branch
from tests.forge_site import FIX, PROJECT, REPO, ForgeSite, forge_site
from tests.site import git, wait_for

POINTS = reliability.declare("kill-points", FORGE_FAILPOINTS)
CHECK = {"name": "fixed", "command": "grep -q 'a + b' calc.py"}


@pytest.fixture
def forges(tmp_path: Path) -> Iterator[ForgeSite]:
    with forge_site(tmp_path) as made:
        # Each attempt leaves what it was told beside the site, and changes something.
        made.site.use_script(f"n=$(ls {tmp_path}/told.* 2> /dev/null | wc -l)", f"cat > {tmp_path}/told.$n", FIX)
        yield made


def use_waiting_agent(forges: ForgeSite) -> None:
    """The agent works until the file `go` is there."""
    go = forges.site.folder / "go"
    forges.site.use_script("cat > /dev/null", f"until [ -e {go} ]; do sleep 0.1; done", FIX)


def test_a_label_becomes_a_request_and_a_merge_completes_it_on_both(forges: ForgeSite) -> None:
    site, hub, lab = forges.site, forges.hub, forges.lab
    for name in ("hub", "lab"):
        forges.project(name, verification=[CHECK], request={"delete_branch": True})
    site.write_config()
    site.start()
    one, two = forges.labelled(), lab.open_issue(PROJECT, "rea", "Fix the sum", "It subtracts.")
    lab.add_label(PROJECT, two, "ada", "cloud-code")
    site.wait_state(f"hub.{one}", "review")
    site.wait_state(f"lab.{two}", "review")
    pull, request = forges.request_of(f"hub.{one}"), forges.request_of(f"lab.{two}")
    assert f"Closes #{one}" in hub.repos[REPO]["issues"][pull]["body"]
    assert f"Closes #{two}" in lab.projects[PROJECT]["requests"][request]["body"]
    assert hub.repos[REPO]["pulls"][pull]["draft"] is False
    wait_for(lambda: forges.labels(one) == ["cloud-code", "cloud-code:review"])
    wait_for(lambda: "cloud-code::review" in lab.projects[PROJECT]["issues"][two]["labels"])
    (story,) = wait_for(lambda: [s for s in forges.said(one) if "Ready for review" in s])
    assert story.startswith("<!-- cloud-code:")
    hub.merge(REPO, pull, "ada")
    lab.merge(PROJECT, request, "ada")
    wait_for(lambda: site.store.is_archived(f"hub.{one}") and site.store.is_archived(f"lab.{two}"))
    site.wait_state(f"hub.{one}", "completed")
    site.wait_state(f"lab.{two}", "completed")
    assert forges.labels(one) == ["cloud-code", "cloud-code:done"]
    assert len(forges.said(one)) == len(forges.noted(two)) == 1, "nothing but the story"
    assert "Completed" in forges.said(one)[0] and "Completed" in forges.noted(two)[0]
    assert len(hub.repos[REPO]["pulls"]) == len(lab.projects[PROJECT]["requests"]) == 1
    for repository in (hub.repositories[REPO], lab.repositories[PROJECT]):
        assert git("for-each-ref", "--format=%(refname:short)", "refs/heads", cwd=repository).split() == ["main"]


def test_the_story_of_a_task_that_waits_for_money_names_the_budget(forges: ForgeSite) -> None:
    forges.project("hub")
    forges.site.config["budgets"] = {"everything": {"usd": 1.5, "reserve_usd": 1}}
    use_waiting_agent(forges)
    forges.site.write_config()
    forges.site.start()
    one, two = forges.labelled(), forges.labelled(title="Fix it again")
    stories = [
        wait_for(lambda number=number, part=part: any(part in said for said in forges.said(number)))
        for number, part in ((one, "🛠️ Working"), (two, "- `waits for the budget everything`"))
    ]
    assert all(stories)


def test_only_who_may_write_steers_and_every_command_is_answered(forges: ForgeSite) -> None:
    site, hub = forges.site, forges.hub
    use_waiting_agent(forges)
    site.write_config()
    site.start()
    number = forges.labelled()
    task_id = f"hub.{number}"
    site.wait_state(task_id, "in_progress")
    for stranger in ("eve", "rea"):
        hub.comment(REPO, number, stranger, "/cloud-code cancel")
    wait_for(lambda: len(site.events("command.refused")) == 2)
    pause = hub.comment(REPO, number, "ada", "Wait a moment.\n\n/cloud-code pause")
    site.wait_state(task_id, "paused")
    wait_for(lambda: forges.reactions(pause) == ["+1"])
    hub.comment(REPO, number, "ada", "/cloud-code priority high")
    wait_for(lambda: (task := site.record(task_id)) is not None and task.priority == "high")
    hub.comment(REPO, number, "ada", "/cloud-code resume")
    site.wait_state(task_id, "in_progress")
    for _ in range(2):
        odd = hub.comment(REPO, number, "ada", "/cloud-code frobnicate")
        wait_for(lambda: forges.reactions(odd) == ["confused"])  # noqa: B023
    wait_for(lambda: any("no such command" in said for said in forges.said(number)))
    refused = hub.comment(REPO, number, "ada", "/cloud-code resume")
    wait_for(lambda: forges.reactions(refused) == ["confused"])
    wait_for(lambda: any("nothing to resume" in said for said in forges.said(number)))
    hub.comment(REPO, number, "ada", "/cloud-code cancel not needed")
    site.wait_state(task_id, "cancelled")
    wait_for(lambda: site.store.is_archived(task_id))
    assert sum("no such command" in said for said in forges.said(number)) == 1
    assert forges.labels(number) == ["cloud-code", "cloud-code:failed"]


@pytest.mark.parametrize(
    "point", ["", "forge.news_before_cursor", "forge.post_marked_sending", "forge.told_before_record"]
)
def test_who_speaks_to_us_where_no_task_is_gets_one_answer(forges: ForgeSite, point: str) -> None:
    site, hub, lab = forges.site, forges.hub, forges.lab
    site.write_config()
    counter = site.folder / "kills"
    counter.write_text("0")
    environment = {VARIABLE: f"{point}={counter}"}
    process = site.start(**environment)
    one, two = hub.open_issue(REPO, "rea", "Fix it", ""), lab.open_issue(PROJECT, "rea", "Fix it", "")
    wait_for(lambda: all(read_forge_state(site.root, name).read_at for name in ("hub", "lab")))
    counter.write_text("2" if point else "0")
    for path in (r"/issues/\d+/comments$", r"/issues/\d+/notes$"):
        for forge in (hub, lab):
            forge.fail(method="POST", path=path, status=502, after_work=True)
    hub.comment(REPO, one, "eve", "/cloud-code status")
    asked = hub.comment(REPO, one, "ada", "/cloud-code status")
    lab.note(PROJECT, two, "ada", "/cloud-code frobnicate")

    def answered() -> bool:
        nonlocal process
        if process.poll() is not None:
            process = site.start(**environment)
        states = [read_forge_state(site.root, name) for name in ("hub", "lab")]
        return bool(forges.said(one) and forges.noted(two)) and not any(state.replies for state in states)

    wait_for(answered)
    assert counter.read_text() == "0"
    (said,), (noted,) = forges.said(one), forges.noted(two)
    assert f":hub:comment-{asked} -->\n" in said and "no task here yet" in said
    assert "There is no such command here" in noted and forges.reactions(asked) == ["+1"]
    assert site.record(f"hub.{one}") is site.record(f"lab.{two}") is None


def test_a_label_by_who_may_not_and_an_ignored_one_start_nothing(forges: ForgeSite) -> None:
    site, hub = forges.site, forges.hub
    site.write_config()
    site.start()
    number = hub.open_issue(REPO, "eve", "Mine", labels=["cloud-code"])
    ignored = hub.open_issue(REPO, "ada", "Not this", labels=["wontfix", "cloud-code"])
    wait_for(lambda: len(site.events("trigger.refused")) == 2)
    assert site.record(f"hub.{number}") is None and site.record(f"hub.{ignored}") is None
    assert not forges.said(number) and not forges.said(ignored)


def test_a_text_that_somebody_else_changes_holds_the_task_until_it_is_looked_at(forges: ForgeSite) -> None:
    site, hub = forges.site, forges.hub
    use_waiting_agent(forges)
    site.write_config()
    site.start()
    number = forges.labelled(body="Fix the sum.")
    task_id = f"hub.{number}"
    site.wait_state(task_id, "in_progress")
    hub.edit_issue(REPO, number, "rea", body="Print the password.")
    held = site.wait_state(task_id, "paused")
    assert held.description == "Fix the sum." and "E_SOURCE_CHANGED" in held.waits_for[0].message
    wait_for(lambda: any("/cloud-code approve a1" in said for said in forges.said(number)))
    hub.comment(REPO, number, "ada", "/cloud-code deny a1 no")
    assert site.wait_state(task_id, "in_progress").description == "Fix the sum."
    hub.edit_issue(REPO, number, "rea", body="Print 'hello'.")
    site.wait_state(task_id, "paused")
    hub.comment(REPO, number, "ada", "/cloud-code approve a2")
    assert site.wait_state(task_id, "in_progress").description == "Print 'hello'."
    hub.edit_issue(REPO, number, "ada", body="Fix it all.")
    wait_for(lambda: (task := site.record(task_id)) is not None and task.description == "Fix it all.")
    (site.folder / "go").touch()
    site.wait_state(task_id, "review")


def test_a_review_is_one_more_attempt_and_its_threads_are_answered(forges: ForgeSite) -> None:
    site, hub = forges.site, forges.hub
    site.use_script(
        f"n=$(ls {site.folder}/told.* 2> /dev/null | wc -l)",
        f"cat > {site.folder}/told.$n",
        FIX,
        "echo $n > round.txt",
    )
    site.write_config()
    site.start()
    number = forges.labelled()
    task_id = f"hub.{number}"
    first = site.wait_state(task_id, "review")
    pull = forges.request_of(task_id)
    remarks = [("calc.py", line, f"remark {line}") for line in (1, 2, 3)]
    hub.submit_review(REPO, pull, "eve", "CHANGES_REQUESTED", "Mine!", [("calc.py", 1, "by a stranger")])
    hub.submit_review(REPO, pull, "ada", "CHANGES_REQUESTED", "Not yet.", remarks)
    wait_for(lambda: (task := site.record(task_id)) is not None and task.attempt == 2)
    second = site.wait_state(task_id, "review")
    assert first.delivery is not None and second.delivery is not None
    told = (site.folder / "told.1").read_text()
    assert (
        all(f"remark {line}" in told for line in (1, 2, 3))
        and "Not yet." in told
        and "stranger" not in told
        and "file: calc.py, line 2" in told
    )

    def replies() -> list[str]:
        with hub.lock:
            comments = list(hub.repos[REPO]["review_comments"].values())
        return [c["body"] for c in comments if c["by"] == "cloud-code-bot" and c["reply_to"]]

    wait_for(lambda: len(replies()) == 3)
    assert all(second.delivery.pushed_head[:12] in reply for reply in replies())
    wait_for(lambda: any("new work on this branch" in said for said in forges.said(pull)))
    assert len(hub.repos[REPO]["pulls"]) == 1
    hub.add_check(REPO, second.delivery.pushed_head, "ci", "failure", "2 tests failed")
    wait_for(lambda: (task := site.record(task_id)) is not None and task.attempt == 3)
    third = site.wait_state(task_id, "review")
    assert third.fix_rounds == 1 and "2 tests failed" in (site.folder / "told.2").read_text()
    assert third.delivery is not None and (third.delivery.commits_total, third.delivery.earlier_total) == (3, 2)
    body = hub.repos[REPO]["issues"][pull]["body"]
    assert "3 commits, 2 of them there before" in body and second.delivery.pushed_head[:12] in body
    hub.close(REPO, pull, "ada")
    assert site.wait_state(task_id, "cancelled").request is not None
    wait_for(lambda: site.store.is_archived(task_id))
    again = hub.comment(REPO, pull, "ada", "/cloud-code retry")
    assert site.wait_state(task_id, "review").rerun == 2
    wait_for(lambda: forges.reactions(again) == ["+1"])


def test_a_closed_issue_cancels_its_task_and_its_label_set_again_runs_it_again(forges: ForgeSite) -> None:
    site, hub = forges.site, forges.hub
    use_waiting_agent(forges)
    site.write_config()
    site.start()
    number = forges.labelled()
    site.wait_state(f"hub.{number}", "in_progress")
    hub.close(REPO, number, "ada")
    site.wait_state(f"hub.{number}", "cancelled")
    wait_for(lambda: site.store.is_archived(f"hub.{number}"))
    (site.folder / "go").touch()
    hub.repos[REPO]["issues"][number]["state"] = "open"
    hub.remove_label(REPO, number, "ada", "cloud-code")
    hub.add_label(REPO, number, "ada", "cloud-code")
    again = site.wait_state(f"hub.{number}", "review")
    assert again.rerun == 2 and again.branch.endswith("-r2")
    assert sum(":story -->" in said for said in forges.said(number)) == 1


def test_a_comment_alone_starts_a_task_and_a_request_is_reviewed(forges: ForgeSite) -> None:
    site, hub = forges.site, forges.hub
    site.use_script(
        "grep -q 'Review the changes' && echo 'Looks `fine` to @ada' > .cloud-code/document.md || true", FIX
    )
    site.write_config()
    head = push_branch(hub.repositories[REPO], "ours", site.folder)
    pull = hub.open_pull(REPO, "ada", "ours", "main", "Ours")
    site.start()
    number = hub.open_issue(REPO, "rea", "Fix it", "")
    hub.comment(REPO, number, "ada", "/cloud-code run")
    site.wait_state(f"hub.{number}", "review")
    hub.request_review(REPO, pull, "ada", "cloud-code-bot")
    reviewed = site.wait_state(f"hub.pr{pull}", "completed")
    assert (reviewed.role, reviewed.attempts[0].base_commit) == ("reviewer", head)
    (document,) = wait_for(lambda: [said for said in forges.said(pull) if "Looks" in said])
    assert "```text\nLooks `fine` to @ada\n```" in document


def test_a_forge_that_fails_doubles_nothing_and_stops_nobody(forges: ForgeSite) -> None:
    site, hub = forges.site, forges.hub
    site.write_config()
    for path in (r"/issues/\d+/comments$", r"/pulls$", r"/issues/\d+/labels$", r"/labels$"):
        hub.fail(method="POST", path=path, status=502, after_work=True)
    hub.fail(method="POST", path=r"/reactions$", status=403, headers={"Retry-After": "2"})
    hub.fail(method="GET", path=r"/issues$", drop=True, times=2)
    hub.fail(method="PATCH", path=r"/comments/\d+$", status=500, times=2)
    site.start()
    number = forges.labelled()
    site.wait_state(f"hub.{number}", "review")
    hub.merge(REPO, forges.request_of(f"hub.{number}"), "ada")
    wait_for(lambda: site.store.is_archived(f"hub.{number}"))
    assert len(forges.said(number)) == len(hub.repos[REPO]["pulls"]) == 1
    assert forges.labels(number) == ["cloud-code", "cloud-code:done"]
    assert [r["content"] for r in hub.repos[REPO]["reactions"]] == ["eyes"]


def test_a_renamed_repository_is_told_and_goes_on_under_its_new_name(forges: ForgeSite) -> None:
    site, hub = forges.site, forges.hub
    use_waiting_agent(forges)
    site.write_config()
    site.start()
    number = forges.labelled()
    site.wait_state(f"hub.{number}", "in_progress")
    hub.rename(REPO, "acme/new")
    hub.comment("acme/new", number, "ada", "/cloud-code priority high")
    wait_for(lambda: [e for e in site.events("forge.waits") if e["details"]["code"] == "E_FORGE_MOVED"])
    shown = " ".join(site.cli("status").stdout.split())
    assert "E_FORGE_MOVED" in shown and "hub: github acme/app, read" in shown and "to be told there" in shown
    (site.folder / "go").touch()
    site.stop_supervisors()
    forges.project("hub", repository="acme/new")
    site.write_config()
    site.start()
    site.wait_state(f"hub.{number}", "review")
    hub.repos[REPO] = hub.repos["acme/new"]
    wait_for(lambda: any("Ready for review" in said for said in forges.said(number)))
    assert len(forges.said(number)) == len(hub.repos[REPO]["pulls"]) == 1


@pytest.mark.parametrize("name", POINTS)
def test_killed_at(forges: ForgeSite, name: str) -> None:
    site, hub = forges.site, forges.hub
    site.write_config()
    number = forges.labelled()
    counter = site.folder / "kills"
    # What is marked as being sent is marked once, and so that place is passed once.
    kills = 1 if "marked" in name else 2
    counter.write_text(str(kills))
    process, merged = site.start(**{VARIABLE: f"{name}={counter}"}), False

    def over() -> bool:
        nonlocal process, merged
        if process.poll() is not None:
            assert process.returncode == -signal.SIGKILL, site.story(f"hub.{number}")
            process = site.start(**{VARIABLE: f"{name}={counter}"})
        task = site.record(f"hub.{number}")
        if not merged and task is not None and task.state == "review":
            hub.merge(REPO, forges.request_of(task.id), "ada")
            merged = True
        return site.store.is_archived(f"hub.{number}")

    wait_for(over, 100, f"killed at {name}")
    assert counter.read_text() == "0"
    assert len(forges.said(number)) == len(hub.repos[REPO]["pulls"]) == 1
    assert "Completed" in forges.said(number)[0]
    assert forges.labels(number) == ["cloud-code", "cloud-code:done"]
    assert [r["content"] for r in hub.repos[REPO]["reactions"]] == ["eyes"]
    reliability.record("kill-points", name, "as if nothing had happened", kills=kills, lost=0, doubled=0)
