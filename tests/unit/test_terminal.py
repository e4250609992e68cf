"""No text of an agent gets to steer a terminal."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.terminal import plain, plain_line

PIECES = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        ["\x1b", "[", "]", "31m", "\x07", "\\", "0;title", "\x9b", "\u202e", "\r", "\n", "\x1bP", "\ud800", "\x00"]
    ),
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_nothing_is_left_that_a_terminal_would_obey(text: str) -> None:
    shown = plain(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert "\n" not in plain_line(text)
    shown.encode()


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10 %\r20 %\r\n", "10 %\n20 %\n"),
        ("\x1b]0;never closed\nall of this is seen", "0;never closed\nall of this is seen"),
        ("\x1b\x1b[31m[2J", "\ufffd[2J"),
        ("\ufffd[31mred", "red"),
        ("[bold]no markup[/bold]", "[bold]no markup[/bold]"),
    ],
)
def test_sequences_go_and_what_they_would_hide_stays(text: str, shown: str) -> None:
    assert plain(text) == shown
