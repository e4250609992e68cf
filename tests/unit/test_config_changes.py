"""What differs between two configurations, in lines for people."""

import pytest

from supervisor.core.config_changes import MAX_LINES, config_changes, told
from supervisor.core.settings import Config

SAID = {
    "projects": {"acme": {"repository": "/srv/acme.git"}, "other": {"repository": "/srv/other.git"}},
    "workstations": {"backend": {"clis": ["codex"], "environment": {"COLOUR": "red"}}},
    "routing": {"web": ["css"], "api": ["python"]},
}


@pytest.mark.parametrize(
    ("other", "changes"),
    [
        ({}, ()),
        (
            {"projects": {"acme": {"repository": "/srv/new.git"}, "third": {"repository": "/x"}}},
            (
                "projects.other: removed",
                "projects.acme.repository: /srv/acme.git → /srv/new.git",
                "projects.third: added",
            ),
        ),
        (
            {"workstations": {"backend": {"clis": ["codex", "aider"], "environment": {"COLOUR": "blue"}}}},
            ("workstations.backend.clis: [codex] → [codex, aider]", "workstations.backend.environment: changed"),
        ),
        ({"routing": {"api": ["python"], "web": ["css"]}}, ("routing: in another order",)),
        ({"id": "vps1"}, ("id: nothing → vps1",)),
    ],
)
def test_each_difference_is_a_line_and_what_may_be_secret_is_not_in_it(
    other: dict[str, object], changes: tuple[str, ...]
) -> None:
    assert config_changes(Config.model_validate(SAID), Config.model_validate(SAID | other)) == changes


def test_of_many_changes_the_first_are_told() -> None:
    assert told([]) == ""
    assert told(["a: 1 → 2"]) == "a: 1 → 2"
    assert told([f"k{n}: added" for n in range(MAX_LINES + 3)]).endswith("; and 3 more")
