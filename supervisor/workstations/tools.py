"""Which volume holds the tools of a workstation: named in a file, so that another one replaces it at a stroke."""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loguru import logger

from agent_daemon.failpoints import reach
from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import make_folder, read_file, write_file
from agent_daemon.protocol.paths import Root
from supervisor.core.record import Stored
from supervisor.errors import CloudCodeError
from supervisor.workstations.engine import Engine, EngineRefusalError


class ToolsFile(Stored):
    """`state/tools/<workstation>.yaml`: there once the tools of a workstation have been restored.

    `volume` holds them; `goes` was replaced by it, or is still being filled, and is to be removed.
    """

    version: Literal[1] = 1
    volume: str
    goes: str | None = None


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Those of one workstation; `usual` is the volume as long as none has taken its place."""

    root: Root
    workstation: str
    usual: str

    @property
    def volume(self) -> str:
        """As of now. E_TOOLS_FILE."""
        return self._known().volume

    @contextlib.contextmanager
    def replacing(self, engine: Engine) -> Iterator[str]:
        """A volume to be filled, which takes the place of the tools once that is done.

        Ended at any moment, by an error or a kill, these are either as they were or replaced whole.
        """
        before = self._cleared(engine).volume
        fresh = f"{self.usual}.{uuid.uuid4().hex[:8]}"
        self._note(ToolsFile(volume=before, goes=fresh))
        try:
            yield fresh
            reach("restore.filled")
            self._note(ToolsFile(volume=fresh, goes=before))
            reach("restore.replaced")
        finally:
            self.clear_left(engine)

    def clear_left(self, engine: Engine) -> None:
        """Remove the volume that is noted as going; where the engine does not do it, the next one tries."""
        try:
            self._cleared(engine)
        except CloudCodeError as error:
            logger.warning("what was left of a restored workstation is still there: {}", error)

    def _cleared(self, engine: Engine) -> ToolsFile:
        known = self._known()
        if known.goes is None:
            return known
        remove_volume(engine, known.goes)
        cleared = ToolsFile(volume=known.volume)
        self._note(cleared)
        return cleared

    def _known(self) -> ToolsFile:
        name = f"state/tools/{self.workstation}.yaml"
        try:
            return decode(ToolsFile, read_file(self._folder, f"{self.workstation}.yaml").data, file=name)
        except FileNotFoundError:
            return ToolsFile(volume=self.usual)
        except (OSError, ProtocolError) as error:
            raise CloudCodeError(
                "E_TOOLS_FILE",
                f"{self.root.path / name}, which names the volume of its tools, cannot be read: {error}.",
                f"Write `version: 1` and `volume: NAME` into it (`docker volume ls --filter name={self.usual}`), "
                f"or delete it: the volume is {self.usual} then.",
            ) from None

    def _note(self, known: ToolsFile) -> None:
        make_folder(self._folder)
        write_file(self._folder / f"{self.workstation}.yaml", encode(known), mode=0o640)

    @property
    def _folder(self) -> Path:
        return self.root.state / "tools"


def remove_volume(engine: Engine, volume: str) -> None:
    """E_ENGINE while a container uses it."""
    try:
        engine.delete(f"/volumes/{volume}")
    except EngineRefusalError as error:
        if error.status != 404:
            raise
