"""Deliveries of webhooks: whether one is the forge's, which one it is, and when it wakes the poll."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace

PATH = "/hooks/"
# However many deliveries come, a project is polled no more often for them.
GAP_SECONDS = 0.25
# A forge tells of a change before its lists show it: it is looked once more after the last delivery.
AGAIN_SECONDS = 3.0

# A signature counts for so long: one that was overheard is of no use later.
TOLERANCE_SECONDS = 300
_PROOFS = {"github": b"x-hub-signature-256", "gitlab": b"x-gitlab-token"}
# GitLab's signing tokens, as of version 19 (Standard Webhooks): the key follows in Base64.
_SIGNING = "whsec_"
_SIGNED = b"webhook-signature"
# GitLab repeats a delivery with the same key; its event's UUID is shared by whatever one event sets off.
_IDS = (b"x-github-delivery", b"webhook-id", b"idempotency-key", b"x-gitlab-event-uuid")


def proof_of(forge: str, headers: Mapping[bytes, bytes]) -> bytes:
    """What is to prove that the forge sent it; empty where it is missing. Names of headers in small letters."""
    signed = headers.get(_SIGNED, b"") if forge == "gitlab" else b""
    return headers.get(_PROOFS[forge], b"") or signed


def is_authentic(forge: str, secret: str, headers: Mapping[bytes, bytes], body: bytes, now_epoch: float) -> bool:
    """GitHub signs the bytes as they were sent; GitLab does with a signing token, and sends another secret along.

    `now_epoch` is in seconds since 1970: what GitLab signed long ago is none of its deliveries.
    """
    if forge == "gitlab" and secret.startswith(_SIGNING):
        return _is_signed(secret, headers, body, now_epoch)
    key = secret.encode(errors="surrogateescape")
    wanted = key if forge == "gitlab" else b"sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest().encode()
    return hmac.compare_digest(headers.get(_PROOFS[forge], b""), wanted)


def _is_signed(secret: str, headers: Mapping[bytes, bytes], body: bytes, now_epoch: float) -> bool:
    """Whether one of the signatures of id, time and body is made with this key (standardwebhooks.com)."""
    sent_at = headers.get(b"webhook-timestamp", b"")
    if not sent_at.isdigit() or len(sent_at) > 12 or abs(now_epoch - int(sent_at)) > TOLERANCE_SECONDS:
        return False
    try:
        key = base64.b64decode(secret.removeprefix(_SIGNING), validate=True)
    except ValueError:
        return False
    if not key:  # with which anybody can sign
        return False
    content = b".".join((headers.get(b"webhook-id", b""), sent_at, body))
    wanted = b"v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest())
    return any(hmac.compare_digest(found, wanted) for found in headers.get(_SIGNED, b"").split()[:10])


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
