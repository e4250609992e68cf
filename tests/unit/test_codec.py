"""Files to models and back: equal after a round trip, never read when cut short, refused in plain words."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from agent_daemon.protocol.codec import decode, decode_framed, encode
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.yaml_reader import NOT_YAML, Limits
from supervisor.core.settings import Config
from tests.site import at_best


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Step(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str = ""
    at: AwareDatetime | None = None
    notes: tuple[str, ...] = ()


class Report(BaseModel):
    """As the two programs write it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    revision: Annotated[int, Field(ge=0)]
    requires: tuple[str, ...] = ()
    summary: str = ""
    done: bool = False
    share: float = 0.0
    colour: Colour = Colour.RED
    steps: tuple[Step, ...] = ()
    by_name: dict[str, tuple[Step, ...]] = Field(default_factory=dict)
    table: tuple[tuple[str, ...], ...] = ()


class Dependency(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    until: Literal["verified", "merged"] = "verified"


class Order(BaseModel):
    """As a person writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    priority: Literal["critical", "high", "medium", "low"] = "medium"
    minutes: Annotated[int, Field(ge=1, le=600)] = 30
    due: AwareDatetime | None = None
    urgent: bool = False
    labels: Annotated[tuple[str, ...], Field(max_length=3)] = ()
    after: tuple[str | Dependency, ...] = ()
    named: dict[str, Dependency] = Field(default_factory=dict)
    kind: str = Field(default="task", alias="type")
    colour: Colour | None = None

    @field_validator("title")
    @classmethod
    def _title(cls, title: str) -> str:
        if "\n" in title:
            raise ValueError("a title is one line")
        return title

    @model_validator(mode="after")
    def _one(self) -> "Order":
        if self.title == "many":
            raise PydanticCustomError("E_MANY_TASKS", "there are two tasks")
        return self


ODD = st.sampled_from([
    *"\n\n\n   \t\tab:-#|>!&*?%@`\"'{}[],.~0\x85\u2028\u2029\xa0\ufeff\r\x7f\x80\0\ud800😀é=<\\",
    *["null", "1:30", "no", "---", "...", "\n\n", " \n", "\t\n", "\n ", "\n\t", "- ", "<<", " #", ": ", "\r\n"],
])  # fmt: skip
TEXTS = st.one_of(
    st.lists(ODD, max_size=10).map("".join),
    st.text(st.characters(exclude_categories=[]), max_size=30),
    st.sampled_from(
        ["", "no", "1:30", "017", ".nan", "~", "x  \ny", "  x\ny", "\tx\ny", "x\n\n", "\n", " ", "\n \n"]
    ),
)
TIMES = st.datetimes(
    min_value=datetime(2, 1, 1),
    max_value=datetime(9998, 1, 1),
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
STEPS = st.builds(Step, name=TEXTS, at=st.none() | TIMES, notes=st.lists(TEXTS, max_size=3).map(tuple))
REPORTS = st.builds(
    Report,
    revision=st.integers(0, 10**9),
    summary=TEXTS,
    done=st.booleans(),
    share=st.floats(allow_nan=False, allow_infinity=False),
    colour=st.sampled_from(Colour),
    steps=st.lists(STEPS, max_size=3).map(tuple),
    by_name=st.dictionaries(TEXTS.filter(bool), st.lists(STEPS, max_size=2).map(tuple), max_size=2),
    table=st.lists(st.lists(TEXTS, max_size=3).map(tuple), max_size=3).map(tuple),
)


def cleaned(value: Any) -> Any:
    """With U+FFFD for what YAML cannot hold."""
    if isinstance(value, str):
        return NOT_YAML.sub("\ufffd", value)
    if isinstance(value, dict):
        return {cleaned(key): cleaned(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(cleaned(inner) for inner in value)
    return value


def problems(model: type[BaseModel], text: str) -> list[Problem]:
    with pytest.raises(ProtocolError) as caught:
        decode(model, text.encode(), file="order.yaml")
    assert all(problem.file == "order.yaml" for problem in caught.value.problems)
    return list(caught.value.problems)


def problem(model: type[BaseModel], text: str) -> Problem:
    found = problems(model, text)
    assert len(found) == 1, found
    return found[0]


def framed_code(data: bytes, model: type[BaseModel] = Report) -> str:
    with pytest.raises(ProtocolError) as caught:
        decode_framed(model, data, file="reporting.yaml")
    return caught.value.problem.code


# --- writing and reading back -------------------------------------------------------------------------


@given(REPORTS)
def test_what_is_written_reads_back_equal(report: Report) -> None:
    wanted = Report(**cleaned(report.model_dump()))
    assert decode_framed(Report, encode(report, end=True), file="f") == wanted
    assert decode(Report, encode(report, schema="report.schema.json"), file="f") == wanted


CUT_KEYS = Report(version=1, revision=0, by_name={"k": (), "k:x": ()}, table=(("<<:a",),))
CUT_BLOCK_KEY = Report(version=1, revision=0, by_name={" ": (), "  x\ny": (), "x": (), "x\nz": ()})


@given(REPORTS)
@example(CUT_KEYS)
@example(CUT_BLOCK_KEY)
def test_a_file_that_is_cut_anywhere_is_never_read(report: Report) -> None:
    data = encode(report, end=True)
    for length in {*range(min(len(data), 40)), *range(max(0, len(data) - 40), len(data))}:
        assert framed_code(data[:length]) == "E_UNFINISHED"


@pytest.mark.parametrize("revision", [0, 3, 31, 310])
def test_no_prefix_of_a_report_is_read(revision: int) -> None:
    step = Step(
        name="write: the form", at=datetime(2026, 1, 7, tzinfo=UTC), notes=("end: 3", "é 😀", "*x", "&y", "!z")
    )
    report = Report(
        revision=revision,
        summary=f"First\n\nend: {revision}\n  end: 3\n",
        steps=(step, step),
        by_name={"end": (step,)},
    )
    for data in (
        encode(report, end=True),
        encode(report, end=True, schema="s.json"),
        encode(report, end=True).replace(b"\n", b"\r\n"),
    ):
        decode_framed(Report, data, file="f")
        assert {framed_code(data[:length]) for length in range(len(data))} == {"E_UNFINISHED"}


ORDINARY = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]) | st.sampled_from("\né€"), max_size=60)


@given(ORDINARY)
def test_other_programs_read_ordinary_text_too(text: str) -> None:
    read = yaml.safe_load(encode(Report(revision=1, summary=text), end=True))
    assert read == {
        "version": 1,
        "revision": 1,
        "requires": [],
        "summary": text,
        "done": False,
        "share": 0.0,
        "colour": "red",
        "steps": [],
        "by_name": {},
        "table": [],
        "end": 1,
    }


def test_how_a_file_looks() -> None:
    at = datetime(2026, 1, 7, 11, 30, tzinfo=timezone(timedelta(hours=1)))
    text = "Fix it:\n\n\t- now  \n    and 😀 é\n"
    step = Step(name="🚀 no", at=at, notes=("no", "a\nb", "1:30", "x" * 300))
    assert encode(Report(revision=7, summary=text, steps=(step,)), schema="r.json", end=True).decode() == (
        "# yaml-language-server: $schema=r.json\n"
        "version: 1\nrevision: 7\nrequires: []\n"
        "summary: |\n  Fix it:\n\n  \t- now  \n      and 😀 é\n"
        "done: false\nshare: 0.0\ncolour: red\n"
        "steps:\n- name: 🚀 no\n  at: 2026-01-07T10:30:00Z\n  notes:\n  - 'no'\n  - |-\n    a\n    b\n  - '1:30'\n"
        f"  - {'x' * 300}\n"
        "by_name: {}\ntable: []\nend: 7\n"
    )


def test_what_cannot_be_written_is_told() -> None:
    class Loose(BaseModel):
        at: datetime | None = None
        share: float = 0.0

    with pytest.raises(ValueError, match="has no zone"):
        encode(Loose(at=datetime(2026, 1, 7)))
    with pytest.raises(ValueError, match="not finite"):
        encode(Loose(share=float("nan")))
    with pytest.raises(ValueError, match="does not begin with `version` and `revision`"):
        encode(Loose(), end=True)


def test_keys_that_cannot_be_read_are_never_written() -> None:
    class Table(BaseModel):
        cells: dict[str, str]

    data = encode(Table(cells={"\0": "first", "\x01": "second", "": "third", "<<": "x", "null": "y"}))
    assert decode(Table, data, file="f").cells == {"\ufffd": "third", "<<": "x", "null": "y"}


def test_sets_paths_and_equal_values_are_written_plainly() -> None:
    class Mixed(BaseModel):
        names: frozenset[str]
        colours: set[Colour]
        path: Path
        first: Step
        second: Step

    step = Step(name="a", notes=("b",))
    mixed = Mixed(names=frozenset("cab"), colours={Colour.RED}, path=Path("a/b"), first=step, second=step)
    data = encode(mixed)
    assert data.startswith(b"names:\n- a\n- b\n- c\ncolours:\n- red\npath: a/b\nfirst:\n")
    assert decode(Mixed, data, file="f") == mixed


def test_without_libyaml_the_same_is_written(tmp_path: Path) -> None:
    program = tmp_path / "write.py"
    program.write_text(
        "import sys\n"
        "if sys.argv[1] == 'python': sys.modules['yaml._yaml'] = None\n"
        "import yaml\n"
        "from pydantic import BaseModel\n"
        "from agent_daemon.protocol.codec import decode_framed, encode\n"
        "class Model(BaseModel):\n"
        "    revision: int = 3\n"
        "    version: int = 1\n"
        "    texts: list[str] = ['no', 'a\\nb\\n', 'x\\n\\n', '\\ta\\nb', ' a\\nb', '\\x85', 'a: b', 'a \\nb']\n"
        "data = encode(Model(), end=True)\n"
        "assert decode_framed(Model, data, file='f') == Model()\n"
        "assert hasattr(yaml, 'CSafeDumper') == (sys.argv[1] != 'python')\n"
        "sys.stdout.buffer.write(data)\n"
    )
    folder = Path(__file__).parents[2]
    written = [
        subprocess.run(
            [sys.executable, str(program), which],
            cwd=folder,
            env={"PYTHONPATH": str(folder)},
            capture_output=True,
            check=True,
        ).stdout
        for which in (["usual", "python"] if hasattr(yaml, "CSafeDumper") else ["python", "python"])
    ]
    assert written[0] == written[1]


# --- the frame ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"version: 1\nrevision: 3\nend: 4\n", "E_UNFINISHED"),
        (b"version: 1\nrevision: 03\nend: 03\n", "E_UNFINISHED"),
        (b"version: 1\nrevision: -3\nend: -3\n", "E_UNFINISHED"),
        (b"version: 1\nrevision: {a: 1}\nend: 1\n", "E_UNFINISHED"),
        (b"version: 1\nrevision:\nend: 1\n", "E_UNFINISHED"),
        (b"version: 1\nrevision: 3\nend: 3\nsummary: x\n", "E_UNFINISHED"),
        (b"version: 1\nrevision: 3\nend: 3\n\n", "E_UNFINISHED"),
        (b"version: 1\nrevision: 3\nend: 3", "E_UNFINISHED"),
        (b"version: 1\nsummary: x\nrevision: 3\nend: 3\n", "E_UNFINISHED"),
        (b"summary: x\nversion: 1\nrevision: 3\nend: 3\n", "E_UNFINISHED"),
        (b"version: 1\nend: 3\n", "E_UNFINISHED"),
        (b"end: 3\n", "E_UNFINISHED"),
        (b"version: 1\nrevision: 3\nsummary: {a: 1,\nend: 3\n", "E_YAML"),
        (b"version: 1\nrevision: 3\nsummary: &x 1\n", "E_ANCHOR"),
        (b"version: 2\nrevision: 3\nend: 3\n", "E_VERSION"),
        (b"version: one\nrevision: 3\nend: 3\n", "E_VERSION"),
        (b"revision: 3\nend: 3\n", "E_VERSION"),
        (b"version: 1\nrevision: 3\nrequires: [fleet]\nend: 3\n", "E_REQUIRES"),
        (b"version: 1\nrevision: 3\nrequires: fleet\nend: 3\n", "E_REQUIRES"),
        (b"version: 1\nrevision: 3\nsteps: 1\nend: 3\n", "E_SCHEMA"),
    ],
)
def test_a_frame_that_is_not_whole_is_refused(data: bytes, code: str) -> None:
    assert framed_code(data) == code


def test_the_smallest_frames_are_read() -> None:
    class Smallest(BaseModel):
        revision: int

    for data in (
        b"version: 1\nrevision: 0\nend: 0\n",
        b"# made by hand\nrevision: 0\nversion: 1\nnew: key\nend:  0\r\n",
    ):
        assert decode_framed(Smallest, data, file="f") == Smallest(revision=0)


def test_what_is_required_must_be_understood() -> None:
    data = b"version: 1\nrevision: 3\nrequires: [fleet, chains]\nend: 3\n"
    understood = frozenset({"fleet", "chains"})
    assert decode_framed(Report, data, file="f", understood=understood).requires == ("fleet", "chains")
    assert decode(Report, data, file="f", understood=understood).revision == 3
    with pytest.raises(ProtocolError, match="requires 'chains'"):
        decode_framed(Report, data, file="f", understood=frozenset({"fleet"}))
    with pytest.raises(ProtocolError, match="requires 'fleet'"):
        decode(Report, data, file="f")
    assert problem(Report, "version: 2\nrevision: 3\n").code == "E_VERSION"


# --- what a person wrote ------------------------------------------------------------------------------


def test_an_order_is_read() -> None:
    text = "title: Fix it\ntype: bug\nminutes: 45\nurgent: true\ndue: 2026-01-07T10:30:00Z\n"
    text += "after: [a, {task: b}]\nlabels:\n- no\n"
    assert decode(Order, text.encode(), file="f") == Order(
        title="Fix it",
        type="bug",
        minutes=45,
        urgent=True,
        due=datetime(2026, 1, 7, 10, 30, tzinfo=UTC),
        after=("a", Dependency(task="b")),
        labels=("no",),
    )


@pytest.mark.parametrize(
    ("text", "place", "line", "nearest"),
    [
        ("title: x\nprioritty: high\n", "prioritty", 2, "priority"),
        ("title: x\ntyp: bug\n", "typ", 2, "type"),
        ("title: x\nafter:\n- task: a\n  untl: merged\n", "after[0].untl", 4, "until"),
        ("title: x\nnamed:\n  one: {task: a, untill: merged}\n", "named.one.untill", 3, "until"),
    ],
)
def test_an_unknown_key_names_the_nearest_right_one(text: str, place: str, line: int, nearest: str) -> None:
    found = problem(Order, text)
    assert (found.code, found.place, found.line) == ("E_UNKNOWN_KEY", place, line)
    assert found.mend == f"did you mean `{nearest}`?"
    assert nearest in found.expected


def test_an_unknown_key_like_no_other_is_to_be_removed() -> None:
    found = problem(Order, "title: x\nzzz: 1\n")
    assert (found.mend, found.expected.split(", ")[:2]) == ("remove it", ["one of title", "priority"])


@pytest.mark.parametrize(
    ("line", "place", "expected", "message"),
    [
        ("priority: hgih", "priority", "one of critical, high, medium, low", "'hgih'"),
        ("minutes: soon", "minutes", "a whole number", "'soon'"),
        ("minutes: 0", "minutes", "at least 1", "'0'"),
        ("minutes: 601", "minutes", "at most 600", "'601'"),
        ("minutes: [1]", "minutes", "a whole number", "['1']"),
        ("due: tomorrow", "due", "a time such as 2026-01-07T10:30:00Z", "'tomorrow'"),
        ("due: 2026-01-07T10:30:00", "due", "a time such as 2026-01-07T10:30:00Z", "'2026-01-07T10:30:00'"),
        ("urgent: maybe", "urgent", "true or false", "'maybe'"),
        ("labels: a", "labels", "a list", "'a'"),
        ("labels: [a, b, c, d]", "labels", "at most 3 entries", "['a', 'b', 'c', 'd']"),
        ("labels: [a, {b: c}]", "labels[1]", "text", "{'b': 'c'}"),
        ("labels:", "labels", "a list", "empty"),
        ("named: [a]", "named", "a mapping", "['a']"),
        ("named: {a: b}", "named.a", "a mapping", "'b'"),
        ("named: {a: {}}", "named.a.task", "`task: …`", "the key `task` is missing"),
        ("after: [{until: merged}]", "after[0].task", "`task: …`", "the key `task` is missing"),
        ("after: [[a]]", "after[0]", "text or a mapping", "['a']"),
        ("colour: blue", "colour", "one of red, green", "'blue'"),
        ("type: [" + "x" * 200 + "]", "type", "text", "xxx...xxx"),
    ],
)
def test_a_wrong_value_is_told_in_words(line: str, place: str, expected: str, message: str) -> None:
    found = problem(Order, f"title: x\n\n{line}\n")
    assert (found.code, found.place, found.line, found.expected) == ("E_SCHEMA", place, 3, expected)
    assert message in found.message
    assert len(found.message) < 100
    assert found.mend


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("prices: {x: 3}", "`{input: …, output: …}`"),
        ("budgets: {everything: 20}", "`{usd: 20}`"),
        ("credentials: {npm_token: {access: {read: npm/read}}}", "`{secret: npm/read}`"),
    ],
)
def test_a_value_in_the_place_of_a_mapping_is_told_the_form(line: str, form: str) -> None:
    (found,) = problems(Config, f"projects: {{a: {{repository: /r}}}}\n{line}\n")
    assert found.expected == "a mapping" and found.mend == f"write a mapping such as {form}"


def test_all_problems_are_told_at_once_in_the_order_of_the_lines() -> None:
    found = problems(Order, "minutes: x\nprioritty: high\nafter:\n- a\n- {task: a, until: sometime}\n")
    assert [(each.line, each.place, each.code) for each in found] == [
        (1, "title", "E_SCHEMA"),
        (1, "minutes", "E_SCHEMA"),
        (2, "prioritty", "E_UNKNOWN_KEY"),
        (5, "after[1].until", "E_SCHEMA"),
    ]
    assert (
        str(found[1]) == "order.yaml:1: E_SCHEMA: the value is 'x' (minutes); expected a whole number; correct it"
    )


def test_a_model_says_its_own_words() -> None:
    found = problem(Order, 'title: "a\\nb"\n')
    assert (found.code, found.message, found.place) == ("E_SCHEMA", "a title is one line", "title")
    found = problem(Order, "title: many\n")
    assert (found.code, found.message, found.line) == ("E_MANY_TASKS", "there are two tasks", 1)


def test_limits_are_passed_on() -> None:
    data = b"title: " + b"x" * 20_000
    with pytest.raises(ProtocolError, match="E_TOO_LONG"):
        decode(Order, data, file="f")
    assert len(decode(Order, data, file="f", limits=Limits(max_scalar_bytes=20_000)).title) == 20_000


def test_thousands_of_problems_take_less_than_two_seconds() -> None:
    keys = "".join(f"priorit{n}: 1\n" for n in range(9_000))
    entries = "after: [" + "{a: 1, b: 2}," * 2_000 + "]\n"

    def take(text: str) -> float:
        before = time.process_time()
        assert len(problems(Order, text)) > 2_000
        return time.process_time() - before

    for text in (keys, entries):
        assert at_best(partial(take, text), 2) < 2
