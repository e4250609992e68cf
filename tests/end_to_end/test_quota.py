"""A coding CLI whose quota is used up, with the real supervisor and daemon."""

from tests.site import Site

FIX = "sed -i 's/a - b/a + b/' calc.py"


def used_up(said: str) -> str:
    return f"""echo '{{"type": "error", "outcome": "quota", "message": "Your quota is used up. {said}"}}'"""


def test_it_is_waited_for_and_costs_no_failure(site: Site) -> None:
    site.config["projects"]["demo"]["limits"] = {"max_failures": 1}
    site.config["retry"] = {"first_seconds": 0.2}
    runs = site.folder / "runs"
    site.use_script(
        "cat > /dev/null",
        f"echo run >> {runs}",
        f"[ $(wc -l < {runs}) = 1 ] && {{ {used_up('Please try again in 2 seconds.')}; exit 1; }}",
        FIX,
    )
    site.write_config()
    site.start()
    site.write_task("fix-add")
    task = site.wait_state("demo.fix-add", "review")
    assert [attempt.verdict for attempt in task.attempts] == ["quota", "completed"]
    assert task.failures == 0
    (parked,) = site.events("task.blocked")
    assert parked["details"]["until"]


def test_nobody_knows_when_it_lasts_again(site: Site) -> None:
    site.use_script("cat > /dev/null", used_up("Buy more."), "exit 1")
    site.write_config()
    site.start()
    site.write_task("fix-add")
    site.wait_state("demo.fix-add", "blocked")
    said = site.cli("task", "explain", "demo.fix-add").stdout
    assert "It waits for the provider's quota: Your quota is used up. Buy more." in said
    assert "Nothing happens until a person answers" in said
