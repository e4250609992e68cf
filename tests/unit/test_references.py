"""What the schema of the configuration lets pass and no run could use is told before anything starts."""

import json
from typing import Any

import pytest

from agent_daemon.protocol.errors import Problem
from supervisor.config import parse_config
from supervisor.core.intake import text_of
from supervisor.core.settings import Config
from supervisor.errors import CloudCodeError
from tests.unit.test_view import draft


def problems_of(**changes: Any) -> list[Problem]:
    """What is said of a configuration that would be right without these changes."""
    value = {
        "projects": {"acme": {"repository": "/srv/acme.git"}},
        "workstations": {"backend": {"clis": ["codex"]}},
    } | changes
    try:
        parse_config(json.dumps(value).encode(), file="config.yaml")
    except CloudCodeError as error:
        return list(error.problems)
    return []


def project(**changes: Any) -> dict[str, Any]:
    return {"acme": {"repository": "/srv/acme.git"} | changes}


def test_a_right_one_has_no_faults() -> None:
    assert problems_of() == []


LONG = "a" * 40


@pytest.mark.parametrize(
    ("changes", "code", "place", "said"),
    [
        ({"projects": {"isolated": {"repository": "/x"}}}, "E_NAME", "projects.isolated", "isolated"),
        ({"workstations": {LONG: {"clis": ["codex"]}}}, "E_NAME", f"workstations.{LONG}", "at most 39 characters"),
        ({"projects": project(base_branch="a..b")}, "E_BRANCH_NAME", "projects.acme.base_branch", "a..b"),
        (
            {"projects": project(repository="https://me:secret@host/x")},
            "E_CREDENTIAL_IN_URL",
            "projects.acme.repository",
            "take it out",
        ),
        ({"projects": project(repository="http://host/x")}, "E_URL", "projects.acme.repository", "https://"),
        (
            {"projects": project(verification=[{"name": "a", "command": "b"}] * 2)},
            "E_SCHEMA",
            "projects.acme.verification",
            "the same name",
        ),
        (
            {"projects": project(trust_domain="x")},
            "E_REFERENCE",
            "projects.acme.trust_domain",
            "`trust_domain: x`",
        ),
        (
            {"clis": {"claude": {"adapter": "claude"}}},
            "E_REFERENCE",
            "clis.claude.adapter",
            "did you mean `claude-code`",
        ),
        ({"clis": {"codx": {}}}, "E_REFERENCE", "clis.codx", "did you mean `codex`?"),
        ({"clis": {"mine": {"adapter": "command"}}}, "E_REFERENCE", "clis.mine", "argv"),
        (
            {"workstations": {"backend": {"clis": ["command"]}}},
            "E_REFERENCE",
            "workstations.backend.clis[0]",
            "`clis.command`",
        ),
        (
            {"clis": {"codex": {"options": {"base_ur": "http://127.0.0.1"}}}},
            "E_REFERENCE",
            "clis.codex.options.base_ur",
            "did you mean `base_url`?",
        ),
        (
            {"clis": {"aider": {"mcp": {"file": "mcp.json"}}}},
            "E_REFERENCE",
            "clis.aider.mcp",
            "aider takes no MCP servers",
        ),
        (
            {"clis": {"codex": {"mcp": {"servers": {"docs": {}}}}}},
            "E_SCHEMA",
            "clis.codex.mcp.servers.docs",
            "say how to reach it",
        ),
        (
            {"clis": {"codex": {"arguments": ["--api-key", "f00" * 8]}}},
            "E_SECRET_IN_CONFIG",
            "clis.codex.arguments[1]",
            "pass_environment",
        ),
        (
            {"clis": {"codex": {"mcp": {"servers": {"docs": {"command": ["docs", "--token=" + "f00" * 8]}}}}}},
            "E_SECRET_IN_CONFIG",
            "clis.codex.mcp.servers.docs.command[1]",
            "looks like a secret",
        ),
        (
            {"clis": {"codex": {"environment": {"OPENAI_API_KEY": "sk-" + "f00" * 8}}}},
            "E_SECRET_IN_CONFIG",
            "clis.codex.environment.OPENAI_API_KEY",
            "looks like a secret",
        ),
        ({"routing": {"backnd": ["api"]}}, "E_REFERENCE", "routing.backnd", "did you mean `backend`?"),
    ],
)
def test_a_fault_is_told_with_its_place_what_was_expected_and_what_to_do(
    changes: dict[str, Any], code: str, place: str, said: str
) -> None:
    (problem,) = problems_of(**changes)
    assert (problem.code, problem.place) == (code, place)
    assert problem.line is not None and problem.mend and said in str(problem)
    assert problem.expected or problem.code == "E_SCHEMA"


def test_the_longest_name_that_fits_depends_on_the_count() -> None:
    assert problems_of(workstations={"a" * 39: {"clis": ["codex"], "count": 9}}) == []
    assert "at most 38" in str(problems_of(workstations={"a" * 39: {"clis": ["codex"], "count": 10}})[0])


@pytest.mark.parametrize("typo", ["projets: {a: {repository: /x}}", "projects: {a: {repositry: /x}}"])
def test_a_mistyped_key_is_one_mistake_and_not_a_missing_one_too(typo: str) -> None:
    with pytest.raises(CloudCodeError) as raised:
        parse_config(typo.encode(), file="config.yaml")
    (problem,) = raised.value.problems
    assert problem.code == "E_UNKNOWN_KEY" and "did you mean" in problem.mend


def test_a_missing_key_is_told_beside_another_that_is_not_known() -> None:
    with pytest.raises(CloudCodeError) as raised:
        parse_config(b"projects: {a: {quite_other: /x}}", file="config.yaml")
    assert {problem.code for problem in raised.value.problems} == {"E_SCHEMA", "E_UNKNOWN_KEY"}


def test_what_leads_nowhere_is_told_together_with_what_the_schema_refuses() -> None:
    found = problems_of(
        workstations={"backend": {"clis": ["codx", "mine"], "cont": 3}},
        clis={
            "codex": {"modle": "x", "options": {"bas_url": "http://x"}},
            "mine": {"adaptor": "command", "argv": ["a"]},
        },
        prices={"gpt-5": {"input": "much", "output": 1}, "gpt-6": {"input": 1}},
        budgets={"all": {"usd": 5, "project": "acmee"}},
    )
    assert sorted(problem.place or "" for problem in found) == [
        "budgets.all.project",
        "clis.codex.modle",
        "clis.codex.options.bas_url",
        "clis.mine.adaptor",  # and not that `mine` has no adapter
        "prices.gpt-5.input",
        "prices.gpt-6.output",
        "workstations.backend.clis[0]",
        "workstations.backend.cont",
    ]
    assert [problem.line for problem in found] == sorted(problem.line or 0 for problem in found)


@pytest.mark.parametrize(
    "changes",
    [
        {"clis": {"mine": "codex"}, "workstations": {"backend": {"clis": ["mine"]}}},
        {
            "workstations": {"backend": {"clis": ["codex"], "trust_domain": []}},
            "projects": project(trust_domain="x"),
        },
        {"workstations": {"backend": {"clis": "codex"}}, "routing": {"backend": ["api"]}},
        {"projects": {"acme": {}}, "budgets": {"all": {"usd": 1, "project": "acme"}}},
        {"clis": {"mine": {"adapter": ["command"], "options": {"x": "y"}, "argv": ["a"]}}},
    ],
)
def test_nothing_is_said_to_lead_nowhere_for_what_the_schema_refuses(changes: dict[str, Any]) -> None:
    (problem,) = problems_of(**changes)
    assert problem.code == "E_SCHEMA"


def test_a_name_that_is_none_is_told_in_words() -> None:
    (problem,) = problems_of(projects={"My Shop": {"repository": "/x"}})
    assert problem.message == "the name 'My Shop' cannot be used"
    assert problem.expected == "a small letter, then up to 40 of a-z, 0-9 and -"


def test_a_task_goes_to_a_type_that_serves_its_project(config: Config) -> None:
    domains = {"backend": "default", "customer": "customers"}
    stations = {kind: {"clis": ["codex"], "trust_domain": domain} for kind, domain in domains.items()}
    ours = {"repository": "/srv/a.git", "trust_domain": "customers"}
    made = Config.model_validate({"projects": {"acme": ours}, "workstations": stations})
    assert text_of(draft("a", "h"), made)["specialist"] == "customer"
    assert text_of(draft("a", "h", labels=["backend"]), made)["specialist"] == "customer"
