"""What was granted, encrypted for one daemon and laid ready in an attempt's mail."""

from typing import Protocol

from agent_daemon.protocol.files import make_folder, ring, write_file
from agent_daemon.protocol.model import SealedCredential, utc
from agent_daemon.protocol.paths import CREDENTIALS, Root
from supervisor.core.decision import Failed, Given
from supervisor.core.record import Grant
from supervisor.errors import CloudCodeError
from supervisor.mail import Box


class Credentials(Protocol):
    """Where the values of granted credentials come from, and how they are encrypted for one recipient."""

    def value(self, box: Box, grant: Grant) -> str:
        """The value for this attempt; CloudCodeError where there is none to be had."""

    def mark(self, value: str) -> str:
        """Names the value without telling it; the same after a restart."""

    def git_place(self, box: Box, grant: Grant) -> tuple[str, str] | None:
        """The host of which git is told it, and the user's name there; None where it is not for git."""

    def probe(self, task_id: str, credential_type: str, access: str) -> None:
        """CloudCodeError where such a value could not be had now."""

    def seal(self, plaintext: bytes, recipient: str) -> bytes:
        """Encrypt for this recipient alone; CloudCodeError where it is none."""


def give(root: Root, credentials: Credentials, box: Box, grant: Grant, recipient: str) -> Given | Failed:
    """Lay `credentials/<id>.age` ready."""
    try:
        value = credentials.value(box, grant)
        url, user = credentials.git_place(box, grant) or (None, "oauth2")
        sealed = SealedCredential(
            task=box.task_id,
            attempt=box.attempt,
            id=grant.id,
            env=grant.env,
            deliver=grant.deliver,
            expires_at=utc(grant.expires_at) if grant.expires_at is not None else None,
            value=value,
            git_url=url,
            git_user=user,
        )
        data = credentials.seal(sealed.model_dump_json().encode(), recipient)
    except CloudCodeError as error:
        return Failed(code=error.code, message=f"{error.message} {error.mend}".strip(), retryable=True)
    folder = root.attempt_in(box.workstation, box.task_id, box.attempt) / CREDENTIALS
    make_folder(folder)
    write_file(folder / f"{grant.id}.age", data, mode=0o600)
    ring(root.bell_in(box.workstation))
    return Given(credentials.mark(value))
