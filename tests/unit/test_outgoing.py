"""The one exit: known values and tokens are found in whatever form and however the content is cut."""

import base64
import html
import io
import itertools
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from supervisor import log
from supervisor.cli import output
from supervisor.events import EventLog
from supervisor.outgoing import CODE, Outgoing

VALUE = """hunter2/"of"+the=forge's!"""
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "base64": base64.b64encode,
    "base64, for addresses": base64.urlsafe_b64encode,
    "hexadecimal": lambda data: data.hex().encode(),
    "percent": lambda data: quote(data, safe="").encode(),
    "percent, small": lambda data: re.sub(b"%..", lambda one: one[0].lower(), quote(data, safe="").encode()),
    "percent, of scripts": lambda data: quote(data, safe="!'()*").encode(),
    "JSON": lambda data: json.dumps(data.decode()).encode(),
    "JSON in JSON": lambda data: json.dumps(json.dumps([data.decode()])).encode(),
    "JSON of PHP": lambda data: json.dumps(data.decode()).replace("/", "\\/").encode(),
    "HTML": lambda data: html.escape(data.decode()).encode(),
    "for a shell": lambda data: shlex.quote(data.decode()).encode(),
    "UTF-16": lambda data: data.decode().encode("utf-16-le"),
    "base64, over lines": lambda data: re.sub(b"(.{8})", b"\\1\r\n", base64.b64encode(data)),
    "hexadecimal, over lines": lambda data: re.sub(b"(.{20})", b"\\1\n", data.hex().encode()),
}
TOKENS = [
    "ghp_" + "a1" * 18,
    "ghs_" + "1234567_eyJhbGci.eyJpc3MiOiJnaXRodWI" + "x" * 400,
    "github_pat_11ABCDEFG0" + "x" * 60,
    "glpat-" + "x1" * 10,
    "gloas-" + "x1" * 10,
    "sk-ant-api03-" + "x" * 40,
    "AKIA" + "ABCD" * 4,
    "npm_" + "a" * 36,
    "hvs." + "CAESIJ" * 5,
    "AIza" + "x1" * 17 + "x",
    "hf_" + "aB" * 17,
]


def outgoing(**values: str) -> Outgoing:
    return Outgoing(lambda: values)


def chunks(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        yield data[start:end]


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(before=st.binary(max_size=9), after=st.binary(max_size=9), cuts=st.lists(st.integers(0, 999), max_size=6))
def test_a_value_is_found_in_any_form_wherever_the_content_is_cut(
    encoding: str, before: bytes, after: bytes, cuts: list[int]
) -> None:
    """In base64 it may stand anywhere within what was encoded."""
    encode = ENCODINGS[encoding]
    whole = (
        encode(before + VALUE.encode() + after)
        if "base64" in encoding
        else before + encode(VALUE.encode()) + after
    )
    found = outgoing(key=VALUE).scan(chunks(whole, cuts))
    assert found is not None and found.code == CODE and "key" in found.message and VALUE not in str(found)


@given(st.text(max_size=60), st.sampled_from(list(ENCODINGS)))
def test_what_is_hidden_is_gone_and_the_rest_is_left(text: str, encoding: str) -> None:
    form = ENCODINGS[encoding](VALUE.encode()).decode()
    hidden = outgoing(key=VALUE, other="something-else").hide(f"{text}\n{form}\n{text}")
    assert VALUE not in hidden and form.strip('"') not in hidden
    assert hidden.startswith(f"{text}\n") and hidden.endswith(f"\n{text}")


def test_the_text_around_what_is_hidden_stays_where_it_is_however_long() -> None:
    broken = re.sub("(.{20})", "\\1\n    ", "a-token-that-is-broken-over-several-lines" * 3)
    text = "".join(f'line {number} of "many"\n' for number in range(1000))
    shown = outgoing(key=broken.replace("\n    ", "")).hide(f"{text}<{broken}>\n{text}<{broken}>{text}")
    assert shown == f"{text}<[hidden]>\n{text}<[hidden]>{text}"


@given(st.binary(max_size=300), st.lists(st.integers(0, 999), max_size=4))
def test_nothing_is_found_where_nothing_is(data: bytes, cuts: list[int]) -> None:
    assert outgoing(key="a-value-that-is-not-there").scan(chunks(data, cuts)) is None


@pytest.mark.parametrize("token", TOKENS)
def test_tokens_of_others_are_hidden_and_held_unless_that_is_unwanted(token: str) -> None:
    data = f"x = '{token}'".encode()
    assert token[:20] not in outgoing().hide(data.decode())
    for at in range(len(data)):
        found = outgoing().scan(iter([data[:at], data[at:]]))
        assert found is not None and token not in str(found)
    assert Outgoing(dict, hold_tokens=False).scan(iter([data])) is None


@pytest.mark.parametrize(
    "text",
    ["ghp_short", "sk-ant-", "the npm_config_cache folder", "AKIAbcd", "glpat-…", "hvs.dll", "hf_hub_download"],
)
def test_words_that_only_look_a_little_like_tokens_are_left(text: str) -> None:
    assert outgoing().hide(text) == text and outgoing().scan(iter([text.encode()])) is None


def test_a_value_counts_from_the_moment_that_it_is_known() -> None:
    values: dict[str, str] = {}
    out = Outgoing(lambda: values)
    assert out.hide(VALUE) == VALUE
    values["key"] = VALUE
    assert out.hide(VALUE) == "[hidden]"


def test_events_and_the_log_are_written_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, stream = outgoing(key=VALUE), io.StringIO()
    with closing(EventLog(tmp_path / "events.jsonl", out.hide_in)) as events:
        details = {"message": f"a {VALUE}", "list": [{"a": VALUE}]}
        written = events.append("x", at=datetime.now(UTC), details=details)
    assert VALUE not in str(written) and "hunter2" not in (tmp_path / "events.jsonl").read_text()
    monkeypatch.setattr(sys, "stderr", stream)
    log.hide_with(out.hide)
    try:
        for json_lines in (True, False):
            log.configure(json_lines=json_lines)
            try:
                raise RuntimeError(VALUE)
            except RuntimeError:
                logger.bind(task=VALUE).exception("it was {}", VALUE)
    finally:
        log.hide_with(str)
        logger.remove()
    assert "[hidden]" in stream.getvalue() and "hunter2" not in stream.getvalue()


def test_what_no_terminal_shows_hides_no_value_from_the_search(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "hide", outgoing(key="hunter2-of-the-forge").hide)
    parted = "it is hunter2-\x1b[0mof-the-\x1b]0;title\x07forge"
    assert output.text(parted).plain == output.text(parted, lines=True).plain == "it is [hidden]"
    assert output.text("hunter2-of-the-forge".encode("utf-16-le").decode("latin-1")).plain.startswith("[hidden]")
    output.say(parted)
    output.note(parted)
    assert capsys.readouterr() == ("it is [hidden]\n", "it is [hidden]\n")
