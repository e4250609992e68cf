"""The name of a root, which stands in every label, and the count of its starts: `state/root-id`."""

import uuid

from agent_daemon.protocol.codec import decode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.model import SupervisorIdentity, Written
from agent_daemon.protocol.paths import Root
from supervisor.errors import CloudCodeError


class RootIdentity(Written):
    """`state/root-id`: a name for this root that stands in every label, and the count of its starts."""

    id: str
    epoch: int = 0


def root_id_of(root: Root) -> str:
    """The id of a root, which a supervisor gives it at its first start; E_NOT_RUNNING before that."""
    try:
        return decode(RootIdentity, root.root_id.read_bytes(), file="state/root-id").id
    except FileNotFoundError:
        raise CloudCodeError("E_NOT_RUNNING", "No supervisor has run here yet.", "cloud-code run") from None


def next_epoch(root: Root, name: str | None = None) -> SupervisorIdentity:
    """The identity of this start of the supervisor; the epoch grows with each. `name` is the configured id.

    CloudCodeError E_ROOT_ID when the file is damaged: another id would make this another root.
    """
    try:
        known = decode(RootIdentity, root.root_id.read_bytes(), file="state/root-id")
    except FileNotFoundError:
        known = RootIdentity(id=uuid.uuid4().hex[:12])
    except (OSError, ProtocolError) as error:
        raise CloudCodeError(
            "E_ROOT_ID",
            f"{root.root_id} cannot be read: {error}.",
            "Write the lines `id: …` and `epoch: …` into it: they stand under `supervisor` in each tasking.yaml "
            "below mail/. Where there is none, delete the file, and a new id is made.",
        ) from None
    epoch = known.epoch + 1
    write_file(root.root_id, f"id: {known.id}\nepoch: {epoch}\n".encode())
    return SupervisorIdentity(id=name or known.id, epoch=epoch)
