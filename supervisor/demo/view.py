"""What a person sees while the demo runs: two columns on a terminal, plain lines everywhere else."""

import time
from collections import deque
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from supervisor.demo.follow import Follower, Line, Side

_SHOWN = 14
_SHOWN_STACKED = 8
_WIDE_COLUMNS = 110  # below that, the two sides stand above each other
_TITLES: dict[Side, str] = {
    "supervisor": "supervisor (this host)",
    "workstation": "workstation backend-1 (a process of its own)",
}


class View(Protocol):
    """Shows lines as they come, as a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None: ...

    def show(self, lines: list[Line], follower: Follower) -> None: ...


def view_for(console: Console) -> View:
    return LiveView(console) if console.is_terminal else PlainView(console)


class PlainView:
    """One line for each thing that happens, with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        self._console, self._started = console, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        pass

    def show(self, lines: list[Line], follower: Follower) -> None:
        for line in lines:
            seconds = time.monotonic() - self._started
            self._console.print(
                f"{seconds:5.1f} s  {line.side:<11}  {line.text}", markup=False, highlight=False, soft_wrap=True
            )


class LiveView:
    """Both sides beside each other, the newest lines of each; the last picture stays on the terminal."""

    def __init__(self, console: Console) -> None:
        self._console, self._started = console, time.monotonic()
        self._lines: dict[Side, deque[str]] = {side: deque(maxlen=_SHOWN) for side in _TITLES}
        self._live = Live(console=console, refresh_per_second=8, transient=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._live.__exit__(None, None, None)

    def show(self, lines: list[Line], follower: Follower) -> None:
        for line in lines:
            self._lines[line.side].append(line.text)
        self._live.update(self._render(follower))

    def _render(self, follower: Follower) -> RenderableType:
        wide = self._console.width >= _WIDE_COLUMNS
        panels = [self._panel(side, _SHOWN if wide else _SHOWN_STACKED) for side in _TITLES]
        table = Table.grid(expand=True)
        for _ in panels if wide else panels[:1]:
            table.add_column(ratio=1)
        for row in [panels] if wide else [[panel] for panel in panels]:
            table.add_row(*row)
        state = follower.task.state.value if follower.task else "not there yet"
        said = follower.report.status.value if follower.report else "nothing yet"
        seconds = time.monotonic() - self._started
        footer = Text(f" task: {state}   report: {said}   {seconds:.0f} s   Between the two: files in mail/ only.")
        return Group(table, footer)

    def _panel(self, side: Side, lines: int) -> Panel:
        text = Text("\n".join(list(self._lines[side])[-lines:]), overflow="ellipsis", no_wrap=True)
        return Panel(text, title=_TITLES[side], height=lines + 2)
