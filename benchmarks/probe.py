"""The real supervisor with a window: `python -m benchmarks.probe ROOT`, asked one line at a time on its input.

``count`` answers how many reports have been read so far, ``known`` the current step that it knows of each
task, both as one line of JSON.
"""

import json
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent_daemon.protocol.paths import Root
from supervisor.app import Supervisor, locked
from supervisor.mail import Box, Taken


def main(folder: str) -> None:
    root = Root(Path(folder))
    with locked(root):
        supervisor = Supervisor(root)
        taken = _count(supervisor)
        threading.Thread(target=_answer, args=(supervisor, taken), daemon=True).start()
        supervisor.run()


def _count(supervisor: Supervisor) -> list[int]:
    """Count the reports that the sweep takes in, each content once; the count is the only entry of the list."""
    total, sweep = [0], supervisor.mail.sweep
    steps: dict[Box, str] = {}

    def counted(boxes: Iterable[Box]) -> Iterator[Taken]:
        for taken in sweep(boxes):
            if taken.report is not None and steps.get(taken.box) != taken.report.current_step:
                steps[taken.box] = taken.report.current_step
                total[0] += 1
            yield taken

    supervisor.mail.sweep = counted  # type: ignore[method-assign]
    return total


def _answer(supervisor: Supervisor, taken: list[int]) -> None:
    for question in sys.stdin:
        if question.strip() == "count":
            answer: object = taken[0]
        else:
            reports = dict(supervisor.ledger.reports)
            answer = {task: max(by.items())[1].current_step for task, by in reports.items() if by}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
