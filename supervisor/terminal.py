"""Text that others wrote, made fit for a terminal: no escape sequence, no control character survives."""

import re

# A sequence that is not closed hides nothing: only its first characters are taken out.
_SEQUENCE = re.compile(
    r"[\x1b\ufffd]\[[0-?]*[ -/]*[@-~]"  # U+FFFD: what a report holds in the place of an escape character
    r"|\x1b\][^\x07\x1b\n]{0,2000}(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x1b\n]{0,2000}\x1b\\"
    r"|\x1b[ -/]*[0-~]"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def plain(text: str) -> str:
    """`text` with Unix line ends, without escape sequences, control or bidirectional characters."""
    text = _SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def plain_line(text: str) -> str:
    """The same on one line, without blanks at its ends."""
    return " ".join(plain(text).split())
