"""An agent's commit messages: nothing in them acts, cleaning is repeatable, what is harmless stays."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.git.messages import MAX_MESSAGE_CHARACTERS, clean_message, neutralise, subject

# GitHub's documented forms and GitLab's default pattern, as their documentation states them.
GITHUB = re.compile(
    r"\b(close[sd]?|fix(e[sd])?|resolve[sd]?):?\s+(([\w.-]+/[\w.-]+)?#\d+|GH-\d+|https?://\S+/(issues|pull)/\d+)",
    re.I,
)
GITLAB = re.compile(
    r"\b((?:[Cc]los(?:e[sd]?|ing)|\b[Ff]ix(?:e[sd]|ing)?|\b[Rr]esolv(?:e[sd]?|ing)|\b[Ii]mplement(?:s|ed|ing)?)"
    r"(:?) +(?:(?:issues? +)?(?:[\w./-]*#\d+|https?://\S+/issues/\d+)(?:(?: *,? +and +| *,? *)?))+)"
)
SKIP = re.compile(
    r"\[(skip ci|ci skip|no ci|skip actions|actions skip|skip-ci|ci-skip)\]|\*{3}NO_CI\*{3}|skip-checks: ?true",
    re.I,
)
PIECES = (
    *(
        "fixes",
        "Fix",
        "closes",
        "CLOSED",
        "resolve",
        "implements",
        "issue",
        "and",
        "#1",
        "#23",
        "acme/app#4",
        "GH-5",
    ),
    *(
        ":",
        " ",
        "  ",
        "\n",
        "\t",
        ",",
        "*",
        "(",
        ")",
        "[skip ci]",
        "[CI SKIP]",
        "[no ci]",
        "[skip",
        "ci]",
        "[",
        "]",
    ),
    *(
        "skip",
        "***NO_CI***",
        "***",
        "NO_CI",
        "skip-checks: true",
        "skip-checks:",
        "true",
        "\x1b[31m",
        "\r",
        "\u202e",
    ),
    *("\u200b", "word", "Refs: x", "\n\n", "Co-authored-by: A <a@b.c>", "\nco-authored-by : B <b@c.d>\n"),
    *("https://git.example.org/a/b/issues/6", "https://x.org/a/-/merge_requests/7"),
)
pieces = st.sampled_from(PIECES)
messages = st.one_of(st.lists(pieces, max_size=14).map("".join), st.text(max_size=200))


@given(messages, st.lists(st.sampled_from(["A <a@b.c>", "Ü\n <u@b.c>", ""]), max_size=2))
def test_nothing_is_left_that_acts(text: str, coauthors: list[str]) -> None:
    cleaned = clean_message(text, coauthors)
    assert not GITHUB.search(cleaned)
    assert not GITLAB.search(cleaned)
    assert not SKIP.search(cleaned)
    assert all(sign in "\n\t" or sign.isprintable() or not sign.isascii() for sign in cleaned)
    named = [line for line in cleaned.splitlines() if line.lower().lstrip().startswith("co-authored-by")]
    assert len(named) == len([coauthor for coauthor in coauthors if coauthor])
    assert cleaned.endswith("\n") and not cleaned.startswith("\n")


@given(messages, st.lists(st.sampled_from(["A <a@b.c>", "B <b@c.d>"]), max_size=2))
def test_cleaning_what_is_clean_changes_nothing(text: str, coauthors: list[str]) -> None:
    once = clean_message(text, coauthors)
    assert clean_message(once, coauthors) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fixes #12", "Fixes issue 12"),
        ("fix: login (closes #12, #13 and #14)", "fix: login (closes issue 12, issue 13 and issue 14)"),
        ("Resolves acme/app#7.", "Resolves issue 7 of acme/app."),
        ("Closes https://github.com/acme/app/issues/3", "Closes issue at github.com/acme/app/issues/3"),
        ("fixed GH-9", "fixed issue 9"),
        ("Fixes" + " " * 30 + "#12", "Fixes" + " " * 30 + "issue 12"),
        ("Fixes\n#12", "Fixes\nissue 12"),
        ("Fixes **#12**", "Fixes **issue 12**"),
        ("Fixes issues #1", "Fixes issues issue 1"),
        ("[skip ci] x [CI Skip] y [no ci]", "(skip ci) x (CI Skip) y (no ci)"),
        ("[skip actions] [actions skip] [skip-ci]", "(skip actions) (actions skip) (skip-ci)"),
        ("***NO_CI***", "(NO_CI)"),
        ("skip-checks: true", "skip-checks is true"),
    ],
)
def test_how_it_reads_afterwards(text: str, expected: str) -> None:
    assert neutralise(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "See #12 for why",
        "Fix the UTF-8 decoding of prefixes",
        "feat(api): add [optional] list[int] handling",
        "Use `a[skip]` and [notes]",
        "Fixes the build.\n\n- one\n- two\n\nRefs: #5",
        "Close the file; 10 #-signs are fine",
        "👩‍💻 Ünïcödé 日本語",
    ],
)
def test_harmless_text_stays(text: str) -> None:
    assert clean_message(text) == text + "\n"


def test_coauthors_are_the_askers_only() -> None:
    text = "Work\n\nBody\n\nSigned-off-by: A <a@b.c>\nCo-Authored-By: Model <model@vendor.example>"
    assert clean_message(text, ["Asker <asker@example.org>"]) == (
        "Work\n\nBody\n\nSigned-off-by: A <a@b.c>\nCo-authored-by: Asker <asker@example.org>\n"
    )
    assert clean_message("fix: it", ["A\nB: c <a@b.c>"]) == "fix: it\n\nCo-authored-by: A B: c <a@b.c>\n"


def test_long_and_empty_messages() -> None:
    assert len(clean_message("x" * 50_000)) == MAX_MESSAGE_CHARACTERS + 1
    assert clean_message(" \n\x00\n") == clean_message("") == "No message\n"
    assert subject("a" * 300 + "\nb") == "a" * 200


@pytest.mark.parametrize(
    "text", ["[" + "-" * 200_000, "fixes " + "/" * 200_000, "fixes/" * 4_000, "[skip" * 9_000]
)
def test_no_message_takes_long(text: str) -> None:
    assert len(clean_message(text)) <= 2 * MAX_MESSAGE_CHARACTERS
