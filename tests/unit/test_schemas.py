"""The schemas in docs/ are those of the models."""

from pathlib import Path

import jsonschema
import pytest

from supervisor.schemas import SCHEMAS, schema_of, schema_text

DOCS = Path(__file__).parents[2] / "docs" / "schemas"


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_written_schema_is_current(name: str) -> None:
    assert (DOCS / f"{name}.schema.json").read_text() == schema_text(name), "run `make schemas`"


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema_of(name))


def test_there_is_no_schema_that_nothing_makes() -> None:
    assert {path.name.removesuffix(".schema.json") for path in DOCS.iterdir()} == set(SCHEMAS)
