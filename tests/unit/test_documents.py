"""The documents name everything that there is: settings, keys of task files, codes of errors, events."""

import ast
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from agent_daemon.clis import ADAPTERS
from agent_daemon.protocol import model
from agent_daemon.protocol.codec import decode, decode_framed
from agent_daemon.protocol.model import AgentConfig, FeedbackFile, Reporting, Tasking, WorkstationFile
from agent_daemon.protocol.outcomes import ENDS, code_of
from supervisor.config import parse_config
from supervisor.core.life import StationState
from supervisor.core.settings import Config
from supervisor.core.states import TRANSITIONS
from supervisor.core.task_file import TaskFile

HERE = Path(__file__).parents[2]
DOCS = HERE / "docs"
SOURCES = [*HERE.glob("supervisor/**/*.py"), *HERE.glob("agent_daemon/**/*.py")]
CODE = re.compile(r"(?<![A-Za-z_])E_[A-Z][A-Z0-9_]*[A-Z0-9](?![A-Z0-9_])")


def fields_of(kind: Any, seen: frozenset[Any] = frozenset()) -> set[str]:
    """The names of all fields of a model and of the models in it."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if kind in seen:
            return set()
        inner = [fields_of(field.annotation, seen | {kind}) for field in kind.model_fields.values()]
        return set(kind.model_fields).union(*inner)
    return set().union(*(fields_of(argument, seen) for argument in get_args(kind)), set())


def quoted(document: str) -> set[str]:
    """Every word within backticks, outside of the examples."""
    text = re.sub(r"^```.*?^```$", "", (DOCS / document).read_text(), flags=re.MULTILINE | re.DOTALL)
    return {word for part in re.findall(r"`([^`]+)`", text) for word in re.findall(r"[\w-]+", part)}


# Keys of what is reserved for later, which the protocol's page names only as a whole.
RESERVED = (fields_of(model.Credential) | fields_of(model.CredentialRequest)) - {"status"}


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ("configuration.md", Config),
        ("task-files.md", TaskFile),
        *(("protocol.md", kind) for kind in (Tasking, AgentConfig, FeedbackFile, Reporting, WorkstationFile)),
    ],
)
def test_every_key_is_told(document: str, kind: type[BaseModel]) -> None:
    assert fields_of(kind) - RESERVED - quoted(document) == set(), f"docs/{document} does not name them"


def raised_codes() -> set[str]:
    """Every code in a string of our programs; what only looks like one in other words is not."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(CODE.findall(node.value))
    failing = {outcome for outcome, end in ENDS.items() if outcome != "completed" and end.reason is None}
    return found | {code_of(outcome) for outcome in failing}


def listed_codes() -> set[str]:
    rows = re.findall(r"^\| `(E_[A-Z0-9_]+)` \|", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows)), "a code stands twice"
    return set(rows)


def test_every_code_has_a_cause_and_a_mend() -> None:
    assert raised_codes() - listed_codes() == set(), "list them in docs/troubleshooting.md"
    assert listed_codes() - raised_codes() == set(), "nothing raises them any more"


def test_each_row_of_the_codes_is_whole() -> None:
    for line in (DOCS / "troubleshooting.md").read_text().splitlines():
        if line.startswith("| `E_"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == 3, line
            assert all(cells), line


def test_the_adapters_and_their_options_are_told() -> None:
    for name, adapter in ADAPTERS.items():
        assert {name, *adapter.OPTIONS} <= quoted("coding-clis.md")


def test_the_table_of_states_is_told() -> None:
    text = (DOCS / "protocol.md").read_text()
    table = text[text.index("### States of the task") :]
    told = {state: set[str]() for state in TRANSITIONS}
    for sources, targets in re.findall(r"^\| ([a-z_, ]+) \| (.+) \|$", table, re.MULTILINE):
        for source in sources.split(", "):
            if source in told:
                names = set(told) - {"completed", "cancelled", source} if "every state" in targets else set()
                told[source] |= names | {word for word in re.findall(r"[a-z_]+", targets) if word in set(told)}
    assert told == {source: set(targets) for source, targets in TRANSITIONS.items()}


def test_every_state_of_a_workstation_is_told() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \|", (DOCS / "workstations.md").read_text(), re.MULTILINE)
    assert set(StationState) <= set(rows)


@pytest.mark.parametrize("path", [HERE / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target}"


@pytest.mark.parametrize("path", [HERE / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda path: path.name)
def test_anchors_lead_somewhere(path: Path) -> None:
    for name, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", path.read_text()):
        if "://" not in name:
            text = ((path.parent / name) if name else path).read_text()
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{path.name}: {name}#{anchor}"


COMPLETED = {
    "projects": "projects: {a: {repository: /srv/a.git}}",
    "workstations": "workstations: {frontend: {clis: [codex]}, backend: {clis: [codex]}}",
}


def examples() -> list[tuple[str, str]]:
    """Every example in YAML, with the name of its document."""
    found = []
    for path in (HERE / "README.md", *sorted(DOCS.glob("*.md"))):
        blocks = re.findall(r"^```yaml\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
        found += [(path.name, block) for block in blocks]
    return found


@pytest.mark.parametrize(("document", "text"), examples())
def test_the_examples_are_right(document: str, text: str) -> None:
    data, keys = text.encode(), set(re.findall(r"^(\w+):", text, re.MULTILINE))
    if "end" in keys:
        assert decode_framed(Reporting, data, file=document).tasks
    elif "title" in keys:
        assert decode(TaskFile, data, file=document).title
    else:
        lines = [line for key, line in COMPLETED.items() if key not in keys]
        assert parse_config("\n".join([*lines, text]).encode(), file=document).projects
