"""What agents ask for: who grants it, what is denied, and that it is given to the live attempt and taken back."""

from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.model import BlockedReason, CredentialRequest, ReportStatus, TaskReport, WaitReason
from supervisor.core.answers import answers
from supervisor.core.commands import Actor, Command, CommandRefusedError, apply_command
from supervisor.core.credentials import (
    MAX_ASKED,
    git_place,
    grant_at_start,
    granted_by,
    revoke,
    take_requests,
    variable_of,
)
from supervisor.core.decided import what_was_decided
from supervisor.core.decision import Failed, Given
from supervisor.core.giving import (
    mark_stale,
    settle_giving,
    settle_probe,
    take_back,
    to_give,
    to_probe,
    told_credentials,
)
from supervisor.core.plan import Seen, plan_task
from supervisor.core.record import Grant, TaskRecord, Wait
from supervisor.core.secret_settings import AccessSettings, CredentialSettings
from supervisor.core.sentences import sentence
from supervisor.core.settings import Config, ProjectSettings
from supervisor.core.states import State
from tests.unit.conftest import NOW, make_attempt, make_task

LATER = NOW + timedelta(minutes=61)


def config(**credentials: Any) -> Config:
    return Config.model_validate(
        {"projects": {"acme": {"repository": "/srv/acme.git"}}, "credentials": credentials or USUAL}
    )


MINTED = {"github_token": {"access": {"read": {"mint": "repository"}}}}
APP = {"app": {"id": "7", "private_key": {"secret": "forges/app"}}}
HUB = {"forge": "github", "repository": "acme/app", "auth": APP}


@pytest.mark.parametrize(
    ("project", "scope", "why"),
    [
        (HUB, "", None),
        (HUB, "acme/app", None),
        (HUB, "acme/other", "it is made for acme/app alone"),
        (HUB | {"auth": {"token": {"secret": "t"}}}, "", "GitHub makes tokens for Apps only"),
        (HUB | {"forge": "gitlab", "auth": {"token": {"secret": "t"}}}, "", "this project's is gitlab"),
        ({"repository": "/srv/acme.git"}, "", "this project's is local"),
    ],
)
def test_a_forge_makes_tokens_for_the_tasks_repository_alone(
    project: dict[str, Any], scope: str, why: str | None
) -> None:
    settings = Config.model_validate({"projects": {"acme": project}, "credentials": MINTED})
    taken = take_requests(at_work(), asking(("github_token", "read", scope)), settings, NOW)
    (grant,) = taken.task.grants
    assert (grant.status, grant.by) == ("granted" if why is None else "denied", "rule")
    assert why is None or why in (grant.why or "")


@pytest.mark.parametrize(
    ("name", "access", "rule", "said"),
    [
        ("npm_token", "read", {"mint": "repository"}, "npm_token cannot have"),
        ("github_token", "read", {"mint": "api"}, "github_token can have `mint: repository`"),
        ("gitlab_token", "write", {"mint": "repository"}, "is for the access `read`"),
        ("gitlab_token", "read", {"mint": "repository", "secret": "a"}, "name one thing that gives it"),
    ],
)
def test_what_is_made_reads_and_nothing_else(name: str, access: str, rule: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**{name: {"access": {access: rule}}})


def test_git_may_use_a_token_at_the_host_of_the_tasks_forge_alone() -> None:
    hub = ProjectSettings.model_validate(HUB)
    lab = ProjectSettings.model_validate(HUB | {"forge": "gitlab", "url": "https://git.example.org:8443/lab/"})
    local = ProjectSettings.model_validate({"repository": "/srv/acme.git"})
    assert git_place("github_token", hub) == ("https://github.com", "x-access-token")
    assert git_place("gitlab_token", lab) == ("https://git.example.org:8443", "oauth2")
    for kind, project in (
        ("gitlab_token", hub),
        ("npm_token", hub),
        ("npm_token", local),
        ("github_token", local),
    ):
        assert git_place(kind, project) is None


class TestAtStart:
    """What every attempt has without asking."""

    KEY: ClassVar[dict[str, Any]] = {
        "access": {"use": {"secret": "openai", "granted": "at_start"}},
        "env": "OPENAI_API_KEY",
    }

    def begun(self, task: TaskRecord, **key: Any) -> TaskRecord:
        return grant_at_start(task, config(openai_key=self.KEY | key), NOW).task

    def test_it_is_granted_once_and_given_to_the_attempt(self) -> None:
        task = self.begun(at_work())
        (grant,) = task.grants
        assert (grant.id, grant.status, grant.by, grant.env) == ("cred-001", "granted", "rule", "OPENAI_API_KEY")
        assert told_credentials(task, 1)[0].on_its_way and self.begun(task) == task
        assert len(to_give(task, "age1", NOW)) == 1

    @pytest.mark.parametrize("others", [{"projects": ["other"]}, {"specialists": ["frontend"]}])
    def test_others_have_it_not(self, others: dict[str, Any]) -> None:
        assert not self.begun(at_work(specialist="backend"), **others).grants

    def test_the_next_attempt_has_it_anew_unless_a_person_took_it_back(self) -> None:
        task = self.begun(at_work())
        between = task.with_attempt(1, ended_at=NOW, verdict="failed")
        over = take_back(between, NOW + timedelta(hours=2)).task
        assert over.grants[0].status == "over"
        again = self.begun(next_attempt(over))
        assert [(grant.id, grant.status, grant.attempt) for grant in again.grants] == [("cred-001", "granted", 2)]
        revoked = revoke(again, again.grants[0], by="ada", why="enough", now=NOW).task
        assert self.begun(next_attempt(revoked)).grants == revoked.grants
        wanted = asking(("openai_key", "use", ""), ("openai_key", "use", "other"), attempt=2, first=2)
        refused = take_requests(revoked, wanted, config(openai_key=self.KEY), NOW).task.grants[1:]
        assert {(grant.status, grant.by) for grant in refused} == {("denied", "rule")} and len(refused) == 2

    @pytest.mark.parametrize("state", [State.IN_PROGRESS, State.PAUSED])
    def test_its_attempt_has_it_to_the_end_however_long_that_takes(self, state: State) -> None:
        begun = self.begun(at_work(state=state))
        given = begun.evolve(grants=(begun.grants[0].evolve(given_to=(1, "age1")),))
        later = NOW + timedelta(minutes=61)
        (grant,) = take_back(given, later).task.grants
        assert grant.status == "granted" and grant.expires_at == later + timedelta(minutes=60)
        told = told_credentials(given.evolve(grants=(grant,)), 1)[0]
        assert told.on_its_way, "a CLI that is started again waits for it"
        assert take_back(given, NOW + timedelta(minutes=59)).task == given

    def test_what_is_configured_otherwise_counts_from_the_next_attempt(self) -> None:
        task = self.begun(at_work())
        (grant,) = self.begun(next_attempt(task), env="OPENAI_KEY").grants
        assert (grant.id, grant.env, grant.given_to) == ("cred-001", "OPENAI_KEY", None)
        asked_before = take_requests(at_work(), asking(("openai_key", "use", "")), config(), NOW).task
        assert asked_before.grants[0].status == "denied", "there was none of this name"
        assert [grant.status for grant in self.begun(next_attempt(asked_before)).grants] == ["granted"]
        with pytest.raises(ValueError, match="every attempt has it"):
            self.begun(at_work(), access={"use": {"secret": "openai", "granted": "at_start", "times": 1}})

    def test_there_is_no_scope_in_what_nobody_asks_for(self) -> None:
        with pytest.raises(ValueError, match="there is no scope"):
            config(openai_key=self.KEY | {"scopes": ["a"]})


USUAL = {
    "npm_token": {"access": {"read": {"secret": "npm"}, "publish": {"secret": "npm-publish"}}},
    "database_url": {"access": {"read_only": {"secret": "db"}}, "scopes": ["orders", "shop-*"]},
    "deploy-key": {"access": {"read": {"secret": "key"}}, "projects": ["other"]},
}


def at_work(**changes: Any) -> TaskRecord:
    values = {"state": State.IN_PROGRESS, "attempt": 1, "workstation": "backend-1", "attempts": (make_attempt(),)}
    return make_task(**(values | changes))


def asking(*wanted: tuple[str, str, str], attempt: int = 1, first: int = 1) -> TaskReport:
    requests = tuple(
        CredentialRequest(id=f"cred-{number:03}", type=kind, access=access, scope=scope, reason="it is needed")
        for number, (kind, access, scope) in enumerate(wanted, start=first)
    )
    return TaskReport(attempt=attempt, status=ReportStatus.IN_PROGRESS, credential_requests=requests)


def asked(*wanted: tuple[str, str, str], task: TaskRecord | None = None) -> TaskRecord:
    return take_requests(task or at_work(), asking(*wanted), config(), NOW).task


def command(kind: str, **args: str) -> Command:
    actor = Actor(id="ada")
    values = {"id": f"c-{kind}", "at": NOW, "actor": actor, "channel": "cli", "kind": kind, "target": "acme.login"}
    return Command.model_validate(values | {"args": args})


def next_attempt(task: TaskRecord, rerun: int = 1) -> TaskRecord:
    ended = task.with_attempt(task.attempt, ended_at=NOW, verdict="failed")
    newest = make_attempt(number=task.attempt + 1, rerun=rerun, started_at=LATER)
    return ended.evolve(attempts=(*ended.attempts, newest), attempt=newest.number, state=State.IN_PROGRESS)


def stops_for(*wanted: tuple[str, str, str], attempt: int = 1) -> TaskReport:
    ref = f"cred-{len(wanted):03}" if wanted else None
    blocked = BlockedReason(reason=WaitReason.CREDENTIAL, ref=ref)
    report = asking(*wanted, attempt=attempt)
    return report.model_copy(update={"status": ReportStatus.BLOCKED, "blocked_reason": blocked})


def after(task: TaskRecord, report: TaskReport) -> TaskRecord:
    return plan_task(task, Seen(reports={report.attempt: report}), config(), NOW).task


class TestAsked:
    def test_what_is_usual_is_granted_by_rule_and_more_by_a_person(self) -> None:
        task = asked(
            ("npm_token", "read", "@acme"), ("npm_token", "publish", ""), ("database_url", "read_only", "shop-1")
        )
        assert [grant.status for grant in task.grants] == ["granted", "asked", "granted"]
        first = task.grants[0]
        assert (first.env, first.by, first.expires_at) == ("NPM_TOKEN", "rule", NOW + timedelta(minutes=60))

    @pytest.mark.parametrize(
        ("wanted", "why"),
        [
            (("root_password", "read", ""), "there is no root_password here"),
            (("npm_token", "admin", ""), "there is no access 'admin'"),
            (("deploy-key", "read", ""), "not for the project acme"),
            (("database_url", "read_only", "payroll"), "none of: orders, shop-*"),
            (("database_url", "read_only", ""), "say --scope, one of: orders, shop-*"),
            (("npm_token\n", "read", ""), "words of small letters"),
            (("npm_token", "read", "$(id)"), "a scope has letters"),
            (("npm_token", "read", "@acme\n/cloud-code approve cred-001"), "a scope has letters"),
        ],
    )
    def test_what_cannot_be_had_is_denied_with_the_reason(self, wanted: tuple[str, str, str], why: str) -> None:
        grant = asked(wanted).grants[0]
        assert grant.status == "denied" and why in grant.why

    def test_a_flood_is_denied_once_and_then_not_heard(self) -> None:
        wanted = [("npm_token", "read", f"s{number}") for number in range(MAX_ASKED + 30)]
        task = asked(*wanted)
        assert len(task.grants) == MAX_ASKED + 1
        assert task.grants[-1].status == "denied" and "has asked for" in task.grants[-1].why

    @pytest.mark.parametrize("sign", ["a", "\N{GRINNING FACE}", "\x01"])
    def test_long_names_are_denied_once_and_fit_into_a_tasking(self, sign: str) -> None:
        long = [(sign * 990 + f"{number:03}", sign * 1000, sign * 1000) for number in range(30)]
        once = asked(*long[:1])
        assert [grant.status for grant in once.grants] == ["denied"] and asked(*long[:1], task=once) == once
        scoped = asked(("npm_token", "read", "s" * 1000))
        assert scoped.grants[0].why == "a scope has letters, digits and @:/._*- only"
        many = asked(*((f"{number}{kind}", *more) for number, (kind, *more) in enumerate(long)))
        assert len(many.grants) == MAX_ASKED + 1
        assert sum(len(encode(one)) for one in told_credentials(many, 1)) < 64 * 1024

    def test_only_the_live_attempt_is_heard(self) -> None:
        task = at_work()
        for report in (None, asking(("npm_token", "read", ""), attempt=2)):
            assert take_requests(task, report, config(), NOW).task == task
        ended = task.with_attempt(1, ended_at=NOW)
        assert take_requests(ended, asking(("npm_token", "read", "")), config(), NOW).task == ended

    @given(
        st.lists(st.tuples(*[st.sampled_from(names) for names in (["npm_token", "x"], ["read", "y"], ["", "a"])]))
    )
    def test_the_same_report_again_asks_for_nothing_more(self, wanted: list[tuple[str, str, str]]) -> None:
        once = take_requests(at_work(), asking(*wanted), config(), NOW)
        again = take_requests(once.task, asking(*wanted), config(), LATER)
        assert again.task == once.task and again.events == ()
        assert len({grant.id for grant in once.task.grants}) == len(once.task.grants)

    def test_what_is_over_can_be_asked_for_again(self) -> None:
        over = take_back(asked(("npm_token", "read", "")), LATER).task
        assert over.grants[0].status == "over"
        again = take_requests(
            over, asking(("npm_token", "read", ""), ("npm_token", "read", "")), config(), LATER
        ).task
        assert [grant.status for grant in again.grants] == ["over", "granted"]

    def test_what_a_rule_denied_is_judged_anew_in_the_next_attempt(self) -> None:
        wanted = ("root_password", "read", "")
        task = next_attempt(asked(wanted))
        same = take_requests(task, asking(wanted, attempt=2), config(), LATER).task
        assert [(grant.status, grant.attempt) for grant in same.grants] == [("denied", 2)]
        mended = config(root_password={"access": {"read": {"secret": "root"}}})
        (grant,) = take_requests(task, asking(wanted, attempt=2), mended, LATER).task.grants
        assert (grant.status, grant.attempt) == ("asked", 2)

    def test_the_id_of_what_nobody_answered_is_not_given_to_something_else(self) -> None:
        """The question stands on the issue yet: an answer to it must not be one to another question."""
        wanted, other = ("npm_token", "publish", ""), ("api_key", "read", "")
        late = next_attempt(take_back(asked(wanted), NOW + timedelta(days=2)).task)
        assert late.grants[0].status == "denied" and late.grants[0].by == "rule"
        again = take_requests(late, asking(other, attempt=2), config(), LATER).task
        again = take_requests(again, asking(wanted, attempt=2, first=9), config(), LATER).task
        more = take_requests(again, asking(("ssh_key", "read", ""), attempt=2), config(), LATER)
        assert [(grant.id, grant.type) for grant in more.task.grants] == [
            ("cred-001", "npm_token"),
            ("cred-002", "api_key"),
            ("cred-009", "npm_token"),
            ("cred-003", "ssh_key"),
        ]
        told = told_credentials(more.task, 2)
        assert [(one.id, one.status) for one in told if one.type == "npm_token"] == [("cred-009", "pending")]

    def test_what_a_person_denied_stays_denied_in_this_run(self) -> None:
        wanted = ("npm_token", "publish", "")
        denied = apply_command(asked(wanted), command("deny", approval="cred-001", reason="no"), NOW).task
        again = take_requests(next_attempt(denied), asking(wanted, attempt=2), config(), LATER)
        assert again.events == () and [grant.status for grant in again.task.grants] == ["denied"]

    def test_another_run_may_ask_for_as_much_and_has_nothing_of_the_one_before(self) -> None:
        wanted = [("npm_token", "publish", f"s{number}") for number in range(MAX_ASKED)]
        task = asked(*wanted)
        denied = apply_command(task, command("deny", approval="cred-001", reason="no"), NOW).task
        ended = denied.with_attempt(1, ended_at=NOW).evolve(state=State.COMPLETED)
        fresh = apply_command(ended, command("retry"), NOW).task
        assert {grant.status for grant in fresh.grants} == {"denied", "over"}
        fresh = next_attempt(fresh, rerun=2)
        assert told_credentials(fresh, 2) == ()
        again = take_requests(fresh, asking(*wanted, attempt=2), config(), LATER).task
        assert [grant.status for grant in again.grants[MAX_ASKED:]] == ["asked"] * MAX_ASKED
        assert len({grant.id for grant in again.grants}) == 2 * MAX_ASKED


class TestTold:
    def test_the_agents_reason_is_told_with_the_request_and_with_what_a_rule_granted(self) -> None:
        decision = take_requests(
            at_work(), asking(("npm_token", "publish", ""), ("npm_token", "read", "")), config(), NOW
        )
        assert [event.details["reason"] for event in decision.events] == ["it is needed"] * 2
        said = [sentence({"event": e.name, "actor": "rule", "details": e.details}) for e in decision.events]
        assert all(text.endswith("; it says: it is needed") for text in said)
        assert answers(decision.task)[0].text == "Let it have npm_token, publish; it says: it is needed"

    def test_whoever_decides_is_told_what(self) -> None:
        task = asked(("npm_token", "publish", ""))
        denied = apply_command(task, command("deny", approval="cred-001", reason="no"), NOW).task
        assert what_was_decided(task, denied) == "cred-001: npm_token, publish: denied by ada: no"
        granted = apply_command(task, command("approve"), NOW).task
        over = apply_command(granted, command("revoke", grant="cred-001"), NOW).task
        assert what_was_decided(granted, over).endswith("taken back: a person took it back")
        assert what_was_decided(over, over) == ""


class TestDecided:
    def test_a_person_grants_or_denies_it_by_its_name(self) -> None:
        task = asked(("npm_token", "publish", ""), ("npm_token", "publish", "@b"))
        task = apply_command(task, command("approve", approval="cred-002"), NOW).task
        task = apply_command(task, command("deny", approval="cred-001", reason="no"), NOW).task
        assert [(g.status, g.by, g.why) for g in task.grants] == [("denied", "ada", "no"), ("granted", "ada", "")]
        assert task.state is State.IN_PROGRESS
        with pytest.raises(CommandRefusedError):
            apply_command(task, command("approve", approval="cred-002").evolve(id="c2"), NOW)

    def test_a_task_that_stopped_for_it_goes_on_once_all_is_decided(self) -> None:
        task = asked(("npm_token", "publish", ""), ("npm_token", "publish", "@b"))
        task = task.with_attempt(1, ended_at=NOW).evolve(
            state=State.BLOCKED, waits_for=(Wait(reason=WaitReason.CREDENTIAL, message="npm", ref="cred-001"),)
        )
        task = apply_command(task, command("approve", approval="cred-001"), NOW).task
        assert task.state is State.BLOCKED
        task = apply_command(task, command("deny", approval="cred-002", reason="no"), NOW).task
        assert task.state is State.PENDING and task.failures == 0
        assert [item.code for item in task.feedback] == ["CREDENTIAL", "CREDENTIAL"]

    def test_what_is_decided_while_the_task_is_paused_lets_it_go_on_after(self) -> None:
        wait = Wait(reason=WaitReason.CREDENTIAL, message="npm", ref="cred-001")
        task = asked(("npm_token", "publish", "")).with_attempt(1, ended_at=NOW)
        task = apply_command(task.evolve(state=State.BLOCKED, waits_for=(wait,)), command("pause"), NOW).task
        task = apply_command(task, command("approve"), NOW).task
        assert (task.state, task.waits_for) == (State.PAUSED, ())
        task = apply_command(task, command("resume"), NOW).task
        assert task.state is State.PENDING and [item.code for item in task.feedback] == ["CREDENTIAL"]

    @pytest.mark.parametrize("kind", ["approve", "deny"])
    def test_an_agent_that_stops_just_after_it_was_decided_gets_another_attempt_once(self, kind: str) -> None:
        wanted = ("npm_token", "publish", "")
        task = after(apply_command(asked(wanted), command(kind), NOW).task, stops_for(wanted))
        assert (task.state, task.failures, task.attempts[0].verdict) == (State.PENDING, 0, "blocked")
        assert [item.code for item in task.feedback] == ["CREDENTIAL"]
        again = after(next_attempt(task), stops_for(wanted, attempt=2))
        assert (again.state, again.waits_for[0].reason) == (State.BLOCKED, WaitReason.CREDENTIAL)

    def test_one_that_asks_and_stops_in_one_report_is_heard(self) -> None:
        task = after(at_work(), stops_for(("npm_token", "read", "")))
        assert (task.state, task.grants[0].status) == (State.PENDING, "granted")
        task = after(at_work(), stops_for(("npm_token", "publish", "")))
        assert (task.state, task.grants[0].status) == (State.BLOCKED, "asked")

    @pytest.mark.parametrize("wanted", [("root_password", "read", ""), None])
    def test_what_a_rule_denies_and_what_was_not_asked_for_is_a_persons_matter(
        self, wanted: tuple[str, str, str] | None
    ) -> None:
        assert after(at_work(), stops_for(*[wanted] if wanted else [])).state is State.BLOCKED

    def test_what_was_given_can_be_taken_back(self) -> None:
        task = asked(("npm_token", "read", ""))
        task = apply_command(task, command("revoke", grant="cred-001"), NOW).task
        assert (task.grants[0].status, task.grants[0].by) == ("over", "ada")
        with pytest.raises(CommandRefusedError, match="nothing"):
            apply_command(task, command("revoke", grant="cred-001").evolve(id="c2"), NOW)


class TestGiven:
    def test_it_is_given_to_the_live_attempt_and_again_to_another_daemon(self) -> None:
        task = asked(("npm_token", "read", ""))
        assert to_give(task, None, NOW) == []
        (job,) = to_give(task, "age1one", NOW)
        assert told_credentials(task, 1)[0].status == "pending"
        task = settle_giving(task, job, Given("m"), NOW).task
        told = told_credentials(task, 1)[0]
        assert (told.status, told.file, told.recipient) == ("injected", "cred-001.age", "age1one")
        assert to_give(task, "age1one", NOW) == [] and len(to_give(task, "age1two", NOW)) == 1

    def test_the_next_attempt_gets_it_too_as_long_as_its_time_is_not_over(self) -> None:
        (job,) = to_give(asked(("npm_token", "read", "")), "age1one", NOW)
        task = settle_giving(asked(("npm_token", "read", "")), job, Given("m"), NOW).task
        both = (task.attempts[0].evolve(ended_at=NOW), make_attempt(number=2))
        next_one = task.evolve(attempts=both, attempt=2)
        assert [j.attempt for j in to_give(next_one, "age1one", NOW)] == [2]
        assert told_credentials(next_one, 2)[0].status == "pending"
        assert to_give(take_back(next_one, LATER).task, "age1one", LATER) == []

    def test_what_cannot_be_given_is_told_once_and_tried_later(self) -> None:
        task = asked(("npm_token", "read", ""))
        (job,) = to_give(task, "age1one", NOW)
        failed = Failed(code="E_NO_SECRET", message="There is no secret.", retryable=True)
        first = settle_giving(task, job, failed, NOW)
        assert [event.name for event in first.events] == ["credential.not_given"]
        assert to_give(first.task, "age1one", NOW) == []
        later = NOW + timedelta(hours=1)
        assert settle_giving(first.task, job, failed, later).events == ()

    @given(st.sampled_from([State.COMPLETED, State.CANCELLED]), st.integers(0, 3))
    def test_nothing_outlives_its_task(self, state: State, minutes: int) -> None:
        task = asked(("npm_token", "read", ""), ("npm_token", "publish", "")).evolve(state=state)
        now: datetime = NOW + timedelta(minutes=minutes)
        after = take_back(task, now)
        assert {grant.status for grant in after.task.grants} == {"over"}
        assert take_back(after.task, now).task == after.task


class TestRules:
    def judged(
        self, kind: str, access: str, scope: str = "", task: TaskRecord | None = None, **rule: Any
    ) -> Grant:
        """What becomes of a request where the type has these rules."""
        settings = {"access": {access: {"secret": "s"} | rule.pop("how", {})}} | rule
        report = asking((kind, access, scope))
        return take_requests(task or at_work(), report, config(**{kind: settings}), NOW).task.grants[-1]

    @pytest.mark.parametrize(
        ("kind", "env"), [("key", "PATH"), ("key", "LD_PRELOAD"), ("path", None), ("cloud_code_root", None)]
    )
    def test_no_secret_is_given_in_a_variable_by_which_programs_are_run(self, kind: str, env: str | None) -> None:
        with pytest.raises(ValueError, match="by which programs are run"):
            self.judged(kind, "read", env=env)
        for harmless in ("LDAP_PASSWORD", "GIT_SSH_KEY", "GIT_CONFIG_TOKEN", "PYTHON_INDEX_TOKEN"):
            assert self.judged("ldap", "read", env=harmless).type == "ldap"

    @pytest.mark.parametrize(
        ("kind", "access", "scope", "status"),
        [
            ("github_token", "read", "", "granted"),
            ("github_token", "read", "/srv/acme.git", "granted"),
            ("github_token", "read", "other/repository", "denied"),
            ("github_token", "write", "", "denied"),
            ("gitlab_token", "write", "", "denied"),
            ("pypi_token", "publish", "", "asked"),
            ("database_url", "read_write", "", "asked"),
            ("api_key", "read", "", "asked"),
            ("ssh_key", "read", "", "asked"),
        ],
    )
    def test_shipped_defaults(self, kind: str, access: str, scope: str, status: str) -> None:
        assert self.judged(kind, access, scope).status == status

    def test_somebody_may_say_otherwise(self) -> None:
        assert self.judged("github_token", "write", how={"granted": "by_person"}).status == "asked"
        assert self.judged("github_token", "read", "other/one", scopes=["other/*"]).status == "granted"

    def test_so_often_in_one_run_and_no_oftener(self) -> None:
        rules = config(npm_token={"access": {"read": {"secret": "s", "times": 2}}})
        task = at_work()
        for number in range(3):
            wanted = asking(*[("npm_token", "read", f"s{n}") for n in range(number + 1)])
            task = take_requests(task, wanted, rules, NOW).task
        assert [grant.status for grant in task.grants] == ["granted", "granted", "denied"]
        assert "has had it 2 times" in task.grants[-1].why

    def test_what_nobody_answers_is_denied_and_a_task_that_waits_stays(self) -> None:
        grant = self.judged("api_key", "read", answer_minutes=30)
        assert grant.answer_by == NOW + timedelta(minutes=30)
        wait = Wait(reason=WaitReason.CREDENTIAL, ref="cred-001")
        task = (
            at_work(grants=(grant,)).with_attempt(1, ended_at=NOW).evolve(state=State.BLOCKED, waits_for=(wait,))
        )
        assert take_back(task, NOW + timedelta(minutes=29)).task == task
        decision = take_back(task, NOW + timedelta(minutes=30))
        assert (decision.task.grants[0].status, decision.task.state) == ("denied", State.BLOCKED)
        assert decision.task.grants[0].why == "nobody answered in time"

    def test_an_administrator_only_where_that_is_said(self) -> None:
        grant = self.judged("api_key", "read", how={"approve": "admin"})
        task = at_work(grants=(grant,))
        writer = Actor(kind="forge", id="rea")

        def by(actor: Actor, kind: str) -> Command:
            return command(kind).evolve(actor=actor, channel="comment")

        with pytest.raises(CommandRefusedError, match="administrator"):
            apply_command(task, by(writer, "approve"), NOW)
        denied = apply_command(task, by(writer, "deny"), NOW).task
        assert denied.grants[0].status == "denied"
        for actor in (writer.evolve(is_admin=True), Actor(id="ada")):
            granted = apply_command(task, by(actor, "approve"), NOW)
            assert granted.task.grants[0].status == "granted"

    def test_the_books_say_who_granted_it_and_with_which_words(self) -> None:
        task = at_work(grants=(self.judged("api_key", "read"),))
        decided = apply_command(task, command("approve", approval="cred-001", note="until Friday"), NOW)
        (event,) = [event for event in decided.events if event.name == "credential.granted"]
        assert (event.actor, event.details["via"], event.details["text"]) == ("ada", "cli", "until Friday")

    def test_a_key_of_ssh_comes_as_a_file(self) -> None:
        assert self.judged("ssh_key", "read").deliver == "file"
        assert self.judged("npm_token", "read").deliver == "environment"
        assert self.judged("npm_token", "read", deliver="file").deliver == "file"


class TestOutOfReach:
    """What is granted and cannot be had now: the task waits for that, and goes on by itself."""

    SEALED = Failed(code="E_VAULT_SEALED", message="Vault is sealed.", retryable=True)

    def lacking(self) -> TaskRecord:
        task = asked(("npm_token", "read", ""))
        (job,) = to_give(task, "age1one", NOW)
        return settle_giving(task, job, self.SEALED, NOW).task

    def blocked(self) -> TaskRecord:
        return after(self.lacking(), stops_for(("npm_token", "read", "")))

    def test_the_agent_is_told_and_one_that_stops_waits_for_it(self) -> None:
        assert "E_VAULT_SEALED: Vault is sealed." in (told_credentials(self.lacking(), 1)[0].reason or "")
        (wait,) = self.blocked().waits_for
        assert (wait.reason, wait.ref) == (WaitReason.CREDENTIAL, "cred-001")
        assert "cred-001 (npm_token) is granted and cannot be had now" in wait.message

    def test_it_is_looked_for_again_and_the_task_goes_on(self) -> None:
        task, later = self.blocked(), NOW + timedelta(seconds=40)
        assert to_probe(task, NOW) == []
        (job,) = to_probe(task, later)
        task = settle_probe(task, job, self.SEALED, later).task
        assert task.state is State.BLOCKED and to_probe(task, later) == []
        for _ in range(9):
            (job,) = to_probe(task, later := later + timedelta(seconds=31))
            task = settle_probe(task, job, self.SEALED, later).task
        task = settle_probe(task, job, None, later).task
        assert (task.state, task.waits_for, task.failures) == (State.PENDING, (), 0)
        assert to_probe(task, later) == []

    def test_its_time_begins_when_it_can_be_had(self) -> None:
        task = take_back(self.lacking(), LATER).task
        grant = task.grants[0]
        assert grant.status == "granted" and grant.expires_at == LATER + timedelta(minutes=60)

    def test_what_an_answer_to_another_wait_says_changes_nothing(self) -> None:
        (job,) = to_probe(self.blocked(), LATER)
        for other in (at_work(), self.lacking(), asked(("npm_token", "read", ""))):
            assert settle_probe(other, job, None, LATER).task == other


class TestAnotherValue:
    def test_it_is_given_anew_without_being_taken_back(self) -> None:
        task = asked(("npm_token", "read", ""))
        (job,) = to_give(task, "age1one", NOW)
        task = settle_giving(task, job, Given("m"), NOW).task
        before = told_credentials(task, 1)[0]
        stale = mark_stale(task, "cred-001", "its value is another one now")
        assert [event.name for event in stale.events] == ["credential.refreshed"]
        assert mark_stale(stale.task, "cred-001", "x").events == ()
        assert told_credentials(stale.task, 1)[0] == before
        (job,) = to_give(stale.task, "age1one", NOW)
        task = settle_giving(stale.task, job, Given("n"), NOW).task
        assert told_credentials(task, 1)[0].delivery == before.delivery + 1 and to_give(task, "age1one", NOW) == []
        over = take_back(task, LATER).task
        assert mark_stale(over, "cred-001", "x").task == over


def test_names_and_rules_that_are_usual() -> None:
    settings = CredentialSettings(access={"read": AccessSettings(secret="a")})
    assert variable_of("npm_token", settings) == "NPM_TOKEN" and variable_of("my-key", settings) == "MY_KEY"
    rule = AccessSettings(secret="a")
    assert (
        granted_by("ssh_key", "read", rule) == "by_person" and granted_by("npm_token", "read", rule) == "by_rule"
    )
    assert granted_by("npm_token", "read", rule.model_copy(update={"granted": "by_person"})) == "by_person"


def test_a_record_keeps_them(tmp_path: object) -> None:
    task = asked(("npm_token", "read", ""))
    assert TaskRecord.model_validate(task.model_dump(mode="json")) == task
    assert isinstance(task.grants[0], Grant)
