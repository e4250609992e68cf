"""A coding CLI that is no coding CLI: it follows a script, understands nothing, and says so.

The demo runs it in the place of a real one, so that the demo needs no account, no model and no network.
It reads its prompt from standard input, works in the current folder, and prints JSON lines as the adapter
`command` reads them. It pauses between steps so that a person can follow.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

PAUSE_SECONDS = 0.7
FILE = Path("shipping.py")
WRONG, RIGHT = "goods_cents > FREE_FROM_CENTS", "goods_cents >= FREE_FROM_CENTS"
TEST = (sys.executable, "-B", "-m", "unittest")


def say(message: str, **more: object) -> None:
    """One step, told in one line; then a pause."""
    sys.stdout.write(json.dumps({"type": "progress", "message": message, **more}) + "\n")
    sys.stdout.flush()
    time.sleep(PAUSE_SECONDS)


def run_tests() -> int:
    """Run the repository's tests, show the line that counts, return the exit code."""
    ended = subprocess.run(TEST, capture_output=True, text=True, timeout=60, check=False)
    last = (ended.stderr.strip() or "no output").splitlines()[-1]
    say(f"python -m unittest: {last}", command="python -m unittest", exit_code=ended.returncode)
    return ended.returncode


def title_of(prompt: str) -> str:
    found = re.search(r"<task-title>\s*(.*?)\s*</task-title>", prompt, re.DOTALL)
    return found[1] if found else "(no title)"


def main() -> int:
    """Mend the one thing that this script knows; exit code 1 anywhere else."""
    prompt = sys.stdin.read()
    say("I am the demo's scripted program, not a model: I follow fixed steps and understand nothing")
    say(f"Read the prompt from standard input: {len(prompt.splitlines())} lines, '{title_of(prompt)}'")
    if not FILE.exists():
        say(f"There is no {FILE} here, and this script knows nothing else", type="error")
        return 1
    run_tests()
    text = FILE.read_text()
    FILE.write_text(text.replace(WRONG, RIGHT))
    say(f"Edited {FILE}: '>' became '>='", path=str(FILE))
    if run_tests() != 0:
        say("The tests still fail", type="error")
        return 1
    say("I leave the change uncommitted: the daemon commits it")
    say(
        "An order of exactly 50.00 ships for free now: the comparison in shipping_cents() includes the limit. "
        "(Said by a scripted program.)",
        type="result",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
