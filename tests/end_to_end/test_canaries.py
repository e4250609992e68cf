"""Canaries: each value that an agent was given, in each usual encoding, at each exit, is nowhere to be seen."""

import contextlib
import json
import os
import re
import subprocess
import uuid
import zlib
from pathlib import Path

from agent_daemon.hiding import forms_of
from tests.forge_site import REPO, ForgeSite, forge_site
from tests.site import bytes_below, files_below, git, wait_for
from tests.vault_site import vault_site

NPM = 'npm-canary/"Xy12"+value=1'

LEAK = """
import base64, json, os, subprocess, sys
from pathlib import Path
from urllib.parse import quote
given = Path(os.environ["CLOUD_CODE_CREDENTIALS"])
values = [(given / name).read_text() for name in ("NPM_TOKEN", "DATABASE_URL")]
encodings = [
    lambda v: v,
    lambda v: base64.b64encode(v.encode()).decode(),
    lambda v: base64.urlsafe_b64encode(b"x" + v.encode()).decode(),
    lambda v: v.encode().hex(),
    lambda v: quote(v, safe=""),
    lambda v: json.dumps({"v": v}),
]
forms = [encode(value) for value in values for encode in encodings]
for form in forms:
    print("printed", form)
    print("to the error stream", form, file=sys.stderr)
    for verb in ("note", "decision"):
        subprocess.run(["agent-daemon", verb, f"{verb}: {form}"], check=True)
home, artifacts = Path(os.environ["HOME"]), Path(".cloud-code/artifacts")
(home / "session.jsonl").write_text("".join(json.dumps({"out": form}) + "\\n" for form in forms))
(artifacts / "notes.txt").write_text("\\n".join(forms))
if "E_SECRET_IN_OUTPUT" not in Path(".cloud-code/tasking.yaml").read_text():
    for number, form in enumerate(forms):
        Path(f"leak-{number}.txt").write_text(form)
        name = form.replace("/", "_")[:200]
        Path(f"n{number}-{name}").write_text("x")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "leak " + " ".join(forms)], check=True)
    subprocess.run([*git, "tag", "t-" + values[0].encode().hex()], check=True)
    subprocess.run([*git, "branch", "kept"], check=True)
    subprocess.run([*git, "config", "remote.x.url", values[1]], check=True)
else:
    for path in [*Path().glob("leak-*"), *Path().glob("n[0-9]*")]:
        path.unlink()
Path("calc.py").write_text("def add(a, b):\\n    return a + b\\n")
"""


def all_objects(repository: Path) -> bytes:
    """Everything that was ever pushed there."""
    found = git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", cwd=repository).split()
    command = ["git", "cat-file", "--batch"]
    return subprocess.run(
        command, cwd=repository, input="\n".join(found).encode(), capture_output=True, check=True, timeout=60
    ).stdout


def unpacked(data: bytes) -> bytes:
    """A file, and whatever is packed in it as git and gzip do it."""
    found = [data]
    for packed in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", data):
        with contextlib.suppress(zlib.error):
            found.append(zlib.decompressobj(47).decompress(data[packed.start() :], 1_000_000))
    return b"\n".join(found)


def posted(forges: ForgeSite) -> str:
    """Everything that the forge was told: its whole state."""
    with forges.hub.lock:
        return repr(forges.hub.repos[REPO])


def test_no_value_leaves_by_any_exit(tmp_path: Path) -> None:
    with vault_site(fake=True) as vault, forge_site(tmp_path) as forges:
        site, outside = forges.site, tmp_path.with_name(f"{tmp_path.name}-outside")
        outside.mkdir()
        seen = Path(f"/dev/shm/cloud-code-test-{uuid.uuid4().hex}")
        vault.put("npm/read", value=NPM)
        site.config["secrets"] = vault.settings(outside)
        url = "postgres://{username}:{password}@db.example/app"
        site.config["credentials"] = {
            "npm_token": {"access": {"read": {"secret": "npm/read"}}},
            "database_url": {"access": {"read_write": {"lease": vault.lease, "template": url}}},
            "ssh_key": {"access": {"read": {"secret": "npm/read"}}},
        }
        leak = tmp_path / "leak.py"
        leak.write_text(LEAK)
        site.use_script(
            "agent-daemon credential npm_token --reason packages --wait 60",
            "agent-daemon credential database_url --access read_write --reason migrate --wait 90",
            "agent-daemon credential ssh_key --reason login --wait 90 || true",
            f"(cat $CLOUD_CODE_CREDENTIALS/DATABASE_URL; echo) >> {seen}",
            f"python3 {leak}",
        )
        site.config["projects"]["hub"]["verification"] = [
            {"name": "leaks", "command": 'echo "$NPM_TOKEN $DATABASE_URL"; echo "$DATABASE_URL" | base64 -w0'}
        ]
        site.write_config()
        try:
            site.start()
            number = forges.labelled()
            for verb, name in (("approve", "cred-002"), ("deny", "cred-003 no logins")):
                wait_for(lambda name=name: [s for s in forges.said(number) if name.split()[0] in s and "🔑" in s])
                forges.hub.comment(REPO, number, "ada", f"/cloud-code {verb} {name}")
            task = site.wait_state(f"hub.{number}", "review")
            values = [NPM, *seen.read_text().split()]
        finally:
            seen.unlink(missing_ok=True)
        assert [attempt.verdict for attempt in task.attempts] == ["claim refused", "completed"]
        assert len(set(values)) == 3  # each attempt was lent another one
        wait_for(lambda: any("Ready" in said or "review" in said for said in forges.said(number)))
        shown = [
            site.cli(*words).stdout
            for words in (
                ("task", "show", task.id), ("task", "logs", task.id), ("task", "explain", task.id), ("events",),
                ("credential", "audit"), ("credential", "show", task.id, "cred-002"), ("status",),
                ("task", "show", task.id, "--json"), ("credential", "list", "--all", "--json"),
            )
        ]  # fmt: skip
        assert "[hidden]" in "".join(shown)
        site.cli("task", "cancel", task.id)
        wait_for(lambda: vault.fake is not None and not vault.fake.lent(), what="nothing is lent any more")
        wait_for(
            lambda: not list(site.root.mail_in("backend-1").glob("hub.*")), what="its folder in in/ is cleared"
        )
        wait_for(
            lambda: not list(site.root.workspace("backend-1").glob("*.worktrees/*")), what="its worktree goes"
        )
        wait_for(lambda: not files_below(site.root.salvage, "*.bundle"), what="saved work that holds them goes")
        wait_for(lambda: not list(site.root.quarantine.iterdir()), what="and is gone")
        exits = {
            "the forge": posted(forges).encode(),
            "what was pushed": all_objects(tmp_path / "hub.git"),
            "the command line": "".join(shown).encode(),
            "names": "\n".join(
                f"{place} {folders} {files}" for place, folders, files in os.walk(tmp_path)
            ).encode(),
        }
        exits |= {str(path): unpacked(data) for path, data in bytes_below(tmp_path)}
        forms = {form for value in set(values) for form in forms_of(value)}
        leaks = [(where, form) for where, data in exits.items() for form in forms if form in data]
        assert sorted({(where, form.decode()[:60]) for where, form in leaks}) == []
        asked = [e for e in json.loads(site.cli("credential", "audit", "--json").stdout) if e["actor"] == "ada"]
        assert {e["event"] for e in asked} == {"credential.granted", "credential.denied"}
        assert {e["details"]["via"] for e in asked} == {"comment"}
