"""What becomes of an agent's commit message before anyone else sees it; pure and repeatable."""

import re
import unicodedata
from collections.abc import Sequence

MAX_MESSAGE_CHARACTERS = 10_000

_KEYWORD = r"(?:clos(?:e[sd]?|ing)|fix(?:e[sd]|ing)?|resolv(?:e[sd]?|ing)|implement(?:s|ed|ing)?)"
_NUMBER = r"(?:(?P<where>[\w./-]{0,200})#|\bG[HL]-)(?P<number>[0-9]+)"
_ADDRESS = r"https?://(?P<address>[^\s<>]{1,500}/(?:issues|pull|merge_requests|work_items|epics)/[0-9]+)"
_REFERENCE = rf"(?:{_ADDRESS}|{_NUMBER})"
_BARE = re.sub(r"\?P<\w+>", "?:", _REFERENCE)
# Between the word and the number, forges overlook blanks, colons, marks of emphasis and the word "issue".
_GAP = r"(?:[^\w#]|_)*+"
_CLOSING = re.compile(
    rf"(?P<start>(?<![^\W_]){_KEYWORD}(?![^\W_]){_GAP}(?:issues?(?![^\W_]){_GAP})?)"
    rf"(?P<list>{_BARE}(?:{_GAP}(?:and\b{_GAP})?{_BARE})*)",
    re.IGNORECASE,
)
_ONE = re.compile(_REFERENCE, re.IGNORECASE)
_SKIP = re.compile(
    r"\[\s*(skip[\s_-]*ci|ci[\s_-]*skip|(?:skip|no)[\s_-]+[\w.-]+|[\w.-]{1,40}?[\s_-]{1,5}skip)\s*\]",
    re.IGNORECASE,
)
_NO_CI = re.compile(r"\*{3}\s*(no[\s_-]*ci)\s*\*{3}", re.IGNORECASE)
_SKIP_CHECKS = re.compile(r"skip-checks\s*:\s*true", re.IGNORECASE)
_COAUTHOR = re.compile(r"^[^\S\n]*co-?authored-by[^\S\n]*:[^\n]*$\n?", re.IGNORECASE | re.MULTILINE)
_TRAILER = re.compile(r"[A-Za-z][A-Za-z-]*: \S")
_KEPT_FORMAT_SIGNS = frozenset("\u200c\u200d")  # scripts and emoji need them


def clean_message(text: str, coauthors: Sequence[str] = ()) -> str:
    """The message without control characters, closing keywords and CI switches, and with these co-authors only.

    `coauthors` are ``Name <address>``. Cleaning what is clean changes nothing.
    """
    body = _COAUTHOR.sub("", _printable(text[: 2 * MAX_MESSAGE_CHARACTERS]))
    body = neutralise(body)[:MAX_MESSAGE_CHARACTERS]
    body = "\n".join(line.rstrip() for line in body.split("\n")).strip("\n") or "No message"
    trailers = [f"Co-authored-by: {coauthor}" for coauthor in map(_one_line, coauthors) if coauthor]
    if not trailers:
        return body + "\n"
    paragraphs = body.split("\n\n")
    joins = len(paragraphs) > 1 and all(_TRAILER.match(line) for line in paragraphs[-1].split("\n"))
    return body + ("\n" if joins else "\n\n") + "\n".join(trailers) + "\n"


def neutralise(text: str) -> str:
    """The text with nothing that a forge would act on: "fixes #12" becomes "fixes issue 12"."""
    text = _CLOSING.sub(lambda match: match["start"] + _ONE.sub(_plain_reference, match["list"]), text)
    text = _SKIP.sub(r"(\1)", text)
    text = _NO_CI.sub(r"(\1)", text)
    return _SKIP_CHECKS.sub("skip-checks is true", text)


def _plain_reference(match: re.Match[str]) -> str:
    if match["address"]:
        return f"issue at {match['address']}"
    where = match["where"]
    return f"issue {match['number']}" + (f" of {where}" if where else "")


def _printable(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(sign for sign in text if sign in "\n\t" or _is_shown(sign))


def _is_shown(sign: str) -> bool:
    return sign in _KEPT_FORMAT_SIGNS or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _one_line(text: str) -> str:
    return " ".join(_printable(text).split())


def subject(message: str) -> str:
    """The first line, at most 200 characters."""
    return message.split("\n", 1)[0][:200]
