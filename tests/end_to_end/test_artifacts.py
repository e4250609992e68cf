"""What an agent leaves for people comes out of the worktree, and not into a commit."""

import hashlib

import yaml

from tests.site import Site, git


def test_an_artifact_is_copied_reported_and_shown(site: Site) -> None:
    site.use_script(
        "cat > /dev/null",
        "echo picture > .cloud-code/artifacts/login.png; ln -s /etc/passwd .cloud-code/artifacts/link",
        "sed -i 's/a - b/a + b/' calc.py",
    )
    site.write_config()
    site.start()
    site.write_task("fix-add")
    task = site.wait_state("demo.fix-add", "review")
    outbox = site.root.attempt_out("backend-1", "demo.fix-add", 1)
    report = yaml.safe_load((outbox / "reporting.yaml").read_text())["tasks"]["demo.fix-add"]
    digest = hashlib.sha256((outbox / "artifacts/login.png").read_bytes()).hexdigest()
    (artifact,) = report["artifacts"]
    assert (artifact["path"], artifact["sha256"]) == ("artifacts/login.png", digest)
    assert any("link (E_SYMLINK)" in entry["message"] for entry in report["progress"])
    assert git("ls-tree", "-r", "--name-only", task.branch, cwd=site.remote) == "calc.py"
    assert "artifacts/login.png (image/png, 8 bytes)" in site.cli("task", "show", "fix-add").stdout
