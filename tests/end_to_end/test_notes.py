"""What an agent tells by its commands reaches people, and what it cannot go on without is asked."""

import yaml

from tests.site import Site


def test_an_agent_decides_asks_and_goes_on_with_the_answer(site: Site) -> None:
    site.use_script(
        f"cat > {site.folder}/prompt",
        "agent-daemon decision 'Plus, because it is called add'",
        "agent-daemon criterion 1 done 'tried by hand'",
        "if ! grep -q 'all of them' .cloud-code/tasking.yaml; then",
        "  echo '# half' >> calc.py",
        "  agent-daemon credential npm_token --scope @acme --reason 'private packages' || true",
        "  agent-daemon blocked question 'For which numbers?'",
        "  exit 0",
        "fi",
        "sed -i 's/a - b/a + b/' calc.py",
    )
    site.write_config()
    site.start()
    site.write_task("fix-add", acceptance_criteria=["It adds"])
    task = site.wait_state("demo.fix-add", "blocked")
    assert (task.waits_for[0].reason, task.waits_for[0].message) == ("question", "For which numbers?")
    assert task.failures == 0 and "criterion N done" in (site.folder / "prompt").read_text()
    shown = site.cli("task", "show", "fix-add").stdout
    assert "decided: Plus, because it is called add" in shown and "criterion 1 done: tried by hand" in shown
    assert "asks for cred-001: npm_token, read @acme: private packages" in shown
    site.cli("task", "retry", "fix-add", "--note", "all of them")
    task = site.wait_state("demo.fix-add", "review")
    assert task.attempt == 2 and "# half" in site.cli("task", "diff", "fix-add").stdout
    request = site.root.request("demo.fix-add").read_text()
    assert "## What the agent decided\n\n- `Plus, because it is called add`" in request
    report = yaml.safe_load(
        (site.root.attempt_out("backend-1", "demo.fix-add", 2) / "reporting.yaml").read_text()
    )["tasks"]["demo.fix-add"]
    assert "blocked_reason" not in report and report["acceptance_criteria"][0]["status"] == "done"
