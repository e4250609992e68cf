"""The meter with real CLIs against a scripted model that never ends: nothing goes on beyond the limit of cost."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_daemon.attempt import Attempt
from agent_daemon.clis.base import Verdict
from agent_daemon.coding import CodingRun
from agent_daemon.execution import StopRequest
from agent_daemon.places import AttemptPlaces
from agent_daemon.protocol.model import (
    AgentConfig,
    CliConfig,
    Limits,
    Price,
    ReportStatus,
    TaskReport,
)
from tests.fakes.scripted_model import PROTOCOLS, ScriptedModel
from tests.real_clis import Driver, need, program
from tests.unit.conftest import make_tasking

CLIS = {
    "codex": ("codex", "gpt-5.5"),
    "claude-code": ("claude", "claude-sonnet-4-5"),
    "gemini": ("gemini", "gemini-2.5-pro"),
    "opencode": ("opencode", "scripted"),
}
# A step of the scripted model reads 1,000 tokens and 100 more each time, 200 of them cached, and writes 50 and one
# more each time: so priced, about a thousandth of a dollar.
PRICE = Price(input=1, cached_input=0.1, output=2)
LIMIT_USD = 0.01
# For ever, but with steps that take a while, as real ones do: longer than a busy machine takes to read of one.
STEPS = [{"shell": f"sleep 1 # {number}"} for number in range(60)]


class Metered:
    """One attempt of a real CLI, as the daemon makes it; `told` is its report as it grows."""

    def __init__(self, folder: Path, cli: str, model: ScriptedModel, **changes: Any) -> None:
        found, name = CLIS[cli]
        need(program(found), found)
        driver = Driver.in_repository(folder)
        bare = cli in ("claude-code", "gemini")
        base_url = model.base_url.removesuffix("/v1") if bare else model.base_url
        retries = {"claude-code": {"max_retries": "0"}, "codex": {"request_max_retries": "0"}}.get(cli, {})
        config = AgentConfig(
            revision=1,
            cli=CliConfig(
                name=cli,
                adapter=cli,
                argv=(str(program(found)),),
                model=name,
                environment={"DUMMY_KEY": "sk-dummy", "npm_config_registry": "http://127.0.0.1:9"},
                options={"base_url": base_url, "env_key": "DUMMY_KEY"} | retries,
            ),
            prices={name: PRICE},
        )
        task = make_tasking(id="demo.loop", title="Loop", limits=Limits(cost_usd=LIMIT_USD))
        outbox = folder / "out" / "demo.loop" / "1"
        (outbox / "logs").mkdir(parents=True)
        places = AttemptPlaces(
            inbox=folder / "in", outbox=outbox, clone=driver.tree, worktree=driver.tree, homes=folder / "homes"
        )
        self.report = TaskReport(attempt=1, status=ReportStatus.IN_PROGRESS)
        self.attempt = Attempt(
            task=task.model_copy(update=changes.get("task", {})),
            config=config.model_copy(update=changes.get("config", {})),
            places=places,
            agent_type="backend",
            known=self.report,
            tell=self._tell,
            latest=lambda: self.attempt.task,
        )

    def _tell(self, fields: dict[str, Any], _: str | None) -> None:
        self.report = self.report.model_copy(update=fields)

    def run(self) -> Verdict:
        return CodingRun(self.attempt).run()

    def run_until(self, so: Callable[[], bool], reason: str) -> Verdict:
        """Stop it from outside once something is so."""

        def stop() -> None:
            deadline = time.monotonic() + 150
            while not so() and time.monotonic() < deadline:
                time.sleep(0.01)
            self.attempt.stop.set(reason)

        thread = threading.Thread(target=stop)
        thread.start()
        verdict = self.run()
        thread.join()
        return verdict

    def next_run(self) -> "Metered":
        """The same attempt goes on, as after an interruption."""
        self.attempt = Attempt(
            **{**vars(self.attempt), "known": self.report, "resumed": True, "stop": StopRequest()}
        )
        return self


def cost_of_steps(number: int) -> float:
    """What so many steps of the scripted model cost, by our prices."""
    return sum(((800 + 100 * n) * PRICE.input + 200 * 0.1 + (50 + n) * PRICE.output) / 1e6 for n in range(number))


def asked_of(model: ScriptedModel) -> int:
    """How many steps were asked for: what is asked beside the task (for a title) has no tools."""
    return sum(1 for request in model.requests if request.body.get("tools"))


@pytest.mark.parametrize("cli", ["codex", "gemini", "opencode"])
def test_a_run_ends_before_its_next_step_passes_the_limit(tmp_path: Path, cli: str) -> None:
    """Whatever was asked for is paid, also what was broken off: all of it is within one step of the limit."""
    with ScriptedModel(steps=STEPS) as model:
        run = Metered(tmp_path, cli, model)
        verdict = run.run()
        asked = asked_of(model)

    used = run.report.usage
    assert verdict.outcome == "budget"
    assert "would pass its limit of 0.01 USD" in verdict.message
    assert (used.cost_from, used.cost_unknown, used.model) == ("prices", "", CLIS[cli][1])
    assert used.cost_usd == pytest.approx(
        cost_of_steps(asked), abs=cost_of_steps(asked) - cost_of_steps(asked - 1)
    )
    last_step = cost_of_steps(asked) - cost_of_steps(asked - 1)
    overshoot = cost_of_steps(asked) - LIMIT_USD
    assert overshoot <= last_step


def test_claude_code_ends_before_its_next_step_passes_the_limit(tmp_path: Path) -> None:
    """By our prices, which are not its own: those it tells at the end, and they count then."""
    prices = {"prices": {"claude-sonnet-4-5": Price(input=10, cached_input=1, output=20)}}
    with ScriptedModel(steps=STEPS) as model:
        run = Metered(tmp_path, "claude-code", model, config=prices)
        verdict = run.run()
        asked = asked_of(model)

    assert verdict.outcome == "budget"
    assert "would pass its limit of 0.01 USD" in verdict.message or "is reached" in verdict.message
    assert asked <= 2
    assert run.report.usage.cost_usd


def test_without_a_price_claude_code_holds_the_limit_itself(tmp_path: Path) -> None:
    with ScriptedModel("loop") as model:
        run = Metered(tmp_path, "claude-code", model, config={"prices": {}})
        verdict = run.run()
        asked = asked_of(model)

    used = run.report.usage
    assert verdict.outcome == "budget"
    assert used.cost_from == "told" and used.cost_usd is not None
    assert LIMIT_USD <= used.cost_usd <= LIMIT_USD + used.cost_usd / asked


def test_what_has_no_price_and_tells_no_cost_is_not_started(tmp_path: Path) -> None:
    with ScriptedModel("loop") as model:
        verdict = Metered(tmp_path, "codex", model, config={"prices": {}}).run()
    assert (verdict.outcome, model.requests) == ("budget", [])
    assert verdict.message.startswith("E_NO_PRICE: ")
    assert "gpt-5.5" in verdict.message


def test_what_an_interrupted_run_used_is_counted_with_the_next_one(tmp_path: Path) -> None:
    """The session is resumed, whose sums include the first run's; the limit holds for both together."""
    with ScriptedModel(steps=STEPS) as model:
        run = Metered(tmp_path, "codex", model)
        first = run.run_until(lambda: run.report.usage.input_tokens >= 3300, "interrupted")
        before = run.report.usage
        second = run.next_run().run()

    used = run.report.usage
    assert (first.outcome, second.outcome) == ("interrupted", "budget")
    assert before.input_tokens >= 3300
    assert used.input_tokens > before.input_tokens
    assert used.turns > before.turns
    read = [1000 + 100 * PROTOCOLS[request.path].read(request.body).results for request in model.requests]
    broken_off = sum(sorted(read)[-2:])  # one request of each run may have been
    assert sum(read) - broken_off <= used.input_tokens <= sum(read), "nothing is counted twice or forgotten"
    assert used.cost_usd is not None
    assert used.cost_usd - LIMIT_USD <= max(read) * 2 / 1e6
