"""One call of a tool, put together from the messages about it, and what it came to."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent_daemon.clis.base import Progress, printable, text_of

_ENDED = ("completed", "failed")
_CHANGING = {"edit": "edit", "delete": "delete", "move": "move"}
# Each CLI tells an exit code in its own way; some do not at all.
_EXIT_CODES = tuple(
    re.compile(pattern)
    for pattern in (
        r"<return-code>\s*(-?\d+)\s*</return-code>",
        r"completed with exit code (-?\d+)>\s*$",
        r"^\W*Exit code:? (-?\d+)\b",
        r"(?m)^Exit Code: (-?\d+)$",
    )
)


class ToolCall:
    """What is known of a call so far; `take` returns what a message adds to it."""

    def __init__(self, call_id: str) -> None:
        self._id = call_id
        self._known: dict[str, Any] = {}
        self._announced = False
        self.ended = False

    def take(self, update: Mapping[str, Any]) -> Iterator[Progress]:
        if self.ended:
            return
        self._known.update({name: value for name, value in update.items() if value not in (None, "", [], {})})
        self.ended = self._known.get("status") in _ENDED
        if not self._announced and (self.ended or self._is_known_enough()):
            self._announced = True
            yield Progress(kind="tool_call", message=self._title(), command=self._command(), call_id=self._id)
        if self.ended:
            yield from self._outcome()
            self._known.clear()  # what a tool printed may be long, and a run calls thousands

    def _is_known_enough(self) -> bool:
        """A CLI names a call first and tells its arguments with a later message."""
        if self._known.get("status") == "in_progress":
            return True
        return bool(self._given_command() if self._known.get("kind") == "execute" else self._known.get("rawInput"))

    def _outcome(self) -> Iterator[Progress]:
        failed = self._known["status"] == "failed"
        kind = self._known.get("kind")
        if kind == "execute":
            code = self._exit_code()
            told = "failed" if failed and code is None else ""
            yield Progress(
                kind="command_run", message=told, command=self._command(), exit_code=code, call_id=self._id
            )
        elif failed:
            yield Progress(
                kind="message", message=printable(f"{self._title()} failed: {self._output()}"), call_id=self._id
            )
        else:
            change = _CHANGING.get(str(kind), "edit")
            for path in self._changed_paths():
                yield Progress(kind="file_edited", message=change, path=path, call_id=self._id)

    def _title(self) -> str:
        """Its own title, with the file that it is about where that says none."""
        title = text_of(self._known, "title").split("\n", 1)[0][:200]
        paths = [] if self._known.get("kind") == "execute" else self._places()
        return title if not paths or Path(paths[0]).name in title else f"{title} {paths[0]}"

    def _given_command(self) -> str:
        return text_of(self._known, "rawInput", "command") or text_of(self._known, "rawInput", "cmd")

    def _command(self) -> str | None:
        if self._known.get("kind") != "execute":
            return None
        return self._given_command() or text_of(self._known, "title").strip("`") or None

    def _places(self) -> list[str]:
        locations = self._known.get("locations")
        listed = locations if isinstance(locations, list) else []
        return [path for place in listed if isinstance(place, dict) and (path := text_of(place, "path"))]

    def _changed_paths(self) -> list[str]:
        """The files of its diffs; where an edit shows none, those that it says it is about."""
        paths = [text_of(block, "path") for block in _blocks(self._known) if block.get("type") == "diff"]
        if not paths and self._known.get("kind") in _CHANGING:
            paths = self._places()
        return list(dict.fromkeys(path for path in paths if path))

    def _exit_code(self) -> int | None:
        places: tuple[tuple[str, ...], ...] = (
            ("rawOutput", "metadata", "exit"),
            ("rawOutput", "exitCode"),
            ("rawOutput", "exit_code"),
            ("_meta", "terminal_exit", "exit_code"),
        )
        for place in places:
            value: Any = self._known
            for key in place:
                value = value.get(key) if isinstance(value, dict) else None
            if type(value) is int:
                return value
        output = self._output()
        found = (pattern.search(output) for pattern in _EXIT_CODES)
        return next((int(match[1]) for match in found if match), None)

    def _output(self) -> str:
        raw = self._known.get("rawOutput")
        if isinstance(raw, str):
            return raw.strip()
        output = text_of(self._known, "rawOutput", "output") or text_of(self._known, "rawOutput", "content")
        return output or "\n".join(
            filter(None, (text_of(block, "content", "text") for block in _blocks(self._known)))
        )


def _blocks(update: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = update.get("content")
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
