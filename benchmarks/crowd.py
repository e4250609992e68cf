"""A root with many tasks in believable states, made by the supervisor's own code, and the daemons' side of it."""

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from loguru import logger

from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.files import make_folder, ring, write_file
from agent_daemon.protocol.model import (
    CommitMade,
    FileModified,
    ProgressEntry,
    Reporting,
    ReportStatus,
    Result,
    TaskReport,
    Usage,
    VerificationResult,
    utc,
)
from agent_daemon.protocol.paths import Root
from benchmarks.figure import Size
from supervisor.app import Supervisor, locked
from supervisor.core.assign import Prepared, assign
from supervisor.core.decision import Decision
from supervisor.core.delivery import (
    Inspected,
    push_key,
    request_key,
    settle_inspection,
    settle_push,
    settle_request,
)
from supervisor.core.intake import ingest
from supervisor.core.plan import Seen, plan_task
from supervisor.core.record import Delivery, Request, TaskRecord
from supervisor.forges.task_folder import read_draft
from tests.site import git, make_remote

FAR_AWAY_SECONDS = 86_400
DESCRIPTION = """
Reproduce the problem with a test first: open the page without a session, follow the redirect,
and see that it ends at the start page instead of the page that asked. Then look at how the
middleware keeps the target, and why it is lost when the token is renewed in between. Keep the
change small, leave the public interface as it is, and say in the changelog what is different.
"""


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """A root, the remote of its one project, and who works on what: workstation → task id."""

    root: Root
    remote: Path
    at_work: dict[str, str]


def station_names(size: Size) -> list[str]:
    return [f"backend-{number}" for number in range(1, size.workstations + 1)]


def make_crowd(folder: Path, size: Size) -> Crowd:
    """Live tasks: one in progress on each workstation, 20 % waiting their turn, 25 % blocked, the rest in review.

    Those that have an attempt keep its mail folders, for none of them is released.
    """
    root = Root(folder / "root")
    remote = make_remote(folder / "remote.git", {"app.py": "print('hello')\n" * 40})
    root.tasks.mkdir(parents=True)
    root.config.write_text(yaml.safe_dump(_config(remote, size)))
    logger.disable("supervisor")  # thousands of lines about what never happened
    try:
        with locked(root):
            at_work = _fill(Supervisor(root), remote, size)
    finally:
        logger.enable("supervisor")
    return Crowd(root=root, remote=remote, at_work=at_work)


def _fill(supervisor: Supervisor, remote: Path, size: Size) -> dict[str, str]:
    """Make the tasks; which workstation works on which."""
    base = git("rev-parse", "main", cwd=remote)
    head = git("commit-tree", "main^{tree}", "-p", "main", "-m", "Keep the target", cwd=remote)
    stations = station_names(size)
    waiting = size.live * 20 // 100
    blocked = size.live * 25 // 100
    at_work = {}
    for number in range(size.live):
        task = _pending(supervisor, number)
        station = stations[number % len(stations)]
        if number >= waiting:
            task = _assigned(supervisor, task, station, base)
            if number < waiting + blocked:
                task = _reported(supervisor, task, ReportStatus.BLOCKED)
            elif number < size.live - len(stations):
                task = _in_review(supervisor, task, base, head)
            else:
                task = _reported(supervisor, task, ReportStatus.IN_PROGRESS)
                at_work[station] = task.id
        supervisor.ledger.apply(Decision(task=task))
    _publish(supervisor, remote, head)
    _fill_archive(supervisor.root, size)
    for name in stations:
        supervisor.mail.prepare_folders(name)
    supervisor.close()
    return at_work


def _config(remote: Path, size: Size) -> dict[str, object]:
    verification = [{"name": "tests", "command": "python3 -m pytest -q"}]
    return {
        "version": 1,
        "projects": {"demo": {"repository": str(remote), "base_branch": "main", "verification": verification}},
        "workstations": {"backend": {"driver": "local", "count": size.workstations, "clis": ["scripted"]}},
        "clis": {"scripted": {"adapter": "command", "argv": ["true"]}},
        # The stand-ins start nothing and never take a task up by themselves.
        "timing": {"assign_timeout_seconds": FAR_AWAY_SECONDS},
    }


def _pending(supervisor: Supervisor, number: int) -> TaskRecord:
    name = f"task-{number}.yaml"
    text = {
        "title": f"Fix redirect number {number} after the login",
        "description": DESCRIPTION,
        "priority": ("high", "medium", "low")[number % 3],
        "labels": ["backend", "login"],
        "acceptance_criteria": [
            "The redirect goes to the page that asked",
            "A test shows it",
            "Nothing else moves",
        ],
    }
    (supervisor.root.tasks / name).write_text(yaml.safe_dump(text))
    decision = ingest(read_draft(supervisor.root.tasks, name, supervisor.config), None, supervisor.config, _now())
    assert decision is not None
    return decision.task


def _assigned(supervisor: Supervisor, task: TaskRecord, station: str, base: str) -> TaskRecord:
    prepared = Prepared(base_branch="main", base_commit=base)
    return assign(task, prepared, workstation=station, cli="scripted", model="a-model", now=_now()).task


def _reported(supervisor: Supervisor, task: TaskRecord, status: ReportStatus) -> TaskRecord:
    """The task after its daemon has reported this; the report lies in its mail."""
    report = make_report(task.attempt, status)
    write_report(supervisor.root, str(task.workstation), task.id, report, revision=1)
    return plan_task(task, Seen(reports={task.attempt: report}), supervisor.config, _now()).task


def _in_review(supervisor: Supervisor, task: TaskRecord, base: str, head: str) -> TaskRecord:
    """Delivered, pushed (`_publish`), its request open."""
    working = _reported(supervisor, task, ReportStatus.IN_PROGRESS)
    verification = (VerificationResult(name="tests", exit_code=0, duration_seconds=12.1, commit=head),)
    result = Result(kind="commits", bundle="result.bundle", sha256="5" * 64, head=head, base=base)
    report = make_report(task.attempt, ReportStatus.COMPLETED)
    report = report.model_copy(update={"verification": verification, "result": result})
    write_report(supervisor.root, str(task.workstation), task.id, report, revision=9)
    delivery = Delivery(
        attempt=task.attempt,
        claimed_head=head,
        pushed_head=head,
        base=base,
        bundle_sha256="5" * 64,
        commits=report.commits,
        commits_total=1,
        files=report.files_modified,
        files_total=3,
        diff_stat=" 3 files changed, 12 insertions(+), 6 deletions(-)",
        verification=verification,
        summary=report.summary,
    )
    found = Inspected(attempt=task.attempt, delivery=delivery, bundle_sha256=delivery.bundle_sha256)
    accepted = settle_inspection(working, found, report, supervisor.config.retry, _now()).task
    pushed = settle_push(accepted, push_key(accepted), None, _now()).task
    request = Request(url=str(supervisor.root.requests / f"{task.id}.md"), head=head, draft=False)
    return settle_request(pushed, request_key(pushed), request, _now()).task


def _publish(supervisor: Supervisor, remote: Path, head: str) -> None:
    """Put the branches of what is in review on the remote."""
    branches = [task.attempts[-1].branch for task in supervisor.ledger.tasks.values() if task.delivery is not None]
    updates = "".join(f"create refs/heads/{branch} {head}\n" for branch in branches)
    subprocess.run(["git", "update-ref", "--stdin"], cwd=remote, input=updates, text=True, check=True)


def _fill_archive(root: Root, size: Size) -> None:
    """Ended tasks: copies of a live record under other names, for only their names are looked at."""
    sample = next(path for path in sorted(root.records.iterdir()) if "\nstate: review\n" in path.read_text())
    text = sample.read_text()
    for number in range(size.archived):
        name = f"old-{number}"
        ended = text.replace(sample.stem, f"demo.{name}").replace("state: review", "state: completed")
        (root.archive / f"demo.{name}.yaml").write_text(ended)


# --- the daemons' side -------------------------------------------------------------------------------


def make_report(attempt: int, status: ReportStatus, step: str = "Implementing the redirect") -> TaskReport:
    """About one kilobyte as a file."""
    now = _now()
    return TaskReport(
        attempt=attempt,
        status=status,
        observed_revision=1,
        started_at=now,
        current_step=step,
        summary="The target is kept in the session now.\nA test shows it.\n",
        progress=(
            ProgressEntry(timestamp=now, status="received", message="Task received"),
            ProgressEntry(timestamp=now, status="in_progress", message="Edited src/session.py"),
        ),
        files_modified=(FileModified(path="src/session.py", change_type="modified", lines_added=12),),
        files_modified_total=1,
        commits=(CommitMade(sha="a" * 40, message="Keep the target over a renewal"),),
        commits_total=1,
        usage=Usage(model="a-model", input_tokens=12_000, output_tokens=800, cost_usd=0.05, turns=7),
    )


def encode_report(station: str, task_id: str, report: TaskReport, revision: int) -> bytes:
    reporting = Reporting(
        revision=revision,
        agent_type="backend",
        agent_id=station,
        cli="scripted",
        updated_at=_now(),
        tasks={task_id: report},
    )
    return encode(reporting, end=True)


def write_report(root: Root, station: str, task_id: str, report: TaskReport, revision: int) -> None:
    """Renamed into place as a daemon does it; the bell is left to the caller."""
    folder = root.attempt_out(station, task_id, report.attempt)
    make_folder(folder)
    write_file(folder / "reporting.yaml", encode_report(station, task_id, report, revision))


def ring_for(root: Root, station: str) -> None:
    ring(root.bell_out(station))


def _now() -> datetime:
    return utc(datetime.now(UTC))
