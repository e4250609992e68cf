"""Files to models and back: what is read is checked and every problem named; what is written reads back equal.

Another program may be writing the wire form at this moment: `revision` first and `end` last prove it whole.
"""

import difflib
import math
import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Final, NoReturn, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.paths import MAX_NAME_CHARACTERS, NAME
from agent_daemon.protocol.yaml_reader import NOT_YAML, Document, Limits, Path, clip, read_yaml, show_path

M = TypeVar("M", bound=BaseModel)
NOTHING: Final[frozenset[str]] = frozenset()
USUAL: Final = Limits()

_FRAMES: Final = (["revision"], ["version", "revision"])
_MOST_ROUNDS: Final = 20
_WHOLE_NUMBER: Final = re.compile("0|[1-9][0-9]{0,17}")
_LAST_LINE: Final = re.compile(rb"(?:\A|\n)end: *(?:0|[1-9][0-9]{0,17})\r?\n\Z")
_CUT_SHORT: Final = frozenset({"E_YAML", "E_EMPTY", "E_NOT_MAPPING", "E_ENCODING"})
_CUT_KEY: Final = frozenset({"E_ANCHOR", "E_DUPLICATE_KEY"})  # `<<:a` and `x:y`, cut behind the colon
_REFUSALS: Final = {  # the key that a code is about, what is expected, what to do
    "E_UNFINISHED": ("end", "one N in `revision: N` first and `end: N` last", "write it whole, then rename it"),
    "E_VERSION": ("version", "version 1", "write `version: 1`, or bring the older program up to date"),
    "E_REQUIRES": ("requires", "only what is understood", "bring the program that reads this up to date"),
}


def decode(
    model: type[M], data: bytes, *, file: str, limits: Limits = USUAL, understood: frozenset[str] = NOTHING
) -> M:
    """Read a file that is written whole; raises one `ProtocolError` with all problems of the schema.

    A `version` other than 1, and a `requires` beyond `understood`, are refused where the model has the key.
    """
    document = read_yaml(data, file=file, limits=limits)
    return _validate(model, document, file, understood, document.value.keys() & model.model_fields.keys())


def decode_what_fits(model: type[M], data: bytes, *, file: str) -> tuple[M | None, tuple[Path, ...]]:
    """The model from what is right in a file, and the places that were left out for that.

    For what else there is to say of a file that `decode` refuses; no model where too much is wrong.
    """
    try:
        value = read_yaml(data, file=file).value
    except ProtocolError:
        return None, ()
    left_out: list[Path] = []
    for _ in range(_MOST_ROUNDS):
        try:
            return model.model_validate(value), tuple(left_out)
        except ValidationError as error:
            wrong = {_path(detail, value) for detail in error.errors(include_url=False)}
        # From the back, so that the places that are left stay what they are.
        for path in sorted(wrong, key=lambda path: [(str(type(part)), part) for part in path], reverse=True):
            gone = _without(value, path)
            if gone is None:
                return None, ()
            left_out.append(gone)
    return None, ()


def _without(value: Any, path: Path) -> Path | None:
    """Take a place out of the data, or what it is missing in; the place that is gone, None for all of it."""
    while path:
        around = value
        try:
            for part in path[:-1]:
                around = around[part]
            del around[path[-1]]
            return path
        except (KeyError, IndexError, TypeError):
            path = path[:-1]
    return None


def decode_framed(
    model: type[M], data: bytes, *, file: str, limits: Limits = USUAL, understood: frozenset[str] = NOTHING
) -> M:
    """Read the wire form; a file that is cut short anywhere raises `ProtocolError` (E_UNFINISHED).

    The keys begin with `revision` or `version, revision`; the last line is `end: <the same number>`.
    """

    def unfinished(message: str) -> NoReturn:
        _refuse("E_UNFINISHED", f"the file is not finished: {message}", file, len(data.splitlines()) or 1)

    ended = _LAST_LINE.search(data)
    try:
        document = read_yaml(data, file=file, limits=limits)
    except ProtocolError as error:
        code = error.problem.code
        cut_key = code in _CUT_KEY and _is_last_key(data, error.problem.line or 1)
        if not ended and (code in _CUT_SHORT or cut_key):
            unfinished("it breaks off")
        raise
    value: dict[str, Any] = document.value
    if not ended or list(value)[-1] != "end":
        unfinished("the last line is not `end: <revision>`")
    if list(value)[:1] not in _FRAMES and list(value)[:2] not in _FRAMES:
        unfinished("`revision` does not stand first, or second after `version`")
    revision, end = value["revision"], value["end"]
    if not isinstance(revision, str) or not _WHOLE_NUMBER.fullmatch(revision) or revision != end:
        unfinished(f"`revision` is {clip(revision)}, `end` is {clip(end)}")
    del value["end"]  # belongs to the frame, not to the model
    return _validate(model, document, file, understood, ("version", "requires"))


def _is_last_key(data: bytes, line: int) -> bool:
    """Whether the file breaks off within the key that begins on this line: plain, or `? |` with lines below."""
    first, *rest = data.split(b"\n")[line - 1 :]
    indent = len(first) - len(first.lstrip(b" "))
    below = all(not part.strip() or part.startswith(b" " * (indent + 1)) for part in rest)
    return not rest or (first.lstrip(b" ").startswith(b"? ") and below)


def _validate(
    model: type[M], document: Document, file: str, understood: frozenset[str], checked: Collection[str]
) -> M:
    value, lines = document.value, document.lines
    if "version" in checked:
        if value.get("version") != "1":
            message = f"the version is {clip(value.get('version'))}"
            _refuse("E_VERSION", message, file, lines.get(("version",), 1))
        value["version"] = 1  # a number, so that a model may say Literal[1]
    if "requires" in checked:
        required = value.get("requires")
        words = required if isinstance(required, list) else [] if required is None else [required]
        for word in (word for word in words if not isinstance(word, str) or word not in understood):
            message = f"the file requires {clip(word)}, which is not understood here"
            _refuse("E_REQUIRES", message, file, lines[("requires",)])
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ProtocolError(*_problems(model, error, value, lines, file)) from None


def _refuse(code: str, message: str, file: str, line: int) -> NoReturn:
    place, expected, mend = _REFUSALS[code]
    problem = Problem(code=code, message=message, file=file, line=line, place=place, expected=expected, mend=mend)
    raise ProtocolError(problem) from None


# --- what the schema found, in words ------------------------------------------------------------------

_EXPECTED: Final = {  # by pydantic's type of error, or by the first word of it
    "string_type": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "date": "a date such as 2026-01-07",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_too_short": "{min_length} or more characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "{min_length} or more entries",
    "too_long": "at most {max_length} entries",
    "string_pattern_mismatch": "text that matches {pattern}",
    **dict.fromkeys(("literal_error", "enum", "union_tag_invalid"), "one of {options}"),
    **dict.fromkeys(("list", "tuple", "set", "frozen"), "a list"),
    **dict.fromkeys(("dict", "model", "mapping"), "a mapping"),
    **dict.fromkeys(("datetime", "timezone"), "a time such as 2026-01-07T10:30:00Z"),
}
_PATTERNS: Final = {f"^{NAME.pattern}$": f"a small letter, then up to {MAX_NAME_CHARACTERS - 1} of a-z, 0-9 and -"}
_DID_YOU_MEAN: Final = "did you mean `{}`?"
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./@-]{1,60}")
_MAX_SUGGESTIONS: Final = 100  # looking for the nearest word is slow, and a hostile file has thousands


def _problems(
    model: type[BaseModel], error: ValidationError, value: Any, lines: dict[Path, int], file: str
) -> list[Problem]:
    found = [(_path(detail, value), detail) for detail in error.errors(include_url=False)]
    # In a union each branch complains; a branch that got further knows more than "this is not text".
    branches = [path for path, detail in found if len(path) < len(detail["loc"])]
    left = {path[:length] for path in branches for length in range(len(path))} & set(branches)
    problems: dict[Path, Problem] = {}
    for path, detail in found:
        if path in left:
            continue
        code, message, expected, mend = _words(model, path, detail, len(problems) < _MAX_SUGGESTIONS)
        line = next(lines[path[:length]] for length in range(len(path), -1, -1) if path[:length] in lines)
        if path in problems:
            expected = f"{problems[path].expected} or {expected}"
        place = show_path(path)
        problems[path] = Problem(
            code=code, message=message, file=file, line=line, place=place, expected=expected, mend=mend
        )
    # A key that is missing because it is mistyped is one mistake and not two.
    meant = {(path[:-1], problem.mend) for path, problem in problems.items() if problem.code == "E_UNKNOWN_KEY"}
    missing = {path for path, detail in found if detail["type"] == "missing"}
    mistyped = {path for path in missing if (path[:-1], _DID_YOU_MEAN.format(path[-1])) in meant}
    kept = [problem for path, problem in problems.items() if path not in mistyped]
    return sorted(kept, key=lambda problem: problem.line or 0)


def _path(detail: ErrorDetails, value: Any) -> Path:
    """The error's place in the data: without the names of union branches, which pydantic mixes in."""
    path: Path = ()
    for part in detail["loc"]:
        known = isinstance(value, dict) or (isinstance(value, list) and isinstance(part, int))
        if known and part in (value if isinstance(value, dict) else range(len(value))):
            value = value[part]
            path = (*path, part)
    return (*path, detail["loc"][-1]) if detail["type"] == "missing" else path


def _words(model: type[BaseModel], path: Path, detail: ErrorDetails, suggest: bool) -> tuple[str, str, str, str]:
    """Code, message, what is expected, what to do."""
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "extra_forbidden":
        names = list(dict.fromkeys(_names_at(model, path[:-1])))
        mend = suggest and _nearest(path[-1], names)
        message = f"the key {clip(path[-1])} is not known"
        return "E_UNKNOWN_KEY", message, f"one of {', '.join(names)}", mend or "remove it"
    if kind == "missing":
        return "E_SCHEMA", f"the key `{path[-1]}` is missing", f"`{path[-1]}: …`", "add it"
    expected = _EXPECTED.get(kind) or _EXPECTED.get(kind.split("_")[0])
    if expected is None:  # a validator of the model speaks, and may give its error a code of its own
        message = str(context.get("error", detail["msg"]))
        return kind if kind.startswith("E_") else "E_SCHEMA", message, "", "correct it"
    options = str(context.get("expected", context.get("expected_tags", ""))).replace(" or ", ", ").replace("'", "")
    expected = _PATTERNS.get(context.get("pattern", "")) or expected.format_map({**context, "options": options})
    expected = expected.replace("least 1 entries", "least one entry").replace(
        "least 1 characters", "least one character"
    )
    if given is None:
        return "E_SCHEMA", "the value is empty", expected, "give a value, or leave the key out"
    mend = suggest and (_nearest(given, options.split(", ")) or _form(model, path, kind, given))
    what = (
        f"the name {clip(given)} cannot be used" if detail["loc"][-1] == "[key]" else f"the value is {clip(given)}"
    )
    return "E_SCHEMA", what, expected, mend or "correct it"


def _nearest(word: object, words: list[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1) if isinstance(word, str) and len(word) <= 60 else []
    return _DID_YOU_MEAN.format(near[0]) if near else ""


def _form(model: type[BaseModel], path: Path, kind: str, given: object) -> str:
    """How the mapping looks that belongs at `path`, with what was given in it where that has one place."""
    wanted = next(_models_at(model, path), None) if kind.startswith(("model", "dict")) else None
    if wanted is None:
        return ""
    named = {field.alias or name: field.is_required() for name, field in wanted.model_fields.items()}
    keys = [name for name, required in named.items() if required] or [*named][:1]
    fits = len(keys) == 1 and not isinstance(given, list | dict) and _PLAIN.fullmatch(str(given))
    value = str(given) if fits else "…"
    return f"write a mapping such as `{{{', '.join(f'{key}: {value}' for key in keys)}}}`" if keys else ""


def _names_at(annotation: Any, path: Path) -> Iterator[str]:
    """The keys that a type knows at `path`, over all branches of its unions."""
    for model in _models_at(annotation, path):
        yield from (field.alias or name for name, field in model.model_fields.items())


def _models_at(annotation: Any, path: Path) -> Iterator[type[BaseModel]]:
    """The models that a type has at `path`, over all branches of its unions."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _models_at(inner[0], path)
    elif origin in (Union, UnionType):
        for branch in inner:
            yield from _models_at(branch, path)
    elif inner and path:  # the last argument of a dict is that of its values, of list and tuple the entries'
        for entry in inner[-1:] if issubclass(origin, dict) else inner:
            yield from _models_at(entry, path[1:])
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            yield annotation
        for name, field in annotation.model_fields.items():
            if path and path[0] in (field.alias, name):
                yield from _models_at(field.annotation, path[1:])


# --- writing ------------------------------------------------------------------------------------------


class _NotFast(Exception):  # noqa: N818
    """A text that libyaml's emitter would quote although it can be shown as it is."""


class _FastDumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True


class _PythonDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def analyze_scalar(self, scalar: str) -> Any:
        analysis = super().analyze_scalar(scalar)
        analysis.allow_block = _is_block(scalar)  # also with tabs and with blanks at the ends of lines
        return analysis


_BREAKS: Final = re.compile("[\r\x85\u2028\u2029\ufeff]|\\A\n*\t")  # or a tab that looks like indentation
_NOT_FAST: Final = re.compile("[\U00010000-\U0010ffff]")
_NOT_FAST_BLOCK: Final = re.compile("[\t\U00010000-\U0010ffff]| \n| \\Z")


def _is_block(text: str) -> bool:
    return "\n" in text and not text.isspace() and not _BREAKS.search(text)


def _text(dumper: Any, text: str) -> Any:
    clean, block = NOT_YAML.sub("\ufffd", text), _is_block(text)
    if isinstance(dumper, _FastDumper) and (_NOT_FAST_BLOCK if block else _NOT_FAST).search(clean):
        raise _NotFast
    style = "|" if block else '"' if "\n" in clean or _BREAKS.search(clean) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", clean, style=style)


def _time(dumper: Any, time: datetime) -> Any:
    if time.tzinfo is None:
        raise ValueError(f"the time {time} has no zone")
    text = time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return dumper.represent_scalar("tag:yaml.org,2002:timestamp", text)


def _float(dumper: Any, number: float) -> Any:
    if not math.isfinite(number):
        raise ValueError(f"the number {number} is not finite")
    return yaml.SafeDumper.represent_float(dumper, number)


def _other(dumper: Any, value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return dumper.represent_data(sorted(value, key=str))
    return dumper.represent_data(value.value if isinstance(value, Enum) else to_jsonable_python(value))


def _mapping(dumper: Any, mapping: dict[Any, Any]) -> Any:
    # Cleaned here too: two keys that became the same, or an empty one, could not be read back.
    names = [NOT_YAML.sub("\ufffd", str(to_jsonable_python(key))) or "\ufffd" for key in mapping]
    return yaml.SafeDumper.represent_dict(dumper, dict(zip(names, mapping.values(), strict=True)))


_AS: Any = {str: _text, datetime: _time, float: _float, dict: _mapping, set: _other, bytes: _other}
for _dumper in (_FastDumper, _PythonDumper):
    for _type, _represent in _AS.items():
        _dumper.add_representer(_type, _represent)
    _dumper.add_multi_representer(object, _other)


def encode(document: BaseModel, *, schema: str | None = None, end: bool = False) -> bytes:
    """A model as YAML in UTF-8 that reads back equal; keys in the order of the fields, no nulls.

    `schema` names a JSON Schema for editors; `end` appends the trailer of the wire form, for which the
    fields begin with `version` and `revision`. Characters that YAML cannot hold become U+FFFD.
    Raises ValueError for a time without zone, a number that is not finite, and a model without frame.
    """
    value = document.model_dump(by_alias=True, exclude_none=True)
    if end:
        if "version" not in value or (list(value)[:1] not in _FRAMES and list(value)[:2] not in _FRAMES):
            raise ValueError(f"{type(document).__name__} does not begin with `version` and `revision`")
        value["end"] = value["revision"]
    options: dict[str, Any] = {"allow_unicode": True, "sort_keys": False, "width": 2**30}
    try:
        text: str = yaml.dump(value, Dumper=_FastDumper, **options)
    except _NotFast:
        text = yaml.dump(value, Dumper=_PythonDumper, **options)
    if text.endswith("\n...\n"):  # libyaml's mark that a text with blank lines at its end stands before
        text = text[:-4]
    return (f"# yaml-language-server: $schema={schema}\n" * bool(schema) + text).encode("utf-8")
