"""Whether attempts are given out: a person may stop that for a while, over restarts (`cloud-code drain`)."""

from dataclasses import dataclass, field

from pydantic import AwareDatetime

from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file, write_file
from agent_daemon.protocol.model import utc
from agent_daemon.protocol.paths import Root
from supervisor.clock import Clock
from supervisor.core.decision import Event
from supervisor.core.record import Stored

FILE = "drained.yaml"


class Drained(Stored):
    """`state/drained.yaml`: it is there while no attempt is given out because somebody asked for that."""

    since: AwareDatetime | None = None
    by: str = "somebody"


def read_drained(root: Root) -> Drained | None:
    """Since when and by whom; None while attempts are given out. A file that cannot be read counts, too."""
    try:
        return decode(Drained, read_file(root.state, FILE).data, file=f"state/{FILE}")
    except FileNotFoundError:
        return None
    except ProtocolError:
        return Drained()


@dataclass
class Draining:
    """The supervisor's own knowledge of it; called from the loop's thread only."""

    root: Root
    clock: Clock
    drained: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.drained = read_drained(self.root) is not None

    def may_begin(self) -> bool:
        """Whether another attempt may be given out."""
        return not self.drained

    def ask(self, drain: bool, actor: str) -> tuple[str, Event | None]:
        """Stop giving attempts out, or begin again: what to answer, and what to tell if it changed. OSError."""
        changed = drain != self.drained
        if drain and changed:
            write_file(self.root.state / FILE, encode(Drained(since=utc(self.clock.now()), by=actor)), mode=0o640)
        elif changed:
            (self.root.state / FILE).unlink(missing_ok=True)
        self.drained = drain
        event = Event(name="fleet.drained" if drain else "fleet.undrained", actor=actor) if changed else None
        if drain:
            return (
                f"{'' if changed else 'it was drained before: '}no attempt is given out until it is undone",
                event,
            )
        return f"{'' if changed else 'it was not drained: '}attempts are given out", event
