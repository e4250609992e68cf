"""Real coding CLIs under the real daemon and supervisor: interrupted in the middle of a tool, and handed over.

The model behind them is scripted and on the loopback. Each tool double-forks with setsid, for minutes.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent_daemon.clis.base import CliSettings
from tests.end_to_end.test_credentials import assert_nowhere
from tests.fakes.scripted_model import ScriptedModel
from tests.real_clis import PATCH, double_fork, new_tag, settings_of, tagged
from tests.site import Pace, Site, git, wait_for
from tests.thorough import examples

TASK = "demo.fix-add"
# From an interruption until nothing of the run is left (docs/performance.md).
LONGEST_SECONDS = 10
# The others start slowly, and are taken where there is time (CLOUD_CODE_TEST_THOROUGH).
QUICK = ("codex", "claude")
FIRST_WORDS = "You work alone in a git worktree"
PACKET = "What was done before you"
# What the sum is made of, one edit after the other.
SUMS = ("a - b", "b - a", "b + a", "a + b")
KEY = "sk-dummy-0123456789"
# Where each keeps its sessions, below the workstation's homes.
SESSIONS = {
    "codex": "codex/.codex/sessions",
    "claude": "claude-code/.claude/projects",
    "gemini": "gemini/.gemini/tmp",
    "opencode": "opencode/.local/share/opencode",
}


def configure(site: Site, settings: CliSettings) -> None:
    """The CLI as an operator would configure it; its key comes from around the supervisor."""
    site.environment["DUMMY_KEY"] = KEY
    site.config["clis"][settings.name] = {
        "adapter": settings.adapter,
        "argv": list(settings.argv),
        "model": settings.model,
        "pass_environment": ["DUMMY_KEY"],
        "options": dict(settings.options),
    }


def homes(site: Site) -> Path:
    """Where the workstation keeps what belongs to its CLIs."""
    return site.root.workspace("backend-1") / ".homes"


def told(model: ScriptedModel, since: int) -> str:
    """What another run asked the model first since then; the run before was in a tool, and asks no more."""
    later = [str(request.body) for request in model.requests[since:]]
    return next((body for body in later if FIRST_WORDS in body), "")


def interrupt(tag: str, how: Callable[[], object]) -> float:
    """Once a tool runs; the seconds until nothing of it was left."""
    wait_for(lambda: len(tagged(tag)) >= 2, what="a tool that has forked")
    before, began = set(tagged(tag)), time.monotonic()
    how()
    wait_for(lambda: not before & set(tagged(tag)), what="nothing of the tool is left")
    return time.monotonic() - began


@pytest.fixture
def pace() -> Any:
    measured = Pace()
    yield measured
    measured.stop()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cli", SESSIONS if examples(1) > 1 else QUICK)
def test_an_interruption_in_a_tool_leaves_nothing_and_the_session_goes_on(
    site: Site, pace: Pace, cli: str
) -> None:
    """Its daemon is asked to end, and killed, its task paused; then the session is gone: a packet stands in."""
    tag = new_tag()
    slow: list[dict[str, str]] = [{"shell": double_fork(tag)}] * 100
    with ScriptedModel(steps=slow) as model:
        settings = settings_of(cli, homes(site) / cli, model)
        configure(site, settings)
        site.config["workstations"]["backend"]["clis"] = [settings.name]
        site.write_config()
        site.start()
        site.write_task("fix-add")

        def pause() -> None:
            site.cli("task", "pause", TASK)

        def resume() -> None:
            wait_for(lambda: status(site) == "paused")
            site.cli("task", "resume", TASK)

        seconds, resumed = {}, list[bool]()
        ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "daemon asked to end": (lambda: site.signal_daemons(signal.SIGTERM), str),
            "daemon killed": (lambda: site.signal_daemons(signal.SIGKILL), str),
            "task paused": (pause, resume),
        }
        for way, (how, go_on) in ways.items():
            wait_for(lambda: len(tagged(tag)) >= 2, what="a tool that has forked")
            asked = len(model.requests)  # before the next run can ask: its daemon may be there before we look
            seconds[way] = interrupt(tag, how)
            go_on()
            first = wait_for(lambda asked=asked: told(model, asked))
            # A session that is cut short in its first moments may not be on disk yet: then it is told everything.
            resumed.append(first.count(FIRST_WORDS) >= 2)
        assert any(resumed) or cli == "gemini"

        seconds["task paused again"] = interrupt(tag, pause)
        wait_for(lambda: status(site) == "paused")
        shutil.rmtree(homes(site) / SESSIONS[cli])
        asked, model.steps[:] = len(model.requests), [{"patch": PATCH}]
        resume()
        task = site.wait_state(TASK, "review")

        print(f"{cli}: nothing left after", ", ".join(f"{way}: {took:.1f} s" for way, took in seconds.items()))
        assert all(took <= LONGEST_SECONDS * max(1, pace.slowest) for took in seconds.values()), seconds
        anew = told(model, asked)
        assert anew.count(FIRST_WORDS) == 1, "a new session"
        assert PACKET in anew and f"## Attempt 1: {settings.name}" in anew
        assert [attempt.verdict for attempt in task.attempts] == ["completed"], "all in one attempt"
        assert "a + b" in git("show", f"{task.branch}:calc.py", cwd=site.remote)
        wait_for(lambda: not tagged(tag), what="nothing is left of any tool")


@pytest.mark.timeout(300)
def test_aider_is_ended_with_its_tests_and_goes_on_with_its_history(site: Site, pace: Pace) -> None:
    """It runs no tools of its own accord, but the verification after each edit, which is slow at first."""
    tag, slow = new_tag(), site.folder / "slow"
    slow.touch()
    edits = [{"patch": PATCH.replace("a - b", old).replace("a + b", new)} for old, new in pairwise(SUMS)]
    with ScriptedModel(steps=edits[:1]) as model:
        settings = settings_of("aider", site.folder / "unused", model)
        configure(site, settings)
        site.config["workstations"]["backend"]["clis"] = [settings.name]
        site.write_config()
        site.start()
        check = {"name": "tests", "command": f"if [ -e {slow} ]; then {double_fork(tag)}; fi"}
        site.write_task("fix-add", verification=[check])

        def kill(number: int) -> None:
            model.steps[:] = edits[number : number + 1]
            site.signal_daemons(signal.SIGKILL)

        seconds = [interrupt(tag, lambda: kill(1))]
        wait_for(lambda: len(runs(site)) == 2)
        seconds.append(interrupt(tag, lambda: site.cli("task", "pause", TASK)))
        wait_for(lambda: status(site) == "paused")
        model.steps[:] = edits[2:]
        slow.unlink()
        shutil.rmtree(homes(site) / "aider/aider")
        site.cli("task", "resume", TASK)
        task = site.wait_state(TASK, "review")
        print("aider: nothing left after", ", ".join(f"{took:.1f} s" for took in seconds))
        assert all(took <= LONGEST_SECONDS * max(1, pace.slowest) for took in seconds), seconds
        assert [run.get("session") for run in runs(site)] == [None, "chat-history", None]
        assert "a + b" in git("show", f"{task.branch}:calc.py", cwd=site.remote)
        wait_for(lambda: not tagged(tag), what="nothing is left of any tool")


def runs(site: Site) -> list[dict[str, Any]]:
    """How each run of the CLI began."""
    log = site.root.attempt_out("backend-1", TASK, 1) / "logs/events.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    return [event for event in events if event["category"] == "started"]


def status(site: Site) -> str:
    import yaml

    report = site.root.attempt_out("backend-1", TASK, 1) / "reporting.yaml"
    return str(yaml.safe_load(report.read_text())["tasks"][TASK]["status"])


@pytest.mark.timeout(300)
def test_claude_code_finishes_what_codex_has_begun(site: Site) -> None:
    """Handed over in the middle of a tool: both work is in the result, and the second knew of the first's."""
    tag = new_tag()
    begun = [{"shell": "echo half > half.txt"}, {"shell": double_fork(tag)}]
    with ScriptedModel(steps=begun) as first, ScriptedModel(steps=[{"patch": PATCH}]) as second:
        codex = settings_of("codex", site.folder / "unused", first)
        claude = settings_of("claude", site.folder / "unused", second)
        for settings in (codex, claude):
            configure(site, settings)
        site.config["workstations"]["backend"]["clis"] = [codex.name, claude.name]
        site.write_config()
        site.start()
        site.write_task("fix-add", acceptance_criteria=["It adds"])
        wait_for(lambda: len(tagged(tag)) >= 2)
        site.cli("task", "handoff", TASK, claude.name)
        wait_for(lambda: not tagged(tag))
        task = site.wait_state(TASK, "review", timeout_seconds=150)

        assert [(a.cli, a.verdict) for a in task.attempts] == [
            ("codex", "handed over"),
            ("claude-code", "completed"),
        ]
        asked = next(str(request.body) for request in second.requests if "Task fix-add" in str(request.body))
        for said in ("## Attempt 1: codex (gpt-5.5)", "[ ] It adds", "half.txt", "echo half > half.txt"):
            assert said in asked
        shown = {name: git("show", f"{task.branch}:{name}", cwd=site.remote) for name in ("half.txt", "calc.py")}
        assert shown["half.txt"] == "half"
        assert "a + b" in shown["calc.py"]
        assert task.attempts[0].session is not None


@pytest.mark.timeout(300)
def test_its_key_may_lie_among_the_secrets_of_the_root_for_one_type_of_workstation(site: Site) -> None:
    with ScriptedModel(steps=[{"patch": PATCH}]) as model:
        settings = settings_of("codex", homes(site) / "codex", model)
        configure(site, settings)
        del site.config["clis"][settings.name]["pass_environment"], site.environment["DUMMY_KEY"]
        site.config["workstations"]["backend"]["clis"] = [settings.name]
        use = {"use": {"secret": "codex/backend", "granted": "at_start"}}
        site.config["credentials"] = {"model_key": {"access": use, "env": "DUMMY_KEY", "specialists": ["backend"]}}
        site.write_config()
        keep = [
            sys.executable,
            "-m",
            "supervisor",
            "--root",
            str(site.root.path),
            "secret",
            "set",
            "codex/backend",
        ]
        subprocess.run(keep, input=KEY, text=True, env=site._environment(), check=True, timeout=60)
        site.start()
        site.write_task("fix-add")
        site.wait_state(TASK, "review")
        assert {request.headers.get("authorization") for request in model.requests} == {f"Bearer {KEY}"}
        assert_nowhere(site.root.path, KEY)
