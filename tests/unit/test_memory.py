"""Whether memory ran out, by the kernel's files of either version."""

from pathlib import Path

import pytest

from agent_daemon.memory import MemoryWatch

V1, V2 = ("memory/memory.oom_control", "memory/memory.limit_in_bytes"), ("memory.events", "memory.max")


def write(groups: Path, file: str, text: str) -> None:
    (groups / file).parent.mkdir(exist_ok=True)
    (groups / file).write_text(text)


@pytest.mark.parametrize(("events", "limit"), [V1, V2])
def test_it_is_said_with_the_limit_only_if_the_kernel_ended_something_since(
    tmp_path: Path, events: str, limit: str
) -> None:
    write(tmp_path, events, "low 0\nunder_oom 0\noom 9\noom_kill 2\n")
    write(tmp_path, limit, f"{512 * 1024**2}\n")
    watch = MemoryWatch(tmp_path)
    assert watch.ran_out() == ""
    write(tmp_path, events, "low 0\nunder_oom 0\noom 10\noom_kill 3\n")
    assert watch.ran_out().startswith("out of memory: ") and "512 MiB" in watch.ran_out()
    for none in ("max\n", "9223372036854771712\n"):
        write(tmp_path, limit, none)
        assert "MiB" not in watch.ran_out() and watch.ran_out()


def test_where_the_kernel_says_nothing_nothing_is_said(tmp_path: Path) -> None:
    watch = MemoryWatch(tmp_path)
    assert watch.ran_out() == ""
    write(tmp_path, V2[0], "oom_kill 3\n")
    assert watch.ran_out() == "", "nobody knows how many there were before"
