"""Holds exchanges against a published OpenAPI description; a violation is a string that a test shows."""

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema_rs

VARIABLE = "CLOUD_CODE_CONTRACTS"


def contracts_folder() -> Path | None:
    """The folder of published descriptions, where it is named; without it the fakes run unchecked."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


class Contract:
    """One description, made ready. `prefix` is the part of the server's paths that the description leaves out."""

    def __init__(self, file: Path, prefix: str = "") -> None:
        self._document = _as_json_schema(json.loads(file.read_text()))
        self._prefix = prefix
        self._validators: dict[str, jsonschema_rs.Validator] = {}
        self._operations = [
            (re.compile(_pattern(path)), method.upper(), path, operation)
            for path, item in self._document["paths"].items()
            for method, operation in item.items()
            if method in ("get", "post", "put", "patch", "delete")
        ]
        # A path with fewer parameters is the more special one: `/issues/comments` before `/issues/{number}`.
        self._operations.sort(key=lambda entry: (entry[2].count("{"), -len(entry[2])))

    def operation(self, method: str, path: str) -> tuple[str, dict[str, Any]] | None:
        """The description's path and operation for a request; None where it has none."""
        plain = path.removeprefix(self._prefix)
        for pattern, verb, template, operation in self._operations:
            if verb == method and pattern.fullmatch(plain):
                return template, operation
        return None

    def violations(self, method: str, path: str, sent: Any, status: int, answered: Any) -> list[str]:
        """What is wrong with one exchange, as ``METHOD PATH: where: what``."""
        found = self.operation(method, path)
        if found is None:
            return [f"{method} {path}: not in the description"]
        template, operation = found
        problems = []
        body = operation.get("requestBody")
        if body is not None and sent is not None:
            problems += self._check(_json_schema(body), sent, "request")
        responses = operation.get("responses", {})
        answer = responses.get(str(status))
        if answer is None:
            problems.append(f"status {status} is not in the description ({', '.join(responses)})")
        elif answered is not None:
            problems += self._check(_json_schema(self._resolve(answer)), answered, "answer")
        return [f"{method} {template}: {problem}" for problem in problems]

    def _check(self, schema: dict[str, Any] | None, value: Any, what: str) -> list[str]:
        if schema is None:
            return []
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            whole = {**schema, "components": self._document.get("components", {})}
            self._validators[key] = jsonschema_rs.validator_for(whole)
        errors = self._validators[key].iter_errors(value)
        return [f"{what} {'/'.join(map(str, e.instance_path)) or '.'}: {e.message[:300]}" for e in errors][:5]

    def _resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            target: Any = self._document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node


def _pattern(template: str) -> str:
    # `{ref}` may hold slashes; every other parameter is one segment.
    parts = re.split(r"(\{[^}]+\})", template)
    return "".join(
        ("[^?]+" if part == "{ref}" else "[^/?]+") if part.startswith("{") else re.escape(part) for part in parts
    )


def _json_schema(node: dict[str, Any]) -> dict[str, Any] | None:
    content = node.get("content", {})
    schema = content.get("application/json", {}).get("schema")
    return schema if isinstance(schema, dict) else None


def _as_json_schema(node: Any) -> Any:
    """OpenAPI 3.0's dialect as JSON Schema: `nullable`, and exclusive bounds as flags."""
    if isinstance(node, list):
        return [_as_json_schema(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    result = {key: _as_json_schema(value) for key, value in node.items() if key not in ("example", "examples")}
    if result.pop("nullable", False) is True:
        result.pop("nullable", None)
        if isinstance(result.get("type"), str):
            result["type"] = [result["type"], "null"]
            if "enum" in result and None not in result["enum"]:
                result["enum"] = [*result["enum"], None]
        else:
            result = {"anyOf": [result, {"type": "null"}]}
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if result.get(bound) is True:
            result[bound] = result.pop(limit)
        elif result.get(bound) is False:
            del result[bound]
    return result
