"""The hard YAML reader: what it takes, and that everything else is refused in words, with its line."""

import time
from functools import partial
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.yaml_reader import LOADER, Limits, clip, read_yaml, show_path
from tests.site import at_best

LOADERS = [
    pytest.param(
        getattr(yaml, "CSafeLoader", None),
        id="libyaml",
        marks=pytest.mark.skipif(not hasattr(yaml, "CSafeLoader"), reason="PyYAML is built without libyaml"),
    ),
    pytest.param(yaml.SafeLoader, id="python"),
]
KIB = 1024
FULL = 256 * KIB


@pytest.fixture(params=LOADERS)
def loader(request: pytest.FixtureRequest) -> Any:
    return request.param


def refused(data: bytes, loader: Any, **limits: int) -> Problem:
    with pytest.raises(ProtocolError) as caught:
        read_yaml(data, file="report.yaml", limits=Limits(**limits), loader=loader)
    problem = caught.value.problem
    assert problem.file == "report.yaml"
    assert problem.line
    assert problem.message
    assert problem.expected
    assert problem.mend
    return problem


def test_plain_scalars_stay_strings(loader: Any) -> None:
    data = (
        b"a: no\nb: 1:30\nc: 017\nd: .nan\ne: 2026-02-31\nf: 'null'\ng: null\nh: ~\ni:\n"
        b"j: ''\nk: NULL\nl: |\nm: [1, true]\n'null': x\n'': y\n"
    )
    problem = refused(data, loader)  # an empty key
    assert (problem.code, problem.line) == ("E_YAML", 15)
    document = read_yaml(data.removesuffix(b"'': y\n"), file="f", loader=loader)
    assert document.value == {
        "a": "no",
        "b": "1:30",
        "c": "017",
        "d": ".nan",
        "e": "2026-02-31",
        "f": "null",
        "g": None,
        "h": None,
        "i": None,
        "j": "",
        "k": "NULL",
        "l": "",
        "m": ["1", "true"],
        "null": "x",
    }


def test_lines_are_those_of_the_keys(loader: Any) -> None:
    data = b"# a comment\na:\n  b:\n    - x\n    - c: 1\n\n      d: |\n        text\ne: {f: 2}\n"
    document = read_yaml(data, file="f", loader=loader)
    assert document.lines == {
        (): 2,
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "b", 0): 4,
        ("a", "b", 1): 5,
        ("a", "b", 1, "c"): 5,
        ("a", "b", 1, "d"): 7,
        ("e",): 9,
        ("e", "f"): 9,
    }


def test_a_byte_order_mark_and_an_explicit_document_are_taken(loader: Any) -> None:
    assert read_yaml(b"\xef\xbb\xbf%YAML 1.1\n---\na: 1\n...\n", file="f", loader=loader).value == {"a": "1"}


@pytest.mark.parametrize(
    ("data", "code", "line", "place"),
    [
        (b"", "E_EMPTY", 1, ""),
        (b"# only a comment\n", "E_EMPTY", 2, ""),
        (b"--- \n", "E_EMPTY", None, ""),
        (b"~\n", "E_EMPTY", 1, ""),
        (b"hello\n", "E_NOT_MAPPING", 1, ""),
        (b"\n- a\n", "E_NOT_MAPPING", 2, ""),
        (b"a: 1\n---\nb: 2\n", "E_MANY_DOCUMENTS", 2, ""),
        (b"a: &x 1\n", "E_ANCHOR", 1, "a"),
        (b"a: &x {b: 1}\n", "E_ANCHOR", 1, "a"),
        (b"a: 1\nb: *x\n", "E_ANCHOR", 2, "b"),
        (b"b: **bold**\n", "E_ANCHOR", 1, "b"),
        (b"? *x\n: 1\n", "E_ANCHOR", 1, ""),
        (b"a:\n  <<: {b: 1}\n", "E_ANCHOR", 2, "a"),
        (b"a: !!python/object:os.system x\n", "E_TAG", 1, "a"),
        (b"a: ! x\n", "E_TAG", 1, "a"),
        (b"a: [1, !e!x {}]\n", "E_TAG", 1, "a[0]"),
        (b"!!map {a: 1}\n", "E_TAG", 1, ""),
        (b"%TAG !e! tag:example.org,2000:\n---\na: 1\n", "E_TAG", None, ""),
        (b"a: {b: 1,\n  c: 2, b: 3}\n", "E_DUPLICATE_KEY", 2, "a.b"),
        (b"? [a]\n: 1\n", "E_YAML", 1, ""),
        (b"? {a: 1}\n: 1\n", "E_YAML", 1, ""),
        (b"~: 1\n", "E_YAML", 1, ""),
        (b"a: 1\nb: caf\xe9\n", "E_ENCODING", 2, ""),
        (b"a: \xed\xa0\x80\n", "E_ENCODING", 1, ""),
        ("a: 1\n".encode("utf-16"), "E_ENCODING", 1, ""),
        (b'a: "\\ud800"\n', "E_ENCODING", 1, "a"),
        (b"a: 1\nb: x\0\n", "E_CONTROL", 2, ""),
        (b"a: 1\n\nb: \x1b[31m\n", "E_CONTROL", 3, ""),
        (b"a: \x7f\n", "E_CONTROL", 1, ""),
        ("a: \x80\n".encode(), "E_CONTROL", 1, ""),
        ("a: \uffff\n".encode(), "E_CONTROL", 1, ""),
        ("a: 1\n\ufeffb: 2\n".encode(), "E_CONTROL", 2, ""),
        ("a: 1\n".encode("utf-16-le"), "E_CONTROL", 1, ""),
        (b'a: {b: "\\0"}\n', "E_CONTROL", 1, "a.b"),
    ],
)
def test_refusals(loader: Any, data: bytes, code: str, line: int | None, place: str) -> None:
    problem = refused(data, loader)
    assert (problem.code, problem.place) == (code, place)
    assert line is None or problem.line == line
    assert ", at column " in problem.message


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"a:\n\tb: 1\n", 2, "a tab is used for indentation"),
        (b"a:\n  - b\n\t- c\n", 3, "a tab is used for indentation"),
        (b"a: b\nfoo\nc: d\n", 2, "a colon is missing"),
        (b"title Fix\nb: c\n", 2, "a colon where no key can stand"),
        (b"title: fix: it\n", 1, "a colon where no key can stand"),
        (b"a:\n  b: 1\n c: 2\n", 3, "does not fit what stands around it"),
        (b'a: 1\nb: "foo\nc: d\n', 2, "quotation mark is not closed"),
        (b"a: [1, 2\nb: c\n", 1, "[ is not closed"),
        (b"a: {x: 1\nb: c\n", 1, "{ is not closed"),
        (b"a: @foo\n", 1, "reserved character"),
        (b"a: `foo`\n", 1, "reserved character"),
        (b"a: - b\n", 1, "a list begins beside its key"),
        (b'a: "C:\\q"\n', 1, "backslash escape"),
        (b"{a: 1}\nfoo: 1\n", 2, "text after the end"),
    ],
)
def test_syntax_errors_in_plain_words(loader: Any, data: bytes, line: int, words: str) -> None:
    problem = refused(data, loader)
    assert (problem.code, problem.line) == ("E_YAML", line)
    assert words in problem.message


def test_absurd_numbers_are_refused(loader: Any) -> None:
    assert refused(b'a: "\\UFFFFFFFF"\n', loader).code in ("E_YAML", "E_ENCODING")
    assert refused(b"%YAML 1." + b"9" * 5000 + b"\n---\na: 1\n", loader).code == "E_YAML"


def test_limits_hold_exactly(loader: Any) -> None:
    nest = b"a: " + b"[" * 11 + b"]" * 11
    assert read_yaml(nest, file="f", loader=loader).value
    assert refused(b"a: " + b"[" * 12 + b"]" * 12, loader).code == "E_TOO_DEEP"

    longest = b"a: " + "é".encode() * (8 * KIB)
    assert len(read_yaml(longest, file="f", loader=loader).value["a"]) == 8 * KIB
    problem = refused(longest + b"x", loader)
    assert (problem.code, problem.place, problem.line) == ("E_TOO_LONG", "a", 1)
    assert refused(b"? " + b"k" * (16 * KIB + 1) + b"\n: 1", loader).code == "E_TOO_LONG"

    padded = b"a: 1\n#" + b"x" * (FULL - 6)
    assert read_yaml(padded, file="f", loader=loader).value == {"a": "1"}
    assert refused(padded + b"x", loader).code == "E_TOO_BIG"

    # Seven events besides the entries: stream, document and mapping begin and end, and the key.
    entries = b"a: [" + b"x," * 91 + b"]"
    assert read_yaml(entries, file="f", limits=Limits(max_events=100), loader=loader).value
    assert refused(entries, loader, max_events=99).code == "E_TOO_MANY"


@pytest.mark.parametrize("opening", [b"[", b"{", b"{a: ", b"- ", b"? ", b"- ? ", b"[{a: "])
def test_a_nest_of_25_000_is_refused_at_once(loader: Any, opening: bytes) -> None:
    for data in (opening * 25_000, b"a:\n  " + opening * 25_000):
        assert refused(data, loader).code == "E_TOO_DEEP"


def test_an_alias_bomb_is_refused(loader: Any) -> None:
    bomb = b"a: &a [x,x]\n" + b"".join(b"%c: &%c [*%c,*%c]\n" % (n, n, n - 1, n - 1) for n in range(98, 120))
    assert refused(bomb, loader).code == "E_ANCHOR"


WORST = {
    "flow lists": b"a: " + b"[" * FULL,
    "entries": b"{" + b"a," * FULL,
    "quoted entries": b"[" + b'"",' * FULL,
    "keys": b"".join(b"k%d: 1\n" % n for n in range(30_000)),
    "comments": b"#\n" * FULL,
    "blank lines": b"a: x" + b"\n" * (FULL - 6) + b" y",
    "long text": b'a: "' + b"x" * (FULL - 6) + b'"\n',
    "escapes": b'a: "' + b"\\x41" * (FULL // 4 - 2) + b'"\n',
    "plain text": b"a: x\n" + b"  y\n" * (FULL // 4 - 2),
    "block": b"a: |\n" + b"  x\n" * (FULL // 4 - 2),
    "anchor": b"a: &" + b"x" * (FULL - 5),
    "tag": b"a: !<" + b"%41" * (FULL // 3 - 4) + b"> x",
    "directives": b"".join(b"%%TAG !%x! b\n" % n for n in range(30_000)),
    "colons": b":" * FULL,
    "marks": "\ufeff".encode() * FULL,
    "documents": b"---\n" * FULL,
}


def test_the_worst_256_kib_take_less_than_a_second() -> None:
    def take(name: str) -> float:
        before = time.process_time()
        with pytest.raises(ProtocolError):
            read_yaml(WORST[name][:FULL], file=name)
        return time.process_time() - before

    for name in WORST:
        assert at_best(partial(take, name), 1) < 1, name


@pytest.mark.parametrize("name", ["keys", "quoted entries"])
def test_the_parser_in_python_takes_less_than_a_second_too(name: str) -> None:
    def take() -> float:
        before = time.process_time()
        assert refused(WORST[name][:FULL], yaml.SafeLoader).code == "E_TOO_MANY"
        return time.process_time() - before

    assert at_best(take, 1) < 1


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for loader in {LOADER, yaml.SafeLoader}:
        try:
            document = read_yaml(data, file="f", loader=loader)
        except ProtocolError as error:
            assert error.problem.line
        else:
            assert isinstance(document.value, dict)


YAML_PIECES = st.lists(
    st.sampled_from(
        [*":-?[]{},#&*!|>'\"%@` \n\t~", "a", "b: ", "- ", "\n  ", "<<", "null", "é", "😀", "---\n", "\\"]
    )
)


@given(YAML_PIECES.map("".join))
def test_both_parsers_agree_on_what_is_read(text: str) -> None:
    read: list[Any] = []
    for loader in (LOADER, yaml.SafeLoader):
        try:
            read.append(read_yaml(text.encode(), file="f", loader=loader).value)
        except ProtocolError as error:
            assert error.problem.line
    assert len(read) < 2 or read[0] == read[1]


def test_a_path_and_a_value_as_they_are_shown() -> None:
    assert show_path(("tasks", "acme.42", "commits", 0, "sha")) == "tasks.acme.42.commits[0].sha"
    assert show_path(()) == ""
    assert clip("x" * 100) == "'" + "x" * 58 + "…"
    assert clip("a\nb") == "'a\\nb'"
    assert len(clip([["x" * 1000] * 1000] * 1000)) <= 60
