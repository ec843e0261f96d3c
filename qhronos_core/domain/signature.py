"""What proves to a receiver that a webhook is ours, whole and fresh: bytes in, text out.

Standard Webhooks 1.0 (symmetric, `v1`): HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`, in base64. While a
secret rotates the header holds one signature per key, newest first, and a receiver accepts any of them.
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from qhronos_core.domain.errors import InvalidInputError

SECRET_PREFIX: Final = "whsec_"
SECRET_MOST: Final = 256
TOLERANCE: Final = 5 * 60
_NEW_SECRET_BYTES: Final = 32


def new_secret(random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """A secret no one has seen: `whsec_` and 256 bits in base64."""
    return SECRET_PREFIX + base64.b64encode(random_bytes(_NEW_SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The signing key: the decoded part of a `whsec_` secret (padding optional), else the secret's UTF-8 bytes.

    Never empty. The same call judges a secret when it is set.

    Raises:
        InvalidInputError: empty, over 256 bytes, or `whsec_` with something other than base64 behind it.
    """
    try:
        plain = secret.encode()
    except UnicodeEncodeError:
        raise _bad_secret("A signing secret is text without lone surrogates.") from None
    if not 1 <= len(plain) <= SECRET_MOST:
        raise _bad_secret(f"A signing secret has 1 to {SECRET_MOST} bytes.")
    if not secret.startswith(SECRET_PREFIX):
        return plain
    encoded = plain[len(SECRET_PREFIX) :].rstrip(b"=")
    try:
        key = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise _bad_secret("Behind whsec_ a signing secret is base64 of at least one byte.")
    return key


def sign(body: bytes, *, keys: Sequence[bytes], message_id: str, timestamp: int) -> str:
    """The `webhook-signature` of `body`: one `v1,<base64>` per key, in their order, separated by spaces.

    `timestamp` is in whole seconds since 1970. `message_id` must hold no `.`, which separates the signed parts.

    Raises:
        ValueError: no key, an empty key, or a `.` in the id: nothing is ever signed so that anyone could forge it.
    """
    if not keys or not all(keys):
        raise ValueError("a signature needs at least one key, and no key may be empty")
    if "." in message_id:
        raise ValueError("the id of a signed message holds no dot")
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)


def verify(body: bytes, signatures: str, *, keys: Sequence[bytes], message_id: str, timestamp: int, now: int) -> bool:
    """Whether any `v1` of `signatures` was made by any of `keys` at a `timestamp` within 5 minutes of `now`."""
    if abs(now - timestamp) > TOLERANCE or "." in message_id:
        return False
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    wanted = [base64.b64encode(hmac.digest(key, signed, "sha256")) for key in keys if key]
    given = [text[3:].encode() for text in signatures.split(" ") if text.startswith("v1,")]
    return any(hmac.compare_digest(one, other) for one in wanted for other in given)


def original_signature(body: bytes, key: bytes) -> str:
    """`X-Qhronos-Signature`, for receivers of the original: lower-case hex HMAC-SHA256 of the body alone, without time.

    Raises:
        ValueError: the key is empty.
    """
    if not key:
        raise ValueError("a signature needs a key that is not empty")
    return hmac.digest(key, body, "sha256").hex()


def _bad_secret(why: str) -> InvalidInputError:
    return InvalidInputError.of("hmac_secret", why, code="invalid_secret")
