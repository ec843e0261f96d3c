"""Standard Webhooks 1.0, judged by its own reference library."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from qhronos_core.domain.errors import InvalidInputError
from qhronos_core.domain.signature import key_of, new_secret, original_signature, sign, verify

BODY = json.dumps({"name": "Grüße", "tags": ["a"]}).encode()
NOON = 1_795_521_600


def headers(signature: str, message_id: str, timestamp: int) -> dict[str, str]:
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def test_the_reference_library_accepts_what_we_sign() -> None:
    secret, message_id, now = new_secret(), str(uuid4()), int(time.time())
    signature = sign(BODY, keys=[key_of(secret)], message_id=message_id, timestamp=now)
    assert Webhook(secret).verify(BODY, headers(signature, message_id, now)) == json.loads(BODY)


def test_our_signature_is_the_reference_librarys_to_the_byte() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    theirs = Webhook(secret).sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(NOON, tz=UTC), '{"test": 2432232314}'
    )
    ours = sign(
        b'{"test": 2432232314}',
        keys=[key_of(secret)],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=NOON,
    )
    assert ours == theirs


def test_while_a_secret_rotates_the_holder_of_either_accepts() -> None:
    old, new, now = new_secret(), new_secret(), int(time.time())
    signature = sign(BODY, keys=[key_of(new), key_of(old)], message_id="id", timestamp=now)
    assert signature.count(" ") == 1
    for secret in (old, new):
        Webhook(secret).verify(BODY, headers(signature, "id", now))
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers(signature, "id", now))


def test_any_flipped_byte_fails() -> None:
    secret, now = new_secret(), int(time.time())
    signature = sign(BODY, keys=[key_of(secret)], message_id="id", timestamp=now)
    for position in range(len(BODY)):
        flipped = bytearray(BODY)
        flipped[position] ^= 0x01
        assert not verify(bytes(flipped), signature, keys=[key_of(secret)], message_id="id", timestamp=now, now=now)
        with pytest.raises((WebhookVerificationError, UnicodeDecodeError)):
            Webhook(secret).verify(bytes(flipped), headers(signature, "id", now), json_parse=False)


def test_another_id_or_timestamp_fails() -> None:
    key = key_of(new_secret())
    signature = sign(BODY, keys=[key], message_id="id", timestamp=NOON)
    assert verify(BODY, signature, keys=[key], message_id="id", timestamp=NOON, now=NOON)
    assert not verify(BODY, signature, keys=[key], message_id="other", timestamp=NOON, now=NOON)
    assert not verify(BODY, signature, keys=[key], message_id="id", timestamp=NOON + 1, now=NOON)


@pytest.mark.parametrize(("age", "accepted"), [(0, True), (300, True), (301, False), (-300, True), (-301, False)])
def test_a_replay_over_five_minutes_old_fails(age: int, accepted: bool) -> None:
    key = key_of(new_secret())
    signature = sign(BODY, keys=[key], message_id="id", timestamp=NOON)
    assert verify(BODY, signature, keys=[key], message_id="id", timestamp=NOON, now=NOON + age) is accepted


def test_the_reference_library_refuses_a_replay() -> None:
    secret, old = new_secret(), int(time.time()) - 301
    signature = sign(BODY, keys=[key_of(secret)], message_id="id", timestamp=old)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(BODY, headers(signature, "id", old))


@pytest.mark.parametrize("keys", [[], [b""], [b"good", b""]])
def test_nothing_is_ever_signed_with_an_empty_key(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="key"):
        sign(BODY, keys=keys, message_id="id", timestamp=NOON)


def test_nothing_is_verified_by_an_empty_key() -> None:
    signed = b"id.%d.%s" % (NOON, BODY)
    forged = "v1," + base64.b64encode(hmac.digest(b"", signed, "sha256")).decode()
    assert not verify(BODY, forged, keys=[b""], message_id="id", timestamp=NOON, now=NOON)
    with pytest.raises(ValueError, match="key"):
        original_signature(BODY, b"")


def test_an_id_with_a_dot_is_refused_since_the_dot_separates_the_signed_parts() -> None:
    with pytest.raises(ValueError, match="dot"):
        sign(BODY, keys=[b"k"], message_id="a.1", timestamp=NOON)
    assert not verify(BODY, "v1,x", keys=[b"k"], message_id="a.1", timestamp=NOON, now=NOON)


@pytest.mark.parametrize("signatures", ["", "v1", "v1,", "v2,abc", "v1a,abc", " ", "v1,\u00e9", "v1,!!!! v1,"])
def test_rubbish_in_the_signature_header_is_not_accepted(signatures: str) -> None:
    assert not verify(BODY, signatures, keys=[b"key"], message_id="id", timestamp=NOON, now=NOON)


def test_the_originals_signature_is_lower_case_hex_of_the_body_alone() -> None:
    assert original_signature(BODY, b"key") == hmac.new(b"key", BODY, hashlib.sha256).hexdigest()


def test_a_new_secret_is_256_bits_and_never_the_same() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(key_of(secret)) for secret in made} == {32}
    assert new_secret(lambda count: b"\x01" * count) == "whsec_" + base64.b64encode(b"\x01" * 32).decode()


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("plain", b"plain"),
        ("Grüße", "Grüße".encode()),
        ("whsec_AQID", b"\x01\x02\x03"),
        ("whsec_AQI=", b"\x01\x02"),
        ("whsec_AQI", b"\x01\x02"),
        ("WHSEC_AQID", b"WHSEC_AQID"),
        ("x" * 256, b"x" * 256),
    ],
)
def test_a_key_is_the_decoded_part_of_whsec_else_the_utf8_bytes(secret: str, key: bytes) -> None:
    assert key_of(secret) == key


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_=", "whsec_A", "whsec_$$$$", "whsec_AQ ID", "x" * 257, "\ud800"]
)
def test_a_secret_without_a_key_in_it_is_refused(secret: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        key_of(secret)
    assert caught.value.faults[0].field == "hmac_secret"
    assert len(secret) < 8 or secret not in str(caught.value)


@given(body=st.binary(max_size=200), key=st.binary(min_size=1, max_size=80), timestamp=st.integers(0, 2**40))
def test_what_is_signed_verifies_and_only_under_its_key(body: bytes, key: bytes, timestamp: int) -> None:
    signature = sign(body, keys=[key], message_id="m", timestamp=timestamp)
    assert verify(body, signature, keys=[b"other", key], message_id="m", timestamp=timestamp, now=timestamp)
    assert not verify(body, signature, keys=[key + b"x"], message_id="m", timestamp=timestamp, now=timestamp)
