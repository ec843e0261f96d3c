"""Secrets at rest: AES-256-GCM with a random nonce, bound to the row they stand in (security.md §4).

A sealed text is `version | key id | nonce | ciphertext and tag`; context and key id are its associated data, so one
that was moved to another row, or given another key's name, does not open.
"""

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from qhronos_core.domain.errors import StartRefusedError
from qhronos_core.ports import VaultError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
_KEY: Final = re.compile(r"([A-Za-z0-9_-]{43})=?")
_VERSION: Final = b"\x01"
_KEY_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12  # 96 bits
_HEAD: Final = len(_VERSION) + _KEY_ID_BYTES + _NONCE_BYTES


class AesVault:
    """Implements `ports.Vault`. Seals with `key`, opens what was sealed with it or with one of `retired`."""

    def __init__(self, key: bytes, *, retired: Sequence[bytes] = ()) -> None:
        if any(len(each) != KEY_BYTES for each in (key, *retired)):
            raise ValueError("an AES-256 key has 32 bytes")
        self._key_id = key_id(key)
        self._keys = {key_id(each): each for each in (*retired, key)}
        self._ciphers: dict[bytes, AESGCM] = {}

    def seal(self, plain: bytes, *, context: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher(self._key_id).encrypt(nonce, plain, _bound(context, self._key_id))
        return b"".join((_VERSION, self._key_id, nonce, sealed))

    def open(self, sealed: bytes, *, context: str) -> bytes:
        from cryptography.exceptions import InvalidTag

        named = sealed[len(_VERSION) : len(_VERSION) + _KEY_ID_BYTES]
        nonce, locked = sealed[_HEAD - _NONCE_BYTES : _HEAD], sealed[_HEAD:]
        if not sealed.startswith(_VERSION) or len(nonce) < _NONCE_BYTES:
            raise VaultError("not sealed here")
        if named not in self._keys:
            raise VaultError("sealed with a key that is not kept; put it back among the keys")
        try:
            return self._cipher(named).decrypt(nonce, locked, _bound(context, named))
        except InvalidTag:
            raise VaultError("changed since it was sealed, or of another row") from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether it is sealed with the present key; if not, it is due to be sealed again."""
        return sealed.startswith(_VERSION + self._key_id)

    def _cipher(self, name: bytes) -> "AESGCM":
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if name not in self._ciphers:
            self._ciphers[name] = AESGCM(self._keys[name])
        return self._ciphers[name]


def key_id(key: bytes) -> bytes:
    """The name of a key in what it sealed; tells nothing about it."""
    return hashlib.sha256(b"qhronos at-rest key id\x00" + key).digest()[:_KEY_ID_BYTES]


def read_key(text: str) -> bytes:
    """The key that `auth.at_rest_key` or the file of that name holds: 32 bytes as URL-safe base64, padding optional.

    Raises:
        StartRefusedError: it is something else.
    """
    found = _KEY.fullmatch(text.strip())
    if found is None:
        raise StartRefusedError("auth.at_rest_key must be 32 bytes as URL-safe base64")
    return base64.urlsafe_b64decode(found[1] + "=")


def derived_key(jwt_secret: str) -> bytes:
    """The at-rest key of a server that was given none: HKDF-SHA256 (RFC 5869), one block, no salt."""
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), jwt_secret.encode(), "sha256")
    return hmac.digest(extracted, b"qhronos at-rest key\x01", "sha256")


def _bound(context: str, name: bytes) -> bytes:
    return context.encode() + b"\x00" + name
