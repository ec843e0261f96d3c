"""Secrets at rest: AES-256-GCM with a random nonce, bound to the row they stand in (security.md §4).

A sealed text is `version | key id | nonce | ciphertext and tag`; context and key id are its associated data, so one
that was moved to another row, or given another key's name, does not open.
"""

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qhronos_core.domain.errors import StartRefusedError
from qhronos_core.ports import HEAD_BYTES, KeyMissingError, VaultError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
_KEY: Final = re.compile(r"([A-Za-z0-9_-]{43})=?")
_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12  # 96 bits
_NAMED: Final = HEAD_BYTES + _NONCE_BYTES


@dataclass(frozen=True, slots=True)
class Keys:
    """`current` seals; `retired` ones open what they sealed."""

    current: bytes
    retired: tuple[bytes, ...] = ()


class AesVault:
    """Implements `ports.Vault`. Seals with `key`, opens what was sealed with it or with one of `retired`.

    `renewed` gives other keys once those of this installation have changed, else None: it is asked before anything is
    sealed, and when the key of something is not known. Keys once known go on opening.
    """

    def __init__(
        self, key: bytes, *, retired: Sequence[bytes] = (), renewed: Callable[[], Keys | None] = lambda: None
    ) -> None:
        self._keys: dict[bytes, bytes] = {}
        self._ciphers: dict[bytes, AESGCM] = {}
        self._renewed = renewed
        self._take(Keys(key, tuple(retired)))

    def seal(self, plain: bytes, *, context: str) -> bytes:
        head = self.head()
        nonce = os.urandom(_NONCE_BYTES)
        return b"".join((head, nonce, self._cipher(head).encrypt(nonce, plain, _bound(context, head))))

    def open(self, sealed: bytes, *, context: str) -> bytes:
        from cryptography.exceptions import InvalidTag

        head, nonce, locked = sealed[:HEAD_BYTES], sealed[HEAD_BYTES:_NAMED], sealed[_NAMED:]
        if not sealed.startswith(_VERSION) or len(nonce) < _NONCE_BYTES:
            raise VaultError("not sealed here")
        if not self.opens(head):
            raise KeyMissingError
        try:
            return self._cipher(head).decrypt(nonce, locked, _bound(context, head))
        except InvalidTag:
            raise VaultError("changed since it was sealed, or of another row") from None

    def head(self) -> bytes:
        self._look_again()
        return self._head

    def opens(self, head: bytes) -> bool:
        if head not in self._keys:
            self._look_again()
        return head in self._keys

    def _look_again(self) -> None:
        try:
            keys = self._renewed()
        except StartRefusedError as error:
            # What would be sealed with a key that is on no disk could never be opened again.
            raise VaultError(str(error)) from error
        if keys is not None:
            self._take(keys)

    def _take(self, keys: Keys) -> None:
        if any(len(each) != KEY_BYTES for each in (keys.current, *keys.retired)):
            raise ValueError("an AES-256 key has 32 bytes")
        self._head = head_of(keys.current)
        self._keys.update((head_of(each), each) for each in (*keys.retired, keys.current))

    def _cipher(self, head: bytes) -> "AESGCM":
        if head not in self._ciphers:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._ciphers[head] = AESGCM(self._keys[head])
        return self._ciphers[head]


def head_of(key: bytes) -> bytes:
    """What everything sealed with this key begins with: the version of the form, then the key's id, which tells nothing of it."""
    return _VERSION + hashlib.sha256(b"qhronos at-rest key id\x00" + key).digest()[: HEAD_BYTES - 1]


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


def _bound(context: str, head: bytes) -> bytes:
    return context.encode() + b"\x00" + head[len(_VERSION) :]
