"""Whose a delivery is, and when it wakes the poll."""

import base64
import hashlib
import hmac
import itertools

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from supervisor.core.webhook import (
    AGAIN_SECONDS,
    GAP_SECONDS,
    TOLERANCE_SECONDS,
    Wakes,
    delivery_id,
    is_authentic,
    proof_of,
)


def signed(secret: str, body: bytes) -> bytes:
    """As GitHub's documentation says, and its own example below."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}".encode()


def proves(forge: str, secret: str, proof: bytes, body: bytes) -> bool:
    header = b"x-gitlab-token" if forge == "gitlab" else b"x-hub-signature-256"
    return is_authentic(forge, secret, {header: proof}, body, 0)


def test_the_published_example_of_a_signature_holds() -> None:
    secret, body = "It's a Secret to Everybody", b"Hello, World!"
    proof = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert proves("github", secret, proof, body)


@given(st.text(min_size=1), st.binary(), st.binary())
def test_a_signature_of_other_bytes_never_passes(secret: str, body: bytes, other: bytes) -> None:
    assert proves("github", secret, signed(secret, body), body)
    assume(body != other)
    assert not proves("github", secret, signed(secret, other), body)


@given(st.text(min_size=1), st.text(min_size=1), st.binary())
def test_another_secret_never_passes(secret: str, other: str, body: bytes) -> None:
    # (HMAC takes a short key and the same with zero bytes behind for one)
    assume(secret.rstrip("\0") != other.rstrip("\0"))
    assume(not secret.startswith("whsec_"))  # with which GitLab signs, as below
    assert not proves("github", secret, signed(other, body), body)
    assert not proves("gitlab", secret, other.encode(), body)
    assert proves("gitlab", secret, secret.encode(), body)


@given(st.binary(), st.binary())
@example(b"", b"")
@example("sha256=é".encode(), b"x")
@example(b"sha1=" + b"0" * 40, b"x")
def test_anything_else_is_no_proof(proof: bytes, body: bytes) -> None:
    for forge in ("github", "gitlab"):
        assert not proves(forge, "a secret that nothing here holds", proof, body)


# The example of the Standard Webhooks libraries, which GitLab's signing tokens follow.
SIGNING, SIGNED_AT, SIGNED_BODY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1614265330, b'{"test": 2432232314}'
SIGNED = {
    b"webhook-id": b"msg_p5jXN8AQM9LWM0D4loKWxJek",
    b"webhook-timestamp": b"1614265330",
    b"webhook-signature": b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def test_the_published_example_of_a_signing_token_holds() -> None:
    assert is_authentic("gitlab", SIGNING, SIGNED, SIGNED_BODY, SIGNED_AT + TOLERANCE_SECONDS)
    among = SIGNED | {b"webhook-signature": b"v1a,x v1,y " + SIGNED[b"webhook-signature"]}
    assert is_authentic("gitlab", SIGNING, among, SIGNED_BODY, SIGNED_AT)
    assert proof_of("gitlab", SIGNED) and not proof_of("github", SIGNED)


@pytest.mark.parametrize(
    ("secret", "changes", "body", "seconds"),
    [
        (SIGNING, {}, SIGNED_BODY + b" ", 0),
        (SIGNING, {}, SIGNED_BODY, TOLERANCE_SECONDS + 1),
        (SIGNING, {}, SIGNED_BODY, -TOLERANCE_SECONDS - 1),
        (SIGNING, {b"webhook-id": b"msg_other"}, SIGNED_BODY, 0),
        (SIGNING, {b"webhook-timestamp": b"1614265331"}, SIGNED_BODY, 0),
        (SIGNING, {b"webhook-timestamp": b"x"}, SIGNED_BODY, 0),
        (SIGNING, {b"webhook-timestamp": b"9" * 400}, SIGNED_BODY, 0),
        (SIGNING, {b"webhook-signature": b"v1,"}, SIGNED_BODY, 0),
        (SIGNING, {b"webhook-signature": b"", b"x-gitlab-token": SIGNING.encode()}, SIGNED_BODY, 0),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx", {}, SIGNED_BODY, 0),
        ("whsec_no base64!", {}, SIGNED_BODY, 0),
        ("another secret", {}, SIGNED_BODY, 0),
    ],
)
def test_what_was_signed_otherwise_or_at_another_time_is_no_proof(
    secret: str, changes: dict[bytes, bytes], body: bytes, seconds: float
) -> None:
    assert not is_authentic("gitlab", secret, SIGNED | changes, body, SIGNED_AT + seconds)


def test_a_signing_token_without_a_key_proves_nothing() -> None:
    content = b".".join((SIGNED[b"webhook-id"], SIGNED[b"webhook-timestamp"], SIGNED_BODY))
    by_nobody = b"v1," + base64.b64encode(hmac.new(b"", content, hashlib.sha256).digest())
    assert not is_authentic("gitlab", "whsec_", SIGNED | {b"webhook-signature": by_nobody}, SIGNED_BODY, SIGNED_AT)


def test_each_forge_proves_in_its_own_header() -> None:
    headers = {b"x-hub-signature-256": b"a", b"x-gitlab-token": b"b", b"x-hub-signature": b"c"}
    assert (proof_of("github", headers), proof_of("gitlab", headers)) == (b"a", b"b")
    assert proof_of("github", {b"x-gitlab-token": b"b"}) == b""


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({b"x-github-delivery": b"g"}, b"g"),
        ({b"x-gitlab-event-uuid": b"e"}, b"e"),
        ({b"x-gitlab-event-uuid": b"e", b"webhook-id": b"w"}, b"w"),
        ({b"x-gitlab-event-uuid": b"e", b"idempotency-key": b"k"}, b"k"),
        ({b"x-github-delivery": b"g" * 500}, b"g" * 200),
        ({}, b""),
    ],
)
def test_a_delivery_has_a_name(headers: dict[bytes, bytes], name: bytes) -> None:
    assert delivery_id(headers) == name


def wakes_for(deliveries: list[float]) -> list[float]:
    """When a timer that keeps its time wakes, for deliveries at these moments."""
    wakes, woken, coming = Wakes(), [], sorted(deliveries)
    while coming or wakes.next is not None:
        moment = wakes.next
        if moment is None or (coming and coming[0] <= moment):
            now = coming.pop(0)
            wakes = wakes.delivered(now)
        else:
            now = moment
        wakes, is_due = wakes.taken(now)
        woken += [now] if is_due else []
    return woken


def test_one_delivery_wakes_at_once_and_once_more() -> None:
    assert wakes_for([10.0]) == [10.0, 13.0]


def test_a_storm_wakes_four_times_a_second() -> None:
    storm = [10 + n / 100 for n in range(1000)]
    assert wakes_for(storm) == pytest.approx([*(10 + n / 4 for n in range(41)), 22.99])


@given(st.lists(st.floats(min_value=0, max_value=60), min_size=1, max_size=60))
def test_no_delivery_is_left_out_and_none_makes_a_storm(deliveries: list[float]) -> None:
    woken = wakes_for(deliveries)
    assert all(later - earlier >= GAP_SECONDS * 0.999 for earlier, later in itertools.pairwise(woken))
    for moment in deliveries:
        assert any(moment <= wake <= moment + GAP_SECONDS for wake in woken), "soon"
        assert any(moment + AGAIN_SECONDS <= wake <= moment + 3 * AGAIN_SECONDS for wake in woken), "once more"
