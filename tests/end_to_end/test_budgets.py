"""Money, whole: a run ends at its limit, a person allows more, the work goes on; budgets hold tasks back."""

import json
from typing import Any

import pytest

from tests.fakes.scripted_model import ScriptedModel, scenario_named
from tests.real_clis import need, program
from tests.site import Site, wait_for

# A step a tenth of a second, each for a tenth of a dollar, that adds a line; done once there are eight. Where the
# first task has spent what it may, it waits: a daemon that is late to hear of that finds nothing more.
STEP = json.dumps({"type": "progress", "message": "a step", "usage": {"turns": 1, "cost_usd": 0.1}})
SCRIPT = (
    "cat > /dev/null",
    "touch work.txt",
    "while test $(wc -l < work.txt) -lt 8; do",
    f"  echo line >> work.txt; echo '{STEP}'; sleep 0.1",
    "  case $(wc -l < work.txt)$PWD in 3*eight) sleep 600;; esac",
    "done",
    'echo \'{"type": "result", "message": "all eight"}\'',
)


def budgets_of(site: Site) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(site.cli("budget", "--json").stdout)}


def test_a_task_goes_on_from_its_work_once_it_may_cost_more_and_another_waits_for_the_budget(site: Site) -> None:
    site.config["budgets"] = {"everything": {"usd": 1.2, "reserve_usd": 0.95}}
    site.use_script(*SCRIPT)
    site.write_config()
    site.start()
    site.write_task("eight", limits={"cost_usd": 0.35})
    blocked = site.wait_state("demo.eight", "blocked")
    (wait,) = blocked.waits_for
    assert wait.reason == "budget"
    assert wait.message == "its next step would pass its limit of 0.35 USD: 3 turns, 0.30 USD as its CLI told"
    told = site.cli("task", "explain", "eight").stdout
    assert "task top-up demo.eight USD" in " ".join(told.split())

    site.write_task("waits")  # no limit of its own: it reserves 0.95
    site.wait_state("demo.waits", "pending")
    done = site.cli("task", "top-up", "eight", "0.8")
    assert "it may cost 1.15 USD, and has cost 0.30" in done.stdout
    finished = site.wait_state("demo.eight", "review")
    assert [attempt.usage.cost_usd for attempt in finished.attempts] == [pytest.approx(0.3), pytest.approx(0.5)]
    assert finished.attempts[1].start_commit == finished.attempts[0].bundle_head

    row = wait_for(lambda: (found := budgets_of(site)["everything"])["reserved_usd"] == 0 and found)
    assert (row["spent_usd"], row["left_usd"]) == (pytest.approx(0.8), pytest.approx(0.4))
    said = " ".join(site.cli("task", "explain", "waits").stdout.split())
    assert "waits for the budget everything of 1.20 USD a day: 0.40 left, 0.95 needed, 0.55 missing: " in said
    assert "`cloud-code budget top-up everything 0.55`; a new day begins" in said
    assert "everything: 0.40 of 1.20 USD left, 0.80 spent" in " ".join(site.cli("status").stdout.split())

    assert "of which 1.00 are left" in site.cli("budget", "top-up", "everything", "0.6").stdout
    assert site.wait_state("demo.waits", "review").attempts[0].usage.cost_usd == pytest.approx(0.8)
    site.stop_supervisors()
    assert budgets_of(site)["everything"]["spent_usd"] == pytest.approx(1.6)
    assert site.cli("budget", "top-up", "nothing", "1", check=False).returncode == 1
    assert site.events("budget.topped_up", "task.topped_up")


def test_a_real_cli_stops_within_a_step_of_its_limit_and_is_done_once_it_may_cost_more(site: Site) -> None:
    codex = program("codex")
    need(codex, "codex")
    # It waits in the step after the one which its limit allows, that a daemon which is late finds no other one.
    steps = [{"shell": f"sleep {0.3 if number < 7 else 600} # {number}"} for number in range(60)]
    with ScriptedModel(steps=steps) as model:
        site.environment["DUMMY_KEY"] = "sk-dummy"
        site.config["workstations"]["backend"]["clis"] = ["codex"]
        site.config["prices"] = {"gpt-5": {"input": 1, "cached_input": 0.1, "output": 2}}
        site.config["clis"]["codex"] = {
            "argv": [str(codex)],
            "model": "gpt-5.5",
            "pass_environment": ["DUMMY_KEY"],
            "options": {"base_url": model.base_url, "env_key": "DUMMY_KEY"},
        }
        site.write_config()
        site.start()
        site.write_task("loop", limits={"cost_usd": 0.01}, allow_empty=True)
        blocked = site.wait_state("demo.loop", "blocked")
        usage = blocked.attempts[0].usage
        assert blocked.waits_for[0].reason == "budget", blocked.waits_for
        assert "by the configured prices" in blocked.waits_for[0].message
        assert usage.cost_from == "prices"
        assert usage.cost_usd is not None and 0.007 < usage.cost_usd < 0.0121, (
            "within a step, which costs about 0.0016"
        )
        assert len(model.requests) <= 9

        model.scenario = scenario_named("says-done-without-edit")
        site.cli("task", "top-up", "loop", "0.05")
        done = site.wait_state("demo.loop", "review", "completed")
    assert done.attempts[1].session == done.attempts[0].session, "it was resumed"
    again = done.attempts[1].usage
    assert again.cost_usd is not None and again.cost_usd < 0.004, "the first attempt's is not counted again"
