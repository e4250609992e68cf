"""The hard YAML reader: a small, safe part of YAML, built from parser events and never from objects.

libyaml's own loader crashes the process on deep nesting, follows aliases without bound and turns `no`
into false; so limits are checked while events are pulled, and every plain scalar stays a string.
"""

import re
import reprlib
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import yaml

from agent_daemon.protocol.errors import Problem, ProtocolError

LOADER: Final[type[Any]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# What YAML lets a value hold; in the file itself a byte order mark may stand at the very start only.
NOT_YAML: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BAD_IN_FILE: Final = re.compile(NOT_YAML.pattern + "|\ufeff")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NULLS: Final = frozenset({"", "~", "null"})

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Limits:
    """Bounds of one document: bytes of the file, nested collections, parser events, UTF-8 bytes of a scalar."""

    max_bytes: int = 256 * 1024
    max_depth: int = 12
    max_events: int = 20_000
    max_scalar_bytes: int = 16 * 1024


@dataclass(frozen=True)
class Document:
    """A document's value (mappings, lists, strings and None) and the line, from 1, of each path in it.

    The line of a mapping's entry is that of its key; the path of the root is ``()``.
    """

    value: Any
    lines: dict[Path, int]


def read_yaml(data: bytes, *, file: str, limits: Limits = Limits(), loader: type[Any] = LOADER) -> Document:
    """Read one document whose root is a mapping; any fault is a `ProtocolError` with line and place.

    `loader` is the PyYAML class whose parser is used: libyaml's where it is there.
    """
    _check_bytes(data, file, limits)
    return _Reader(data.removeprefix(_BYTE_ORDER_MARK), file, limits, loader).document()


def show_path(path: Path) -> str:
    """A path as people write it: ``tasks.acme.42.commits[0].sha``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def clip(value: object, length: int = 60) -> str:
    """A value as messages quote it: its repr, at most `length` characters; large ones are never walked."""
    text = repr(value[: length + 1]) if isinstance(value, str) else reprlib.repr(value)
    return text if len(text) <= length else text[: length - 1] + "…"


# --- faults: what is said of each, what was expected, and what the writer should do -------------------

_DO_LINES = ("a mapping", "write `key: value` lines")
_DO_SHORTER = "shorten it, and put the whole into a file of its own"
_MEND: Final = {
    "E_TOO_BIG": ("at most {limits.max_bytes} bytes", _DO_SHORTER),
    "E_TOO_LONG": ("at most {limits.max_scalar_bytes} bytes", _DO_SHORTER),
    "E_TOO_MANY": ("at most {limits.max_events} YAML events", "write fewer entries"),
    "E_TOO_DEEP": ("at most {limits.max_depth} levels", "write it flatter"),
    "E_EMPTY": _DO_LINES,
    "E_NOT_MAPPING": _DO_LINES,
    "E_MANY_DOCUMENTS": ("one document", "remove the `---` and what follows"),
    "E_DUPLICATE_KEY": ("each key once", "remove one of the two"),
    "E_ANCHOR": ("plain values", "write the value out, or put text that starts with & or * in quotes"),
    "E_TAG": ("plain values", "remove it, or put text that starts with ! in quotes"),
    "E_ENCODING": ("UTF-8 without surrogates", "save the file as UTF-8, and write characters themselves"),
    "E_CONTROL": ("printable text", "remove the character"),
    "E_YAML": ("valid YAML", "check indentation, colons and quotation marks"),
}


def _problem(
    code: str, message: str, file: str, limits: Limits, line: int, column: int, path: Path = (), mend: str = ""
) -> Problem:
    expected, usual_mend = _MEND[code]
    return Problem(
        code=code,
        message=f"{message}, at column {column}",
        file=file,
        line=line,
        place=show_path(path),
        expected=expected.format(limits=limits),
        mend=mend or usual_mend,
    )


def _check_bytes(data: bytes, file: str, limits: Limits) -> None:
    def refuse(code: str, message: str, before: str = "") -> NoReturn:
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise ProtocolError(_problem(code, message, file, limits, line, column)) from None

    if len(data) > limits.max_bytes:
        refuse("E_TOO_BIG", f"the file has {len(data)} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        refuse("E_ENCODING", f"byte 0x{data[error.start]:02x} is not UTF-8", before)
    found = _BAD_IN_FILE.search(text, 1 if text.startswith("\ufeff") else 0)
    if found:
        name = f"U+{ord(found.group()):04X}"
        refuse("E_CONTROL", f"YAML does not allow the character {name}", text[: found.start()])
    if text.count("%TAG") > 100:  # libyaml compares each with all before it; none is accepted anyway
        refuse("E_TAG", "%TAG lines are not allowed", text[: text.index("%TAG")])


# (part of what the parser says, code, in plain words, mend); the first that fits counts.
_PLAIN_WORDS: Final = (
    ("a tab character", "E_YAML", "a tab is used for indentation", "indent with spaces"),
    ("tag", "E_TAG", "tags (`!x`) are not allowed", ""),
    ("alphabetic or numeric", "E_ANCHOR", "anchors (`&x`) and aliases (`*x`) are not allowed", ""),
    ("Unicode character escape", "E_ENCODING", "an escape stands for no character", ""),
    ("unknown escape", "E_YAML", "a backslash escape is not known", "use single quotes"),
    ("end of stream", "E_YAML", "a quotation mark is not closed", "close it"),
    ("document separator", "E_YAML", "a quotation mark is not closed", "close it"),
    ("expected ':'", "E_YAML", "a colon is missing after the key", "write `key: value`"),
    ("',' or ']'", "E_YAML", "a list that begins with [ is not closed", "write commas between, ] at the end"),
    ("',' or '}'", "E_YAML", "a mapping that begins with { is not closed", "write commas between, } at the end"),
    (
        "mapping values",
        "E_YAML",
        "there is a colon where no key can stand",
        "give the line before its colon and the same indentation, and put text that holds `: ` in quotes",
    ),
    ("sequence entries", "E_YAML", "a list begins beside its key", "write each `- ` on its own line"),
    ("any token", "E_YAML", "a value begins with a reserved character", "put it in quotes"),
    ("node content", "E_YAML", "a value is missing or begins with a reserved character", "put it in quotes"),
    ("block scalar", "E_YAML", "a text block is malformed", "begin its text on the line after the `|`"),
    ("document start", "E_YAML", "there is text after the end of the document", "remove it"),
    ("directive", "E_YAML", "a line that begins with % is malformed", "remove it"),
    ("incompatible", "E_YAML", "the %YAML version is not supported", "remove the %YAML line"),
    ("", "E_YAML", "a line does not fit what stands around it", "check the indentation and quotation marks"),
)
_LEFT_OPEN: Final = re.compile("simple key|quoted scalar|flow (sequence|mapping)")


# --- the reader ---------------------------------------------------------------------------------------


class _Reader:
    """Pulls events one by one; `path` is where it stands, for the place of a problem."""

    def __init__(self, data: bytes, file: str, limits: Limits, loader: type[Any]) -> None:
        self.data = data
        self.file = file
        self.limits = limits
        self.events = yaml.parse(data, Loader=loader)
        self.count = 0
        self.path: Path = ()
        self.lines: dict[Path, int] = {}

    def document(self) -> Document:
        self.pull()  # the start of the stream
        start = self.pull()
        if isinstance(start, yaml.StreamEndEvent):
            self.refuse(start, "E_EMPTY", "the file is empty")
        if start.tags:
            self.refuse(start, "E_TAG", "%TAG lines are not allowed")
        root = self.pull()
        self.lines[()] = root.start_mark.line + 1
        value = self.value(root, 1)
        self.pull()  # the end of the document; before the next test, for a line without its colon is a text
        if value is None:
            self.refuse(root, "E_EMPTY", "the file is empty")
        if not isinstance(value, dict):
            found = "a list" if isinstance(value, list) else "a single value"
            self.refuse(root, "E_NOT_MAPPING", f"the file is {found}")
        after = self.pull()
        if not isinstance(after, yaml.StreamEndEvent):
            self.refuse(after, "E_MANY_DOCUMENTS", "a second document begins here")
        return Document(value=value, lines=self.lines)

    def pull(self) -> Any:
        try:
            event: Any = next(self.events)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            # ValueError, OverflowError: the parser in Python on absurd numbers in escapes.
            raise ProtocolError(self.explain(error)) from None
        self.count += 1
        if self.count > self.limits.max_events:
            self.refuse(event, "E_TOO_MANY", "there are too many entries")
        return event

    def value(self, event: Any, depth: int) -> Any:
        self.check_marks(event)
        if isinstance(event, yaml.ScalarEvent):
            text = self.text(event)
            return None if text in _NULLS and not event.style else text  # plain is "" or None
        if depth > self.limits.max_depth:
            self.refuse(event, "E_TOO_DEEP", "mappings and lists are nested too deeply")
        here = self.path
        result = self.mapping(depth) if isinstance(event, yaml.MappingStartEvent) else self.items(depth)
        self.path = here
        return result

    def mapping(self, depth: int) -> dict[str, Any]:
        here = self.path
        result: dict[str, Any] = {}
        while not isinstance(event := self.pull(), yaml.MappingEndEvent):
            self.path = here
            key = self.key(event, depth)
            self.path = (*here, key)
            if key in result:
                first = f"first on line {self.lines[self.path]}"
                self.refuse(event, "E_DUPLICATE_KEY", f"the key {clip(key)} stands here again, {first}")
            self.lines[self.path] = event.start_mark.line + 1
            result[key] = self.value(self.pull(), depth + 1)
        return result

    def items(self, depth: int) -> list[Any]:
        here = self.path
        result: list[Any] = []
        while not isinstance(event := self.pull(), yaml.SequenceEndEvent):
            self.path = (*here, len(result))
            self.lines[self.path] = event.start_mark.line + 1
            result.append(self.value(event, depth + 1))
        return result

    def key(self, event: Any, depth: int) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self.value(event, depth + 1)  # refused below, unless its depth or a mark says more
        self.check_marks(event)
        text = self.text(event) if isinstance(event, yaml.ScalarEvent) else ""
        if text == "<<" and not event.style:
            self.refuse(event, "E_ANCHOR", "merge keys (`<<`) are not allowed")
        if not text or (text in _NULLS and not event.style):
            self.refuse(event, "E_YAML", "a key is empty or not a word", "write `key: value`")
        return text

    def text(self, event: Any) -> str:
        text: str = event.value
        longest = self.limits.max_scalar_bytes
        if len(text) * 4 > longest and (size := len(text.encode("utf-8", "surrogatepass"))) > longest:
            self.refuse(event, "E_TOO_LONG", f"a text has {size} bytes")
        found = NOT_YAML.search(text)  # an escape such as "\0" makes what the file itself may not hold
        if found:
            code = "E_ENCODING" if "\ud800" <= found.group() <= "\udfff" else "E_CONTROL"
            self.refuse(event, code, f"an escape stands for U+{ord(found.group()):04X}, which is not allowed")
        return text

    def check_marks(self, event: Any) -> None:
        if event.anchor is not None:  # of an alias: what it refers to
            self.refuse(event, "E_ANCHOR", "anchors (`&x`) and aliases (`*x`) are not allowed")
        if event.tag is not None:
            self.refuse(event, "E_TAG", "tags (`!x`) are not allowed")

    def refuse(self, event: Any, code: str, message: str, mend: str = "") -> NoReturn:
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        raise ProtocolError(_problem(code, message, self.file, self.limits, line, column, self.path, mend))

    def explain(self, error: Exception) -> Problem:
        """What the parser stumbled over, in plain words."""
        said, mark = "unknown escape", None
        if isinstance(error, yaml.MarkedYAMLError):
            said, mark = f"{error.context}: {error.problem}", error.problem_mark
            if error.context_mark and _LEFT_OPEN.search(said):  # is mended where it began
                mark = error.context_mark
        lines = self.data.decode("utf-8").split("\n")
        number = min(mark.line, len(lines) - 1) if mark else max(self.lines.values(), default=1) - 1
        column = mark.column + 1 if mark else 1
        if "\t" in re.split(r"[^\t -]", lines[number], maxsplit=1)[0]:
            said = "a tab character"
        _, code, message, mend = next(words for words in _PLAIN_WORDS if words[0] in said)
        return _problem(code, message, self.file, self.limits, number + 1, column, self.path, mend)
