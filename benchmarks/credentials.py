"""From an agent's request to the value in its hands, and how fast what leaves is searched for secrets."""

import json
import os
import random
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from agent_daemon.hiding import HIDDEN
from benchmarks.figure import Figure, Size, percentile
from supervisor.core.states import State
from supervisor.outgoing import Outgoing
from tests.site import Site, wait_for

# So many different things one run of a task may ask for.
TYPES = 20
LIVE_VALUES = 500
TEXT_BYTES = 8_000_000
CHUNK_BYTES = 64 * 1024

# Run in place of a coding CLI: leaves each request as `agent-daemon credential` does, and waits for the value.
_ASK = """
import json, os, sys, time
from pathlib import Path
from agent_daemon.noting import _leave
given, found = Path(os.environ["CLOUD_CODE_CREDENTIALS"]), []
for number in range({types}):
    began = time.perf_counter()
    _leave(kind="credential", type=f"t{{number}}", access="read", scope=None, text="measured")
    while not (given / f"T{{number}}").exists():
        time.sleep(0.001)
    found.append(time.perf_counter() - began)
    time.sleep(0.05)
Path("{out}").mkdir(exist_ok=True)
(Path("{out}") / Path.cwd().name).write_text(json.dumps(found))
Path("done.txt").write_text("x")
"""


def measure(folder: Path, size: Size) -> list[Figure]:
    """Real programs with one workstation, then the redactor alone."""
    return [_granting(folder / "granting", size), *_redactor(size)]


def _granting(folder: Path, size: Size) -> Figure:
    folder.mkdir(parents=True)
    site, out = Site(folder), folder / "times"
    (folder / "ask.py").write_text(_ASK.format(types=TYPES, out=out))
    site.use_script(f"{sys.executable} {folder / 'ask.py'}")
    site.config["credentials"] = {
        f"t{number}": {"access": {"read": {"secret": "value", "granted": "by_rule"}}} for number in range(TYPES)
    }
    site.write_config()
    keep = [sys.executable, "-m", "supervisor", "--root", str(site.root.path), "secret", "set", "value"]
    subprocess.run(
        keep,
        input="measured-value-1",
        text=True,
        env=site._environment(),
        check=True,
        capture_output=True,
        timeout=60,
    )
    tasks = max(1, size.runs // 3)
    try:
        site.start()
        for number in range(tasks):
            site.write_task(f"ask-{number}")

        def all_done() -> bool:
            found = [site.record(f"demo.ask-{number}") for number in range(tasks)]
            return all(task is not None and task.state is State.REVIEW for task in found)

        wait_for(all_done, timeout_seconds=180, what="every task has asked")
        seconds = [one for path in out.iterdir() for one in json.loads(path.read_text())]
    finally:
        site.close()
    return Figure(
        name="credential by rule: written → usable, 95 %",
        measured=1000 * percentile(seconds, 95),
        unit="ms",
        bar=1000,
        note=f"{len(seconds)} requests, half within {1000 * percentile(seconds, 50):.0f} ms",
    )


def _redactor(size: Size) -> Iterator[Figure]:
    """Megabytes a second, with some of the values in the text; beside `str.replace` of the plain values alone."""
    chance = random.Random(1)
    letters = string.ascii_letters + string.digits
    values = {f"secret-{number}": "".join(chance.choices(letters, k=40)) for number in range(LIVE_VALUES)}
    lines = [
        f"2026-01-07T10:30:00Z INFO request {chance.randrange(10**9)} took {chance.random():.6f} s\n"
        for _ in range(TEXT_BYTES // 70)
    ]
    for place in range(0, len(lines), 5000):
        lines[place] += chance.choice(list(values.values())) + "\n"
    text = "".join(lines)
    blob = os.urandom(TEXT_BYTES // 2) + text[: TEXT_BYTES // 2].replace("\n", "\r\n").encode()
    for value in values.values():
        blob = blob.replace(value.encode(), b"")
    outgoing = Outgoing(lambda: values)
    outgoing.hide("")  # (made once for these values)
    chunks = [blob[at : at + CHUNK_BYTES] for at in range(0, len(blob), CHUNK_BYTES)]
    runs = max(1, size.runs // 3)
    hiding = _fastest(runs, lambda: outgoing.hide(text))
    scanning = _fastest(runs, lambda: outgoing.scan(iter(chunks)))
    replacing = _fastest(1, lambda: _replaced(text, values.values()))
    megabytes = len(text) / 1e6
    yield Figure(
        name="redactor: logs and comments",
        measured=megabytes / hiding,
        unit="MB/s",
        note=_beside(replacing / hiding, megabytes / replacing),
    )
    yield Figure(
        name="redactor: pushed blobs", measured=len(blob) / 1e6 / scanning, unit="MB/s", note="half of them binary"
    )


def _beside(ratio: float, plain: float) -> str:
    return f"{LIVE_VALUES} values in all encodings; {ratio:.1f} × str.replace with plain ones ({plain:.2g} MB/s)"


def _replaced(text: str, values: Iterable[str]) -> str:
    hidden = HIDDEN.decode()
    for value in values:
        text = text.replace(value, hidden)
    return text


def _fastest(runs: int, call: Callable[[], object]) -> float:
    """Seconds: the shortest of the runs, which other work disturbed the least."""
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return min(found)
