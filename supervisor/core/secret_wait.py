"""Work that waits because what it takes cannot be had from where secrets are kept: no failure of the task's.

Derived from what was tried in vain. It is tried again until it can be had, and goes on by itself.
"""

from dataclasses import dataclass

from supervisor.core.delivery import push_key, request_key
from supervisor.core.record import TaskRecord, Tries
from supervisor.core.retry import AWAITED, LONGEST_AWAITED_SECONDS
from supervisor.core.states import State
from supervisor.core.times import duration


@dataclass(frozen=True, kw_only=True)
class SecretWait:
    """What waits, as a sentence without its end, and the error that is in the way: a code, and what it means."""

    what: str
    code: str
    error: str

    @property
    def words(self) -> str:
        return f"blocked: credential: {self.what}: {self.error.removesuffix('.')}"


# What a person does about it, and the command.
_MENDS = {
    "E_VAULT_SEALED": ("Unseal Vault: then it goes on by itself", "vault operator unseal"),
    "E_VAULT_DOWN": (
        "Bring Vault back, or correct `secrets.vault`: then it goes on by itself",
        "cloud-code doctor",
    ),
    "E_SECRETS_IDENTITY": (
        "Bring the identity that opens the secrets back, for its user alone: then it goes on by itself",
        "cloud-code doctor",
    ),
    "E_SECRETS_UNREADABLE": (
        "Bring the file of secrets, or its identity, back: then it goes on by itself",
        "cloud-code doctor",
    ),
    "E_NO_SECRET": ("Put the secret where it is looked for: then it goes on by itself", "cloud-code doctor"),
}
_OTHER_MEND = ("Mend what is in the way: then it goes on by itself", "cloud-code doctor")
GOES_ON = f"It goes on by itself, {duration(LONGEST_AWAITED_SECONDS)} after that can be had again at the latest."


def secret_wait(task: TaskRecord) -> SecretWait | None:
    """What of this task cannot be done for want of a secret at the moment; None where nothing is held up."""
    for what, work in _under_way(task):
        code, _, error = (work.error or "").partition(": ")
        if code in AWAITED:
            return SecretWait(what=what, code=code, error=error)
    return None


def mend_of(code: str) -> tuple[str, str]:
    """What a person does about this error, and the command."""
    return _MENDS.get(code, _OTHER_MEND)


def _under_way(task: TaskRecord) -> list[tuple[str, Tries]]:
    """What is being tried for the task as it is, and how that is said."""
    if task.state is State.PENDING:
        return [("it cannot be made ready", task.preparing)]
    newest = task.attempt_number(task.attempt)
    if task.state is not State.IN_PROGRESS or newest is None:
        return []
    if task.delivery is None:
        return [("its work is done, and cannot be checked and pushed yet", newest.inspecting)]
    said = {push_key(task): f"its work cannot be pushed to {task.branch} yet", request_key(task): "no request yet"}
    return [
        (said[effect.key], effect) for effect in task.effects if effect.status != "done" and effect.key in said
    ]
