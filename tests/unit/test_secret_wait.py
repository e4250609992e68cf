"""Work that waits for a Vault: said as what it is, tried for as long as it takes, and told once."""

from datetime import timedelta

import pytest

from supervisor.core.answers import answers
from supervisor.core.assign import fail_preparation
from supervisor.core.decision import Failed
from supervisor.core.delivery import fail_inspection, push_key, request_key, settle_push
from supervisor.core.explain import explain, headline
from supervisor.core.record import Delivery, Effect, TaskRecord, Tries
from supervisor.core.secret_wait import secret_wait
from supervisor.core.states import State
from supervisor.core.story import render_story
from supervisor.core.surroundings import Surroundings
from tests.unit.conftest import DIGEST, NOW, SHA_A, SHA_B, make_attempt, make_task

SEALED = Failed(code="E_VAULT_SEALED", message="Vault at https://v:8200 is sealed.", retryable=True)
DELIVERY = Delivery(attempt=1, claimed_head=SHA_A, pushed_head=SHA_B, base=SHA_A, bundle_sha256=DIGEST)
AROUND = Surroundings(now=NOW, running=True)


def pending() -> TaskRecord:
    return fail_preparation(make_task(state=State.PENDING), SEALED, NOW).task


def claimed() -> TaskRecord:
    task = make_task(state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),))
    return fail_inspection(task, 1, SEALED, None, NOW).task


def delivered() -> TaskRecord:
    task = make_task(state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(ended_at=NOW),), delivery=DELIVERY)
    return settle_push(task.with_effect(Effect(key=push_key(task), kind="push")), push_key(task), SEALED, NOW).task


@pytest.mark.parametrize("task", [pending(), claimed(), delivered()], ids=["pending", "claimed", "delivered"])
def test_it_is_called_blocked_for_a_credential_with_the_next_step(task: TaskRecord) -> None:
    wait = secret_wait(task)
    assert wait is not None and wait.code == "E_VAULT_SEALED"
    line = headline(task, AROUND)
    assert line.startswith("blocked: credential: ") and line.endswith("Vault at https://v:8200 is sealed")
    found = explain(task, AROUND)
    assert any("goes on by itself" in sentence for sentence in found.next)
    assert not [sentence for sentence in (*found.why, *found.next) if ".." in sentence]
    assert [action.command for action in found.can].count("vault operator unseal") == 1
    assert answers(task)[0].command == "vault operator unseal"  # so `status` names it
    assert "Waits for working credentials" in render_story(task, AROUND)


@pytest.mark.parametrize("code", ["E_SECRETS_IDENTITY", "E_SECRETS_UNREADABLE", "E_NO_SECRET"])
def test_secrets_that_cannot_be_opened_are_waited_for_as_a_sealed_vault_is(code: str) -> None:
    lost = Failed(code=code, message="The identity cannot be read.")
    task = make_task(state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),))
    task = fail_inspection(task, 1, lost, None, NOW).task
    assert task.state is State.IN_PROGRESS and headline(task, AROUND).startswith("blocked: credential: ")
    (answer,) = answers(task)
    assert answer.text.endswith("then it goes on by itself") and answer.command == "cloud-code doctor"
    preparing = fail_preparation(make_task(state=State.PENDING), lost, NOW).task
    assert preparing.state is State.PENDING and secret_wait(preparing) is not None


def test_it_is_tried_for_as_long_as_it_takes_at_least_twice_a_minute_and_told_once() -> None:
    task, now, told = claimed(), NOW, 0
    for _ in range(300):
        decision = fail_inspection(task, 1, SEALED, None, now)
        task, told = decision.task, told + len(decision.events)
        again = task.attempts[0].inspecting.not_before
        assert task.state is State.IN_PROGRESS and again is not None and again <= now + timedelta(seconds=30)
        now = again
    assert told == 0
    down = Failed(code="E_VAULT_DOWN", message="nobody answers", retryable=True)
    assert len(fail_inspection(task, 1, down, None, now).events) == 1


def test_what_is_over_or_failed_otherwise_is_not_called_so() -> None:
    task = claimed()
    assert secret_wait(task.with_attempt(1, inspecting=Tries())) is None
    other = Failed(code="E_GIT_TIMEOUT", message="too slow", retryable=True)
    assert secret_wait(fail_inspection(task, 1, other, None, NOW).task) is None
    pushed = settle_push(delivered(), push_key(delivered()), None, NOW).task
    assert pushed.effect(request_key(pushed)) is not None and secret_wait(pushed) is None


def test_a_failed_try_is_told_with_one_full_stop() -> None:
    other = Failed(code="E_GIT_TIMEOUT", message="It is too slow.", retryable=True)
    task = fail_preparation(make_task(state=State.PENDING), other, NOW).task
    claim = fail_inspection(
        make_task(state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),)), 1, other, None, NOW
    )
    for record in (task, claim.task):
        found = explain(record, AROUND)
        assert not [sentence for sentence in (*found.why, *found.next) if ".." in sentence]
