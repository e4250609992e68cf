"""The book of what is held for attempts: a file for each thing, written before it can be forgotten by a crash."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from loguru import logger
from pydantic import BaseModel, ValidationError

from agent_daemon.protocol.files import make_folder, write_file
from supervisor.errors import writing


class Entry(Protocol):
    """What every page tells: its name, and the attempt and the grant that it is held for."""

    @property
    def name(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def grant(self) -> str: ...
    @property
    def attempt(self) -> int: ...


E = TypeVar("E", bound=Entry)
M = TypeVar("M", bound=BaseModel)


@dataclass(kw_only=True)
class Held(Generic[E]):
    """A page as this process knows it; see `lending.Page`. `is_worn`: another one is to take its place."""

    entry: E
    renew_at: float = field(default=0.0)
    is_worn: bool = field(default=False)

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def grant_key(self) -> tuple[str, str]:
        return self.entry.task, self.entry.grant

    @property
    def attempt(self) -> int:
        return self.entry.attempt


def read_pages(folder: Path, kind: type[M]) -> Iterator[tuple[Path, M]]:
    """Every page and its file; one that cannot be read is told in the log and left."""
    for path in folder.glob("*.json") if folder.is_dir() else ():
        try:
            entry = kind.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            logger.error("{} cannot be read: {}", path, type(error).__name__)
            continue
        yield path, entry


def wear_former(pages: Iterable[Held[E]]) -> None:
    """Of those for one grant and attempt, oldest first, all but the last are worn: that took their place."""
    newest: dict[tuple[str, str, int], Held[E]] = {}
    for page in pages:
        former = newest.get(key := (*page.grant_key, page.attempt))
        if former is not None:
            former.is_worn = True
        newest[key] = page


def write_page(folder: Path, name: str, entry: BaseModel) -> None:
    """Durably; CloudCodeError where it cannot be."""
    with writing(folder):
        make_folder(folder)
        write_file(folder / f"{name}.json", entry.model_dump_json(indent=1).encode(), mode=0o600)


def remove_page(folder: Path, name: str) -> None:
    (folder / f"{name}.json").unlink(missing_ok=True)
