"""A task that is planned first: nothing is changed before a person has approved the plan."""

import pytest
import yaml

from supervisor.core.record import TaskRecord
from tests.fakes.scripted_model import ScriptedModel
from tests.real_clis import PATCH, settings_of
from tests.site import Site, git, wait_for

# Plans while it is told to, and changes something all the same; then does the work.
AGENT = (
    "cat > prompt.new; n=$(ls {folder}/prompt.* 2>/dev/null | wc -l); mv prompt.new {folder}/prompt.$n",
    "if grep -q 'You plan, and change nothing' {folder}/prompt.$n; then",
    "  echo '# meddled' >> calc.py; git commit -qam meddled; echo new > new.txt",
    """  echo '{{"type": "result", "message": "1. Turn it into a plus.", "usage": {{"cost_usd": 0.25}}}}'""",
    "  exit 0",
    "fi",
    "sed -i 's/a - b/a + b/' calc.py",
)


def start(site: Site, **fields: object) -> TaskRecord:
    site.use_script(*(line.format(folder=site.folder) for line in AGENT))
    site.write_config()
    site.start()
    site.write_task("fix-add", plan_approval=True, **fields)
    return site.wait_state("demo.fix-add", "blocked")


def prompt(site: Site, number: int) -> str:
    return (site.folder / f"prompt.{number}").read_text()


def test_a_plan_is_approved_with_an_amendment_and_carried_out(site: Site) -> None:
    task = start(site)
    (wait,) = task.waits_for
    assert (wait.reason, wait.ref) == ("approval", "plan-001")
    outbox = site.root.attempt_out("backend-1", "demo.fix-add", 1)
    assert (outbox / "plan.md").read_text() == "1. Turn it into a plus."
    report = yaml.safe_load((outbox / "reporting.yaml").read_text())["tasks"]["demo.fix-add"]
    undone = "It was to plan only, and changed files: that is undone: they are kept in plan-edits.bundle"
    assert any(entry["message"] == undone for entry in report["progress"])
    assert "salvage" not in report and (outbox / "plan-edits.bundle").exists()
    worktree = site.root.task_workspace("backend-1", "demo.fix-add", task.workspace_mode).worktree
    assert (worktree / "calc.py").read_text() == "def add(a, b):\n    return a - b\n"
    assert not (worktree / "new.txt").exists()

    shown = site.cli("task", "show", "fix-add").stdout
    assert "Plan plan-001, of attempt 1: waits for approval\n1. Turn it" in shown
    told = site.cli("task", "explain", "fix-add").stdout
    assert "task approve demo.fix-add plan-001" in " ".join(told.split())
    site.cli("task", "answer", "fix-add", "and leave the blank")

    task = site.wait_state("demo.fix-add", "review")
    assert (task.attempt, task.failures) == (2, 0)
    assert task.attempts[0].verdict == "planned" and task.attempts[0].usage.cost_usd == 0.25
    asked = prompt(site, 1)
    assert "<plan>\n1. Turn it into a plus.\n</plan>" in asked
    assert "<note>\nand leave the blank\n</note>" in asked and "You plan, and" not in asked
    assert git("show", f"{task.branch}:calc.py", cwd=site.remote) == "def add(a, b):\n    return a + b"
    assert git("ls-tree", "-r", "--name-only", task.branch, cwd=site.remote) == "calc.py"
    assert "0.25 USD" in site.root.request("demo.fix-add").read_text()


def test_a_plan_that_is_denied_is_made_anew_with_the_reason(site: Site) -> None:
    start(site)
    site.cli("task", "deny", "fix-add", "plan-001", "--reason", "say which file")
    wait_for(lambda: [wait.ref for wait in site.wait_state("demo.fix-add", "blocked").waits_for] == ["plan-002"])
    asked = prompt(site, 1)
    assert "plan-001 was not approved: say which file" in asked and "You plan, and change nothing" in asked
    refused = site.cli("task", "approve", "fix-add", "plan-001", check=False)
    assert refused.returncode == 1 and "open: plan-002" in refused.stderr
    site.cli("task", "approve", "fix-add", "plan-002")
    task = site.wait_state("demo.fix-add", "review")
    assert (task.attempt, task.failures) == (3, 0) and "not approved" not in prompt(site, 2)


@pytest.mark.parametrize(("program", "adapter"), [("claude", "claude-code"), ("codex", "codex")])
def test_a_real_cli_plans_then_goes_on_in_its_session_and_tells_what_it_does(
    site: Site, program: str, adapter: str
) -> None:
    with ScriptedModel(steps=[{"shell": "cat calc.py"}], final="1. Turn it into a plus.") as model:
        settings = settings_of(program, site.folder, model)
        site.config["clis"] = {
            adapter: {
                "argv": list(settings.argv),
                "model": settings.model,
                "environment": dict(settings.environment),
                "options": dict(settings.options),
            }
        }
        site.config["workstations"]["backend"]["clis"] = [adapter]
        site.write_config()
        site.start()
        site.write_task("fix-add", plan_approval=True, acceptance_criteria=["It adds"])
        task = site.wait_state("demo.fix-add", "blocked")
        assert task.plan is not None and task.plan.text == "1. Turn it into a plus."
        tell = "agent-daemon decision 'a plus' && agent-daemon criterion 1 done 'seen'"
        model.steps, model.final = [*model.steps, {"shell": tell}, {"patch": PATCH}], "It adds now."
        site.cli("task", "approve", "fix-add")
        task = site.wait_state("demo.fix-add", "review")
    assert (task.attempt, task.failures) == (2, 0)
    assert task.delivery is not None and task.delivery.decisions == ("a plus",)
    assert git("show", f"{task.branch}:calc.py", cwd=site.remote) == "def add(a, b):\n    return a + b"
    assert "criterion 1 done: seen" in site.cli("task", "show", "fix-add").stdout
