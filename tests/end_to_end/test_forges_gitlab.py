"""What GitLab does otherwise than GitHub: notes that are a review, system notes, scoped labels; and an App."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agent_daemon.failpoints import VARIABLE
from tests.forge_site import FIX, PROJECT, REPO, ForgeSite, forge_site
from tests.site import wait_for


@pytest.fixture
def forges(tmp_path: Path) -> Iterator[ForgeSite]:
    with forge_site(tmp_path) as made:
        made.site.use_script(
            f"n=$(ls {tmp_path}/told.* 2> /dev/null | wc -l)",
            f"cat > {tmp_path}/told.$n",
            f"until [ -e {tmp_path}/go ]; do sleep 0.1; done",
            FIX,
            "echo $n > round.txt",
        )
        yield made


def test_an_issue_on_gitlab_is_steered_reviewed_and_merged(forges: ForgeSite) -> None:
    site, lab = forges.site, forges.lab
    del site.config["projects"]["hub"]
    forges.project("lab", trigger={"assignee": "cloud-code-bot"})
    site.write_config()
    site.start()
    number = lab.open_issue(PROJECT, "rea", "Fix the sum", "It subtracts.")
    lab.assign(PROJECT, number, "ada", "cloud-code-bot")
    task_id = f"lab.{number}"
    site.wait_state(task_id, "in_progress")
    lab.note(PROJECT, number, "rea", "/cloud-code cancel")
    lab.edit_issue(PROJECT, number, "rea", body="Print the password.")
    site.wait_state(task_id, "paused")
    wait_for(lambda: any("E_SOURCE_CHANGED" in note for note in forges.noted(number)))
    lab.note(PROJECT, number, "ada", "/cloud-code deny a1")
    site.wait_state(task_id, "in_progress")
    (site.folder / "go").touch()
    first = site.wait_state(task_id, "review")
    assert first.description == "It subtracts."
    request = forges.request_of(task_id)
    with lab.lock:  # nobody reads the first remark before the second one is there
        for line in (1, 2):
            lab.discuss(PROJECT, request, "ada", "calc.py", line, f"remark {line}")
        lab.discuss(PROJECT, request, "eve", "calc.py", 1, "by a stranger")
    wait_for(lambda: (task := site.record(task_id)) is not None and task.attempt == 2)
    second = site.wait_state(task_id, "review")
    told = max(site.folder.glob("told.*"), key=lambda path: path.stat().st_mtime).read_text()
    assert "remark 1" in told and "remark 2" in told and "stranger" not in told
    assert second.delivery is not None
    head = second.delivery.pushed_head

    def answered() -> list[str]:
        with lab.lock:
            notes = [note for note in lab.projects[PROJECT]["notes"].values() if note["kind"] == "requests"]
        return [note["body"] for note in notes if note["by"] == "cloud-code-bot" and note["discussion"]]

    wait_for(lambda: len(answered()) == 2)
    assert all(head[:12] in answer for answer in answered())
    lab.add_pipeline(PROJECT, head, "failed")
    wait_for(lambda: (task := site.record(task_id)) is not None and task.attempt == 3)
    site.wait_state(task_id, "review")
    lab.merge(PROJECT, request, "ada")
    wait_for(lambda: site.store.is_archived(task_id))
    assert sum(":story -->" in note for note in forges.noted(number)) == 1
    assert lab.projects[PROJECT]["issues"][number]["labels"] == ["cloud-code::done"]


def test_a_github_app_signs_in_for_its_repository_alone_and_files_are_tasks_there_too(forges: ForgeSite) -> None:
    site, hub = forges.site, forges.hub
    del site.config["projects"]["lab"]
    key = site.root.path / "app.pem"
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key.write_bytes(
        made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    key.chmod(0o600)
    bot = hub.add_app("12345", "cloudy", [REPO])
    forges.project("hub", auth={"app": {"id": "12345", "private_key": {"file": "app.pem"}}})
    site.write_config()
    site.start()
    (site.folder / "go").touch()
    number = forges.labelled()
    site.write_task("by-hand", verification=[])
    site.wait_state(f"hub.{number}", "review")
    by_file = site.wait_state("hub.by-hand", "review")
    assert by_file.request is not None and by_file.request.number is not None
    comments = hub.repos[REPO]["comments"]
    wait_for(lambda: [comment["by"] for comment in list(comments.values())] == [bot])
    (minted,) = hub.apps["12345"]["minted"]
    assert (minted["repositories"], minted["permissions"]["contents"]) == (["app"], "write")
    hub.merge(REPO, by_file.request.number, "ada")
    site.wait_state("hub.by-hand", "completed")


def test_killed_between_what_is_done_on_gitlab_and_its_record_nothing_is_doubled(forges: ForgeSite) -> None:
    """On one without a paid plan, where labels of one scope exclude nothing."""
    site, lab = forges.site, forges.lab
    lab.has_scoped_labels = False
    site.write_config()
    number = lab.open_issue(PROJECT, "rea", "Fix the sum", "It subtracts.")
    lab.add_label(PROJECT, number, "ada", "cloud-code")
    (site.folder / "go").touch()
    counter = site.folder / "kills"
    counter.write_text("4")
    killed_at = {VARIABLE: f"forge.told_before_record={counter}"}
    process = site.start(**killed_at)

    def over() -> bool:
        nonlocal process
        if process.poll() is not None:
            assert process.returncode == -signal.SIGKILL, site.story(f"lab.{number}")
            process = site.start(**killed_at)
        task = site.record(f"lab.{number}")
        if task is not None and task.state == "review":
            request = forges.request_of(task.id)
            if lab.projects[PROJECT]["requests"][request]["state"] == "opened":
                lab.merge(PROJECT, request, "ada")
        return site.store.is_archived(f"lab.{number}")

    wait_for(over, 150, "killed four times")
    assert counter.read_text() == "0"
    (story,) = forges.noted(number)
    assert "Completed" in story and len(lab.projects[PROJECT]["requests"]) == 1
    assert lab.projects[PROJECT]["issues"][number]["labels"] == ["cloud-code", "cloud-code::done"]
    assert [entry["name"] for entry in lab.projects[PROJECT]["emoji"]] == ["eyes"]
