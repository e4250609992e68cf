"""Commands in comments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.slash import VERBS, Slash, parse_slash, render_help


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("/cloud-code retry", Slash(verb="retry")),
        ("Thanks!\r\n/cloud-code retry use the new API\r\nand keep the tests", None),
        ("/cloud-code", Slash(verb="help")),
        ("/cloud-code RUN codex", Slash(verb="run", word="codex", text="codex")),
        ("/cloud-code deny a1 not now", Slash(verb="deny", word="a1", text="a1 not now")),
        ("/cloud-code frobnicate", Slash(verb="", word="frobnicate")),
        ("/cloud-code approve", Slash(verb="", word="approve")),
        ("```\n/cloud-code cancel\n```", "none"),
        ("~~~~\n/cloud-code cancel\n~~~\n/cloud-code pause", "none"),
        ("> /cloud-code cancel", "none"),
        ("please /cloud-code cancel", "none"),
        ("/cloud-codex cancel", "none"),
        (" /cloud-code cancel", "none"),
        ("/cloud-code\trun\tcodex", Slash(verb="run", word="codex", text="codex")),
        ("/cloud-code\u00a0pause", Slash(verb="pause")),
        (
            "/cloud-code approve cred-001\n/cloud-code approve cred-002",
            Slash(verb="approve", word="cred-001", text="cred-001", is_followed=True),
        ),
        (
            "/cloud-code answer so:\n```\n/cloud-code x\n```",
            Slash(verb="answer", word="so:", text="so:\n```\n/cloud-code x\n```"),
        ),
        ("```sh\nls\n```\n/cloud-code status", Slash(verb="status")),
    ],
)
def test_a_command_is_a_line_of_its_own(body: str, expected: Slash | str | None) -> None:
    if expected == "none":
        assert parse_slash(body) is None
    elif expected is None:
        text = "use the new API\nand keep the tests"
        assert parse_slash(body) == Slash(verb="retry", word="use", text=text)
    else:
        assert parse_slash(body) == expected


@given(st.text())
def test_no_comment_breaks_it(body: str) -> None:
    found = parse_slash(body)
    assert found is None or found.verb in VERBS or found.verb == ""


@given(st.text(alphabet="ab `~\n/", max_size=80))
def test_nothing_in_a_closed_fence_is_a_command(text: str) -> None:
    inner = text.replace("`", "").replace("~", "")
    assert parse_slash(f"```\n/cloud-code cancel\n{inner}\n```\n") is None


def test_the_help_names_every_verb() -> None:
    assert all(f"/cloud-code {verb}" in render_help() for verb in VERBS)


@pytest.mark.parametrize(
    ("body", "verb"),
    [
        ("What they wrote:\n<!--\n/cloud-code cancel\n-->", None),
        ("see <!-- a\n/cloud-code cancel\n--> above", None),
        ("<!-- never closed\n/cloud-code cancel", None),
        ("<!--\n-->/cloud-code cancel", None),
        ("<!-- a\n```\n/cloud-code cancel\n```\n-->\n/cloud-code pause", "pause"),
        ("```\n<!--\n```\n/cloud-code status", "status"),
        ("the `<!--` of it\n/cloud-code status", "status"),
        ("<!-- a -->\n/cloud-code status", "status"),
        ("``` a`b\n<!--\n```\n/cloud-code cancel\n-->", None),
        ("```\n    ```\n/cloud-code cancel\n```", None),
        ("```\n   ````  \n/cloud-code status", "status"),
    ],
)
def test_what_a_comment_hides_is_no_command(body: str, verb: str | None) -> None:
    found = parse_slash(body)
    assert (found.verb if found is not None else None) == verb
