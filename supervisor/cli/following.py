"""Printing a file that another program writes, to the end or for as long as it grows."""

import codecs
import time
from collections.abc import Callable
from pathlib import Path

import click

from supervisor.cli.hidden import hide
from supervisor.cli.output import note
from supervisor.tail import GrowingFile
from supervisor.terminal import plain

LAST_BYTES = 1024 * 1024
LOOK_SECONDS = 0.3


def print_growing(
    folder: Path,
    relative: str,
    *,
    follow: bool,
    goes_on: Callable[[], bool] = lambda: True,
    show: Callable[[str], str] = plain,
) -> None:
    """Print at most the last MiB of a file as plain text; with `follow` also what is added while `goes_on()`.

    `show` makes what is printed of some whole lines.

    FileNotFoundError, ProtocolError.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    with GrowingFile(folder, relative, last_bytes=LAST_BYTES) as file:
        if file.cut_bytes:
            note(f"[the first {file.cut_bytes} bytes are left out: {folder / relative}]")
        while True:
            going = follow and goes_on()  # asked before the read, so that nothing written until then is missed
            while chunk := file.read():
                # Whole lines only, so that no escape sequence is cut in two.
                lines, newline, rest = (rest + decoder.decode(chunk)).rpartition("\n")
                if newline and (shown := show(lines)):
                    click.echo(hide(shown))
            if not going:
                break
            time.sleep(LOOK_SECONDS)
    if rest and (shown := show(rest)):
        click.echo(hide(shown))
