"""A test process that is killed leaves nothing running."""

import contextlib
import subprocess
import sys
from pathlib import Path

from tests.janitor import HERE
from tests.site import processes_of, wait_for

TEST = """
import sys
import time
from pathlib import Path
from tests.janitor import watch_over
from tests.site import Site, wait_for
folder = Path(sys.argv[1])
janitor = watch_over(folder)
site = Site(folder / "site")
site.use_script("cat > /dev/null", "sleep 600")
site.write_config()
site.start()
site.write_task("hangs")
site.wait_state("demo.hangs", "in_progress")
wait_for((site.root.worktree("backend-1", "demo", "demo.hangs") / "calc.py").exists)
print("ready", flush=True)
time.sleep(600)
"""


def is_supervisor(pid: int) -> bool:
    with contextlib.suppress(OSError):  # it has ended meanwhile, as git does
        return b"-m\0supervisor\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def test_a_killed_test_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    command = [sys.executable, "-c", TEST, str(tmp_path)]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None and killed.stdout.readline() == b"ready\n"
        try:
            wait_for(lambda: len(processes_of(tmp_path)) >= 3, what="a supervisor, a daemon and a coding CLI")
            wait_for(lambda: any(is_supervisor(pid) for pid in processes_of(tmp_path)), what="a supervisor")
        finally:
            killed.kill()
    wait_for(lambda: not processes_of(tmp_path))
