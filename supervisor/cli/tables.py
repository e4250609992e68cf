"""Tables that fit: on a narrow terminal columns are left out, then rows become lines. No name is ever cut."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_GAP = 3  # between two columns, as the box draws them
_COMFORTABLE, _BEARABLE = 30, 16  # columns of text for the last cell, which may be folded


def lay_out(
    columns: Sequence[str], rows: Sequence[Sequence[Text]], width: int, *, title: str | None, least: Sequence[str]
) -> RenderableType:
    """A table for a terminal of this width; its last column takes what is left, and is folded.

    `least` are the columns that are missed least, those first that go first.
    """
    natural = [max(len(name), *(row[n].cell_len for row in rows), 0) for n, name in enumerate(columns)]
    shown = list(range(len(columns)))

    def left() -> int:
        return width - sum(natural[number] + _GAP for number in shown[:-1])

    for name in least:
        if left() >= min(natural[-1], _COMFORTABLE):
            break
        shown.remove(columns.index(name))
    if left() < min(natural[-1], _BEARABLE):
        return _lines(rows, title)
    table = Table(box=box.SIMPLE_HEAD, title=title, pad_edge=False, show_edge=False)
    table.title_justify, table.title_style = "left", "bold"
    for number in shown[:-1]:
        table.add_column(columns[number], no_wrap=True, min_width=natural[number])
    table.add_column(columns[shown[-1]], overflow="fold", ratio=1)
    for row in rows:
        table.add_row(*(row[number] for number in shown))
    return table


def _lines(rows: Sequence[Sequence[Text]], title: str | None) -> RenderableType:
    """Each row on a line of its own, its last cell below."""
    parts: list[RenderableType] = [Text(title, "bold")] if title else []
    for row in rows:
        head = Text("  ").join(cell for cell in row[:-1] if cell.plain)
        head.no_wrap, head.overflow = True, "ignore"  # the terminal breaks it where it must, and it can be copied
        parts.append(head)
        if row[-1].plain:
            parts.append(Text("    ") + row[-1])
    return Group(*parts)
