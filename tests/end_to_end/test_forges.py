"""Issues on GitHub and GitLab become requests, told once: the real programs against both stand-ins."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forge_site import FIX, PROJECT, REPO, ForgeSite, forge_site
from tests.site import wait_for


@pytest.fixture
def forges(tmp_path: Path) -> Iterator[ForgeSite]:
    with forge_site(tmp_path) as made:
        made.site.use_script("cat > prompt.txt; rm prompt.txt", FIX)
        yield made


def test_a_label_becomes_a_request_and_a_merge_completes_it_on_both(forges: ForgeSite) -> None:
    site, hub, lab = forges.site, forges.hub, forges.lab
    for name in ("hub", "lab"):
        forges.project(name, verification=[{"name": "fixed", "command": "grep -q 'a + b' calc.py"}])
    site.write_config()
    site.start()
    one = hub.open_issue(REPO, "rea", "Fix the sum", "It subtracts.", labels=[])
    two = lab.open_issue(PROJECT, "rea", "Fix the sum", "It subtracts.")
    hub.add_label(REPO, one, "ada", "cloud-code")
    lab.add_label(PROJECT, two, "ada", "cloud-code")
    site.wait_state(f"hub.{one}", "review")
    site.wait_state(f"lab.{two}", "review")
    pull = wait_for(lambda: next(iter(hub.repos[REPO]["pulls"]), None))
    request = wait_for(lambda: next(iter(lab.projects[PROJECT]["requests"]), None))
    assert f"Closes #{one}" in hub.repos[REPO]["issues"][pull]["body"]
    assert hub.repos[REPO]["pulls"][pull]["draft"] is False
    wait_for(lambda: "cloud-code:review" in hub.repos[REPO]["issues"][one]["labels"])
    wait_for(lambda: "cloud-code::review" in lab.projects[PROJECT]["issues"][two]["labels"])
    (story,) = wait_for(lambda: [s for s in forges.stories(one) if "Ready for review" in s])
    assert story.startswith("<!-- cloud-code:")
    hub.merge(REPO, pull, "ada")
    lab.merge(PROJECT, request, "ada")
    site.wait_state(f"hub.{one}", "completed")
    site.wait_state(f"lab.{two}", "completed")
    wait_for(lambda: "cloud-code:done" in hub.repos[REPO]["issues"][one]["labels"])
    wait_for(lambda: site.store.is_archived(f"hub.{one}") and site.store.is_archived(f"lab.{two}"), 60)
    assert len(forges.stories(one)) == 1
    assert len(hub.repos[REPO]["pulls"]) == len(lab.projects[PROJECT]["requests"]) == 1
