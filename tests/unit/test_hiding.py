"""Values that were handed over in secret are found in every form and at every cut of a stream."""

import base64
import json
import shutil
import subprocess
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.hiding import HIDDEN, Mask, mask_of

KEY = 'sk-ant/"api"+03 ü\\x'


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        json.dumps({"key": KEY}),
        json.dumps({"key": KEY}, ensure_ascii=False),
        quote(KEY, safe=""),
        quote(KEY),
        KEY.encode().hex(),
        KEY.encode().hex().upper(),
        *(base64.b64encode(b"x" * before + KEY.encode() + b"y").decode() for before in range(5)),
        *(base64.urlsafe_b64encode(b"x" * before + KEY.encode()).decode() for before in range(3)),
    ],
)
def test_every_form(written: str) -> None:
    hidden = Mask([KEY]).hide(f"before {written} after")
    assert written not in hidden
    assert KEY not in hidden
    assert "[hidden]" in hidden
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")


def test_a_line_of_json_stays_one() -> None:
    line = json.dumps({"type": "result", "message": f"your key {KEY} is wrong"})
    assert json.loads(Mask([KEY]).hide(line)) == {"type": "result", "message": "your key [hidden] is wrong"}


def test_what_holds_others() -> None:
    session = json.dumps({"accessToken": "a-long-token-of-a-tenant", "tenantURL": "https://tenant.example.org/"})
    pem = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n-----END KEY-----"
    mask = Mask([session, pem])
    assert mask.hide("token: a-long-token-of-a-tenant") == "token: [hidden]"
    assert mask.hide("MIIEvQIBADANBgkqhkiG9w0BAQ") == "[hidden]"
    assert mask.hide("https://tenant.example.org/") == "https://tenant.example.org/"


@pytest.mark.parametrize("command", [["base64"], ["openssl", "base64"], ["xxd", "-p"]], ids=" ".join)
def test_what_programs_encode_over_several_lines_as_they_usually_do(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}")
    token = "ghs_" + "".join(chr(97 + number % 26) + str(number) for number in range(120))
    told = subprocess.run(command, input=token.encode(), capture_output=True, check=True).stdout
    stream = Mask([token]).stream()
    shown = b"".join([*(stream.feed(line) for line in told.splitlines(keepends=True)), stream.finish()])
    left = [line for line in shown.splitlines() if HIDDEN not in line]
    assert len(told.splitlines()) > 4 and sum(map(len, left)) < 16, left


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("postgres://app:hunter2-x@db.example/app", "PGPASSWORD=hunter2-x"),
        ("postgres://app:hunter%2F2-x@db.example/app", "hunter/2-x"),
        ("host=db user=app password=hunter2-x sslmode=require", "hunter2-x"),
        ("//registry.example/:_authToken=abcdefgh1", "abcdefgh1"),
        (json.dumps({"a": [{"token": "a-nested-token-1"}]}), "a-nested-token-1"),
        (json.dumps({"key": "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n"}), "MIIEvQIBADANBgkqhkiG9w0B"),
        ("483920174839201748392017", "483920174839201748392017"),
    ],
)
def test_the_secret_part_of_a_longer_value_is_one_by_itself(value: str, part: str) -> None:
    assert "[hidden]" in Mask([value]).hide(f"it is {part}!")


@pytest.mark.parametrize("text", ["postgres", "postgres://postgres", "db.example", "20260107", "1735689600"])
def test_words_and_numbers_that_everybody_uses_are_no_secrets(text: str) -> None:
    assert Mask(["postgres://postgres:postgres@db.example/app", "20260107", "1735689600"]).hide(text) == text


def test_which_variables_are_secrets() -> None:
    environment = {
        "OPENAI_API_KEY": "sk-one-two",
        "MY_LLM": "handed-over",
        "CI": "left-as-it-is",
        "HTTPS_PROXY": "http://proxy:3128",
        "GOROOT": "/usr/local/go",
        "GIT_AUTHOR_NAME": "Cloud Code",
        "SHORT_KEY": "abc",
        "PORT_TOKEN": "123456789",
    }
    text = " ".join(environment.values())
    handed_over = ("OPENAI_API_KEY", "MY_LLM", "HTTPS_PROXY", "GOROOT", "ABSENT")
    hidden = text.replace("sk-one-two", "[hidden]").replace("handed-over", "[hidden]")
    assert mask_of(environment, handed_over).hide(text) == hidden
    with_user = mask_of({"PROXY": "http://me:secret@proxy:3128"}, ["PROXY"])
    assert with_user.hide("via http://me:secret@proxy:3128") == "via [hidden]"


# Few letters, so that values lie in each other, overlap, repeat themselves, and are half there at a cut.
VALUES = st.lists(st.text("ab\n", min_size=8, max_size=12), min_size=1, max_size=3)


@given(VALUES, st.data())
def test_however_a_stream_is_cut(values: list[str], data: st.DataObject) -> None:
    pieces = st.sampled_from([*values, *(value[:7] for value in values), "a", "b", "\n", "c"])
    text = "".join(data.draw(st.lists(pieces, max_size=12))).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    mask = Mask(values)
    stream = mask.stream()
    told = b"".join(stream.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True))
    whole = told + stream.finish()
    assert whole == mask.hide_bytes(text)
    assert not any(value.encode() in whole for value in values)


@given(st.binary(max_size=200))
def test_any_bytes_pass_through(data: bytes) -> None:
    stream = Mask(["a-secret-of-nobody"]).stream()
    assert stream.feed(data) + stream.finish() == data
    assert HIDDEN not in Mask([]).hide_bytes(data) or HIDDEN in data
