"""Slash commands in comments: `/cloud-code VERB …` on a line of its own, outside of code and quotations."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from supervisor.core.intake import clean_text

PREFIX = "/cloud-code"

# What each verb takes after it, as the help shows it.
VERBS = {
    "run": "[CLI]",
    "status": "",
    "retry": "[NOTE]",
    "pause": "",
    "resume": "",
    "cancel": "[REASON]",
    "approve": "ID [AMENDMENT]",
    "deny": "ID [REASON]",
    "handoff": "CLI [NOTE]",
    "priority": "critical|high|medium|low|background",
    "answer": "TEXT",
    "help": "",
}
_NEEDS_WORD = {"approve", "deny", "handoff", "priority", "answer"}
# What Markdown shows nobody: whoever pastes it has not read it.
_HIDDEN = re.compile(r"<!--.*?-->|^ {0,3}<!--.*\Z", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^ {0,3}(`{3,}(?=[^`]*$)|~{3,})")
_FENCE_END = re.compile(r"^ {0,3}(`{3,}|~{3,})\s*$")


@dataclass(frozen=True, kw_only=True)
class Slash:
    """One command: its verb, the first word after it, and everything after the verb.

    `verb` is empty where it is none of ours; then `word` is what stood in its place. `is_followed`: another one
    stands below it, which does not count.
    """

    verb: str
    word: str = ""
    text: str = ""
    is_followed: bool = False


def parse_slash(body: str) -> Slash | None:
    """The command in a comment: the first line that is one. None where there is none.

    `answer`, `approve`, `deny`, `cancel`, `handoff` and `retry` take what follows, up to another command.
    """
    lines = clean_text(body).split("\n")
    shown = _HIDDEN.sub(_blank, "\n".join(without_fences(lines))).split("\n")
    found = [number for number, line in enumerate(shown) if _is_command(line)]
    if not found:
        return None
    first, end = found[0], found[1] if len(found) > 1 else len(lines)
    slash = _slash(shown[first][len(PREFIX) :].strip(), "\n".join(lines[first + 1 : end]).strip())
    return replace(slash, is_followed=len(found) > 1)


def _is_command(line: str) -> bool:
    return line.startswith(PREFIX) and not line[len(PREFIX) :][:1].strip()


def _blank(hidden: re.Match[str]) -> str:
    """As many lines, and no new line that begins otherwise than it is shown."""
    return " " + "\n" * hidden[0].count("\n") + " "


def without_fences(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a text in Markdown, with an empty one for each that belongs to a fence of code."""
    fence = ""
    for line in lines:
        found = _FENCE.match(line)
        if fence:
            closes = _FENCE_END.match(line)
            fence = "" if closes is not None and closes[1].startswith(fence) else fence
            yield ""
        elif found:
            fence = found[1]
            yield ""
        else:
            yield line


def _slash(rest: str, below: str) -> Slash:
    if not rest:
        return Slash(verb="help")
    verb, *more = rest.split(maxsplit=1)
    verb, text = verb.lower(), "".join(more)
    if verb not in VERBS:
        return Slash(verb="", word=verb[:40])
    if verb in ("answer", "approve", "deny", "cancel", "retry", "handoff"):
        text = f"{text}\n{below}".strip()
    word = text.split(maxsplit=1)[0] if text else ""
    if verb in _NEEDS_WORD and not word:
        return Slash(verb="", word=verb)
    return Slash(verb=verb, word=word, text=text)


def render_lack(verb: str) -> str:
    """The answer to a command without what belongs to it."""
    return f"Write what belongs to it: `{PREFIX} {verb} {VERBS[verb]}`"


def with_warning(text: str, slash: Slash) -> str:
    """An answer, and that nothing follows from another command in the same comment."""
    warning = "Only the first command of a comment counts: write each in a comment of its own."
    return "\n\n".join(filter(None, (text, warning))) if slash.is_followed else text


def render_help() -> str:
    """The table of commands, as the answer to `help` and to an unknown command."""
    rows = "\n".join(f"{PREFIX} {verb} {takes}".rstrip() for verb, takes in VERBS.items())
    return f"```text\n{rows}\n```"
