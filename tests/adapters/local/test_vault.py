"""S33: secrets at rest are ciphertext, bound to their row and to their key."""

import base64
import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from qhronos_core.adapters.local.vault import AesVault, Keys, derived_key, head_of, read_key
from qhronos_core.domain.errors import StartRefusedError
from qhronos_core.ports import KeyMissingError, VaultError

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
ROW = "events:019cae6b-6600-788a-b156-4025bdce3a41"
PLAIN = b"whsec_c2VjcmV0IG9mIHRoZXNlIHRlc3Rz"


@settings(deadline=None)
@given(st.binary(max_size=500), st.text(max_size=50))
def test_what_is_sealed_opens_in_its_row(plain: bytes, context: str) -> None:
    vault = AesVault(KEY)
    assert vault.open(vault.seal(plain, context=context), context=context) == plain


def test_a_ciphertext_holds_nothing_of_the_plain_text_nor_of_the_key() -> None:
    sealed = AesVault(KEY).seal(PLAIN, context=ROW)
    assert PLAIN[:8] not in sealed
    assert KEY[:8] not in sealed
    assert len(sealed) == 1 + 8 + 12 + len(PLAIN) + 16


def test_no_two_seals_are_alike() -> None:
    vault = AesVault(KEY)
    sealed = {vault.seal(PLAIN, context=ROW) for _ in range(1_000)}
    assert len({each[9:21] for each in sealed}) == 1_000


def test_another_implementation_opens_it_so_it_is_aes_256_gcm() -> None:
    sealed = AesVault(KEY).seal(PLAIN, context=ROW)
    bound = ROW.encode() + b"\x00" + head_of(KEY)[1:]
    assert AESGCM(KEY).decrypt(sealed[9:21], sealed[21:], bound) == PLAIN


def test_moved_to_another_row_it_does_not_open() -> None:
    vault = AesVault(KEY)
    for elsewhere in ("events:another", "subscriptions" + ROW[6:], "", ROW + "\x00"):
        with pytest.raises(VaultError):
            vault.open(vault.seal(PLAIN, context=ROW), context=elsewhere)


def test_a_flipped_bit_anywhere_does_not_open() -> None:
    vault = AesVault(KEY)
    sealed = vault.seal(PLAIN, context=ROW)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1 << place % 8
        with pytest.raises(VaultError):
            vault.open(bytes(changed), context=ROW)


@pytest.mark.parametrize("length", [0, 1, 9, 20, 21, 36])
def test_cut_short_it_does_not_open(length: int) -> None:
    vault = AesVault(KEY)
    with pytest.raises(VaultError):
        vault.open(vault.seal(PLAIN, context=ROW)[:length], context=ROW)


def test_a_retired_key_opens_and_no_longer_seals() -> None:
    before = AesVault(KEY)
    sealed = before.seal(PLAIN, context=ROW)
    after = AesVault(OTHER, retired=[KEY])
    assert after.open(sealed, context=ROW) == PLAIN
    assert not sealed.startswith(after.head())
    again = after.seal(PLAIN, context=ROW)
    assert again.startswith(after.head())
    with pytest.raises(KeyMissingError):
        before.open(again, context=ROW)
    with pytest.raises(KeyMissingError):
        AesVault(OTHER).open(sealed, context=ROW)


def test_other_keys_are_taken_up_where_they_are_needed_and_the_earlier_ones_go_on_opening() -> None:
    """A new key came while this process serves: what others sealed with it opens, and nothing is sealed with the old one."""
    news: list[Keys] = []
    vault = AesVault(KEY, renewed=lambda: news.pop() if news else None)
    sealed = vault.seal(PLAIN, context=ROW)
    others = AesVault(OTHER).seal(PLAIN, context=ROW)
    with pytest.raises(KeyMissingError):
        vault.open(others, context=ROW)
    news.append(Keys(OTHER))
    assert vault.open(others, context=ROW) == PLAIN
    assert vault.open(sealed, context=ROW) == PLAIN
    assert vault.seal(PLAIN, context=ROW).startswith(head_of(OTHER))


def test_nothing_is_sealed_with_a_key_that_can_no_more_be_read() -> None:
    def gone() -> Keys | None:
        raise StartRefusedError("at_rest_key is missing")

    with pytest.raises(VaultError, match="missing"):
        AesVault(KEY, renewed=gone).seal(PLAIN, context=ROW)


def test_another_key_s_name_on_it_does_not_help() -> None:
    """The key's id is bound too: a ciphertext cannot be made to open with a key it was not sealed with."""
    ring = AesVault(OTHER, retired=[KEY])
    sealed = AesVault(KEY).seal(PLAIN, context=ROW)
    with pytest.raises(VaultError):
        ring.open(head_of(OTHER) + sealed[9:], context=ROW)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        AesVault(os.urandom(length))


def test_a_key_is_read_with_and_without_padding() -> None:
    text = base64.urlsafe_b64encode(KEY).decode()
    assert read_key(text) == read_key(text.rstrip("=")) == read_key(f" {text}\n") == KEY
    assert read_key(base64.urlsafe_b64encode(b"\xff" * 32).decode()) == b"\xff" * 32


@pytest.mark.parametrize("text", ["", "short", "A" * 42, "A" * 44, "é" * 43, "+" * 43, "A" * 21 + " " + "A" * 21])
def test_what_is_no_key_stops_the_start_and_is_not_repeated(text: str) -> None:
    with pytest.raises(StartRefusedError) as refused:
        read_key(text)
    assert "auth.at_rest_key" in str(refused.value)
    assert not text or text not in str(refused.value)


def test_a_derived_key_is_hkdf_of_the_signing_secret() -> None:
    secret = "a signing secret of thirty-two bytes or more"
    hkdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"qhronos at-rest key")
    assert derived_key(secret) == hkdf.derive(secret.encode())
    assert derived_key(secret) != derived_key(secret + ".")


def test_importing_it_does_not_import_cryptography() -> None:
    """A process answers its first request quickly: what is heavy is loaded when it is used."""
    code = "import sys, qhronos_core.adapters.local.vault; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
