"""Deliveries of webhooks: whether one is the forge's, which one it is, and when it wakes the poll."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace

PATH = "/hooks/"
# However many deliveries come, a project is polled no more often for them.
GAP_SECONDS = 0.5
# A forge tells of a change before its lists show it: it is looked once more after the last delivery.
AGAIN_SECONDS = 3.0

_PROOFS = {"github": b"x-hub-signature-256", "gitlab": b"x-gitlab-token"}
# GitLab repeats a delivery with the same key; its event's UUID is shared by whatever one event sets off.
_IDS = (b"x-github-delivery", b"idempotency-key", b"x-gitlab-event-uuid")


def proof_of(forge: str, headers: Mapping[bytes, bytes]) -> bytes:
    """What is to prove that the forge sent it; empty where it is missing. Names of headers in small letters."""
    return headers.get(_PROOFS[forge], b"")


def is_authentic(forge: str, secret: str, proof: bytes, body: bytes) -> bool:
    """GitHub signs the bytes as they were sent; GitLab sends the secret along."""
    key = secret.encode(errors="surrogateescape")
    wanted = key if forge == "gitlab" else b"sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest().encode()
    return hmac.compare_digest(proof, wanted)


def delivery_id(headers: Mapping[bytes, bytes]) -> bytes:
    """The name of a delivery, the same when it comes again; empty where it has none."""
    return next((headers[name][:200] for name in _IDS if headers.get(name)), b"")


@dataclass(frozen=True, kw_only=True)
class Wakes:
    """When a project's poll is woken, in monotonic seconds: after a delivery, and once more a little later."""

    last: float | None = None
    due: float | None = None
    again: float | None = None

    def delivered(self, now: float) -> "Wakes":
        return replace(self, due=now if self.due is None else self.due, again=now + AGAIN_SECONDS)

    @property
    def next(self) -> float | None:
        """The time of the next wake; None while nothing is to come."""
        wanted = [moment for moment in (self.due, self.again) if moment is not None]
        if not wanted:
            return None
        return min(wanted) if self.last is None else max(min(wanted), self.last + GAP_SECONDS)

    def taken(self, now: float) -> tuple["Wakes", bool]:
        """What is left at this time, and whether it is one to wake."""
        moment = self.next
        if moment is None or moment > now:
            return self, False
        again = self.again if self.again is not None and self.again > now else None
        return Wakes(last=now, again=again), True
