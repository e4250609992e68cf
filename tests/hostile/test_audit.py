"""The audit sees what a program does: otherwise that it saw nothing would prove nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import audit

PROGRAM = """
import os, subprocess, sys, threading
os.chdir(sys.argv[1])
folder = os.open("here", os.O_PATH)
open("made, \\u00e9", "w").close()
os.mkdir("folder", dir_fd=folder)
os.rename("made, \\u00e9", "renamed", dst_dir_fd=folder)
os.symlink("/what/it/says", "link")
os.truncate("here/renamed", 3)
os.utime("here/renamed")
open("read").close()
subprocess.run(["true", "an argument"], cwd=sys.argv[1] + "/here", env={"A": "b c"}, check=True)
threading.Thread(target=lambda: open("by a thread", "a").close()).start()
"""


@pytest.mark.skipif(audit.why_not() != "", reason=audit.why_not())
def test_the_audit_sees_what_is_done(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "read").touch()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen([*audit.through(tmp_path / "trace"), *command]) as process:
        assert process.wait(timeout=60) == 0
    audit.wait_for_end(tmp_path / "trace", process.pid)
    found = audit.read_audit(tmp_path / "trace")
    changed = {str(Path(path).relative_to(tmp_path)) for path in found.changed if path.startswith(str(tmp_path))}
    assert changed == {"made, \u00e9", "here/folder", "here/renamed", "link", "by a thread"}
    assert str(tmp_path / "read") in found.opened
    (program,) = (one for one in found.executed if one.argv[0] == "true")
    assert (program.argv, program.environment) == (("true", "an argument"), ("A=b c",))
    assert program.folder == str(tmp_path / "here")
