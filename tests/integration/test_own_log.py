"""The daemon's own log never grows beyond its bound, whatever writes into it."""

import subprocess
import sys
from pathlib import Path

LIMIT = 10_000
PROGRAM = f"""
import os, sys
from loguru import logger
from agent_daemon.own_log import OwnLog
logger.remove()
logger.add(OwnLog(limit_bytes={LIMIT}), format="{{message}}")
for number in range(3000):
    logger.info("line {{}}", number)
    if number % 100 == 0:
        os.write(2, b"from elsewhere\\n")
raise SystemExit("the last words")
"""


def run(target: Path, mode: str) -> Path:
    with target.open(mode) as output:
        ended = subprocess.run([sys.executable, "-c", PROGRAM], stderr=output, check=False, timeout=60)
    assert ended.returncode == 1
    return target


def test_a_file_is_kept_bounded_and_its_newest_lines_are_there(tmp_path: Path) -> None:
    log = run(tmp_path / "backend-1.log", "ab")
    older = log.with_name("backend-1.log.1")
    assert log.stat().st_size < LIMIT + 200 and LIMIT <= older.stat().st_size < LIMIT + 200
    lines = [line for file in (older, log) for line in file.read_text().splitlines()]
    assert lines[-1] == "the last words"
    numbers = [int(line.removeprefix("line ")) for line in lines if line.startswith("line ")]
    assert numbers == list(range(numbers[0], 3000)), "nothing is lost at the seam"
    assert "from elsewhere" in lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backend-1.log", "backend-1.log.1"]


def test_a_log_that_was_moved_away_is_emptied_all_the_same(tmp_path: Path) -> None:
    moving = f"import os\nos.rename({str(tmp_path / 'a.log')!r}, {str(tmp_path / 'b.log')!r})\n"
    with (tmp_path / "a.log").open("ab") as output:
        subprocess.run([sys.executable, "-c", moving + PROGRAM], stderr=output, check=False, timeout=60)
    assert (tmp_path / "b.log").stat().st_size < LIMIT + 200


def test_a_file_that_is_not_open_for_appending_is_left_alone(tmp_path: Path) -> None:
    log = run(tmp_path / "daemon.log", "wb")
    assert log.read_text().count("\n") == 3031 and len(list(tmp_path.iterdir())) == 1


def test_a_pipe_gets_every_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.stderr.count("\n") == 3031
