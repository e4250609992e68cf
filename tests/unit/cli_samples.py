"""Captured output of real coding CLIs (tests/samples), and how their runs ended."""

from dataclasses import replace
from pathlib import Path

from agent_daemon.execution import Finished

SAMPLES = Path(__file__).parents[1] / "samples"
ENDED = Finished(exit_code=0, signalled_by_us=False, reason="exited", duration_seconds=1.0, output_bytes=1)
FAILED = replace(ENDED, exit_code=1)
STOPPED = replace(ENDED, signalled_by_us=True, reason="stopped", stop_reason="interrupted")


def names_in(folder: str) -> list[str]:
    return sorted({path.stem for path in (SAMPLES / folder).iterdir()})


def lines_in(folder: str, name: str) -> list[tuple[str, str]]:
    """What the program wrote; the two streams were captured apart, so that their order is not known."""
    return [
        (stream, line)
        for stream, suffix in (("stderr", ".err"), ("stdout", ".jsonl"))
        if (path := SAMPLES / folder / f"{name}{suffix}").exists()
        for line in path.read_text().splitlines()
    ]
