"""A key that a CLI is handed over: hidden from its model's commands if it can be, and in nothing that is kept."""

import base64
import hashlib
import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_daemon.credentials import Given
from agent_daemon.evidence import verify
from agent_daemon.git_credential import HELPER
from agent_daemon.protocol.model import CliConfig, SealedCredential, VerificationCommand
from tests.coding_run import Run
from tests.fakes.scripted_model import ScriptedModel
from tests.real_clis import PATCH, Driver, need, program

MARK = uuid.uuid4().hex[:12]
KEY = f"sk-test-{MARK}/4f+5a6b=7c8d"
# What it sees of keys, counted: the environment of the command, and that of every process of the run.
LOOK = (
    f"env; env | grep -c {MARK} > own; "
    f"cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -a {MARK} > all; true"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    Driver.in_repository(tmp_path)

    def make(adapter: str, key: str, **changes: Any) -> Run:
        monkeypatch.setenv(key, KEY)
        cli = CliConfig(name=adapter, adapter=adapter, pass_environment=(key,), **changes)
        return Run(tmp_path, cli, checks=(VerificationCommand(name="env", command="cat left; env"),))

    return make


LOUD = """
import base64, json, os, sys
key = os.environ["MY_KEY"]
open("left", "w").write(key)
for character in "plain " + key + "\\n":
    os.write(1, character.encode())
os.write(2, b"error: the key " + key[:9].encode())
os.write(2, key[9:].encode() + b" is wrong")
print(json.dumps({"type": "progress", "message": "as json " + key, "path": "made/" + key}))
print("basic", base64.b64encode(b"use:me" + key.encode()).decode(), key.encode().hex())
print(json.dumps({"type": "result", "message": "done with " + key, "session_id": key}))
"""


def test_nothing_that_is_kept_holds_what_a_program_says_aloud(run: Callable[..., Run]) -> None:
    loud = run("command", "MY_KEY", argv=(sys.executable, "-c", LOUD))
    verdict = loud.code()
    verify(loud.attempt, "c" * 40)
    assert (verdict.outcome, verdict.message) == ("completed", "done with [hidden]")
    kept = loud.kept()
    assert "plain [hidden]" in kept
    assert "the key [hidden] is wrong" in kept
    assert "made/[hidden]" in kept
    shown = (loud.out / "logs/verify-1.log").read_text()
    assert shown.startswith("[hidden]")
    assert "MY_KEY" not in shown
    for form in (KEY, MARK, MARK.encode().hex(), base64.b64encode(KEY.encode())[4:-4].decode()):
        assert form not in kept


def options_for(adapter: str, model: ScriptedModel) -> dict[str, Any]:
    if adapter == "claude-code":
        return {"options": {"base_url": model.base_url.removesuffix("/v1")}, "model": "sonnet"}
    return {"options": {"base_url": model.base_url, "request_max_retries": "0"}, "model": "gpt-5.5"}


@pytest.mark.parametrize(
    ("adapter", "name", "key"),
    [("codex", "codex", "OPENAI_API_KEY"), ("claude-code", "claude", "ANTHROPIC_API_KEY")],
)
def test_the_commands_of_the_model_find_no_key(run: Callable[..., Run], adapter: str, name: str, key: str) -> None:
    found = program(name)
    need(found, name)
    with ScriptedModel(steps=[{"shell": LOOK}]) as model:
        real = run(adapter, key, argv=(str(found),), **options_for(adapter, model))
        assert real.code().outcome == "completed"
        asked = json.dumps([request.body for request in model.requests])
        headers = str(model.requests[0].headers)
    assert KEY in headers
    assert KEY not in asked
    assert KEY not in real.kept()
    assert "CLOUD_CODE_RUN" in real.kept()  # it did see the output of env
    assert (real.tree / "own").read_text() == "0\n"
    # Codex holds the key in its own environment, where a command that looks for it finds it.
    assert (KEY in (real.tree / "all").read_text()) is (adapter == "codex")


GRANTED = SealedCredential(task="demo.fix", attempt=1, id="cred-001", env="NPM_TOKEN", value=f"granted-{MARK}")
USE = (
    "echo $NPM_TOKEN | sha256sum > given; cat $CLOUD_CODE_CREDENTIALS/NPM_TOKEN | wc -c >> given; "
    "git config credential.https://git.example.org.helper >> given; true"
)


@pytest.mark.parametrize(
    ("adapter", "name", "key"),
    [("codex", "codex", "OPENAI_API_KEY"), ("claude-code", "claude", "ANTHROPIC_API_KEY")],
)
def test_they_find_what_the_attempt_was_granted(
    run: Callable[..., Run], adapter: str, name: str, key: str, tmp_path: Path
) -> None:
    found = program(name)
    need(found, name)
    with ScriptedModel(steps=[{"shell": USE}, {"shell": LOOK}]) as model:
        real = run(adapter, key, argv=(str(found),), **options_for(adapter, model))
        real.attempt.given = Given(tmp_path / "memory/demo.fix/1")
        real.attempt.given.take(GRANTED.model_copy(update={"git_url": "https://git.example.org"}))
        assert real.code().outcome == "completed"
    digest = hashlib.sha256(f"{GRANTED.value}\n".encode()).hexdigest()
    assert (real.tree / "given").read_text().split() == [digest, "-", str(len(GRANTED.value)), *HELPER.split()]
    assert GRANTED.value not in real.kept()


def test_the_tests_that_aider_runs_find_no_key(run: Callable[..., Run]) -> None:
    found = program("aider")
    need(found, "aider")
    with ScriptedModel(steps=[{"patch": PATCH}]) as model:
        real = run(
            "aider",
            "OPENAI_API_KEY",
            argv=(str(found),),
            model="openai/scripted",
            options={"base_url": model.base_url, "edit_format": "diff"},
        )
        real.attempt.given.take(GRANTED.model_copy(update={"value": "granted-to-it"}))
        check = VerificationCommand(
            name="env", command=f"env | grep -c {MARK} > own; env; echo $NPM_TOKEN > given; true"
        )
        real.attempt.task = real.attempt.task.model_copy(update={"verification": (check,)})
        assert real.code().outcome == "completed"
    assert (real.tree / "own").read_text() == "0\n"
    assert KEY not in real.kept()
    assert (real.tree / "given").read_text() == "granted-to-it\n"
