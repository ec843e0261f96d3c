"""The secrets of an embedded node: made at its first start, kept in files only their owner can read.

`<data_dir>/secrets/` (0700) holds `master_token`, `jwt_secret` and `at_rest_key` (0600), 32 random bytes each as URL-safe
text. Each is written under a temporary name and renamed, under a lock, so two first starts agree and a crash leaves
a whole file or none.
"""

import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from qhronos_core.domain.errors import StartRefusedError

_WHOLE: Final = {
    "master_token": re.compile(r"[!-~]{32,}"),
    "jwt_secret": re.compile(r".{32,}"),
    "at_rest_key": re.compile(r"[A-Za-z0-9_-]{43}=?"),
}
_BYTES: Final = 32
_PRIVATE_DIRECTORY: Final = 0o700
_PRIVATE_FILE: Final = 0o600
_POSIX: Final = sys.platform != "win32"  # elsewhere a user's profile is private by its access list, not by mode bits

_ELSEWHERE: Final = "choose another with QHRONOS_DATA_DIR or data_dir"


class DataDirectoryError(StartRefusedError):
    """The data directory cannot be used as it is. The text names the path and the way out."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a node signs and encrypts with, and which files this start has made."""

    master_token: SecretStr
    jwt_secret: SecretStr
    at_rest_key: SecretStr
    made: tuple[Path, ...]


def ensure_data_dir(data_dir: Path) -> None:
    """Make the data directory (0700) if it is not there, and refuse one that is not this user's alone to change.

    Raises:
        DataDirectoryError: it cannot be made or written, is not ours, or others may write to it.
    """
    try:
        data_dir.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    except FileExistsError:
        raise DataDirectoryError(f"{data_dir} is not a directory; {_ELSEWHERE}") from None
    except OSError as error:
        raise DataDirectoryError(f"{data_dir} cannot be made ({error.strerror}); {_ELSEWHERE}") from None
    _refuse_foreign(data_dir)
    if _POSIX and stat.S_IMODE(data_dir.stat().st_mode) & 0o022:
        raise DataDirectoryError(f"{data_dir} can be written by others: chmod go-w '{data_dir}'")
    if not os.access(data_dir, os.W_OK | os.X_OK):
        raise DataDirectoryError(f"{data_dir} cannot be written: chmod u+rwx '{data_dir}', or {_ELSEWHERE}")


def kept_in_files(data_dir: Path, **configured: SecretStr | None) -> Sequence[Path]:
    """Where the secrets are that are not configured, whether they are there or not."""
    return [data_dir / "secrets" / name for name in _WHOLE if configured.get(name) is None]


def ensure_secrets(
    data_dir: Path,
    *,
    master_token: SecretStr | None = None,
    jwt_secret: SecretStr | None = None,
    at_rest_key: SecretStr | None = None,
) -> Secrets:
    """The configured secrets, and from the data directory those that are not; made there if this is the first start.

    Raises:
        DataDirectoryError: as `ensure_data_dir`; or a file of secrets can be read by others, or is damaged.
    """
    configured = {"master_token": master_token, "jwt_secret": jwt_secret, "at_rest_key": at_rest_key}
    ensure_data_dir(data_dir)
    found: dict[str, SecretStr] = {name: secret for name, secret in configured.items() if secret is not None}
    wanted = [name for name in _WHOLE if name not in found]
    made: list[Path] = []
    if wanted:
        directory = data_dir / "secrets"
        try:
            directory.mkdir(mode=_PRIVATE_DIRECTORY, exist_ok=True)
            _refuse_open(directory, _PRIVATE_DIRECTORY)
            if not all((directory / name).exists() for name in wanted):
                made = _made(directory, wanted)
            for name in wanted:
                found[name] = SecretStr(read_private(directory / name, _WHOLE[name]))
        except OSError as error:
            raise DataDirectoryError(f"{error.filename or directory}: {error.strerror}; {_ELSEWHERE}") from None
    return Secrets(**found, made=tuple(made))


def _made(directory: Path, wanted: Sequence[str]) -> list[Path]:
    made = []
    with locked(directory / ".lock"):
        for file in (directory / name for name in wanted):
            if not file.exists():
                write_private(file, secrets.token_urlsafe(_BYTES))
                made.append(file)
    return made


def write_private(file: Path, text: str) -> None:
    """The whole file or what it was before, also after a power cut. The caller holds the lock."""
    whole = file.with_name(f".{file.name}.new")
    whole.unlink(missing_ok=True)  # of a start that was killed here; we hold the lock
    descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(text + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    whole.rename(file)
    if _POSIX:
        directory = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # a token told to a host must not be gone after a power cut
        finally:
            os.close(directory)


def read_private(file: Path, whole: re.Pattern[str]) -> str:
    """Raises DataDirectoryError: others can read it, or its text is not `whole`; OSError."""
    _refuse_open(file, _PRIVATE_FILE)
    text = file.read_text(encoding="utf-8", errors="replace").strip()
    if not whole.fullmatch(text):
        raise DataDirectoryError(
            f"{file} is damaged: restore it from a backup, or remove it to have a new one made; what the old one signed"
            " or encrypted is then lost"
        )
    return text


def _refuse_open(path: Path, mode: int) -> None:
    _refuse_foreign(path)
    if _POSIX and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise DataDirectoryError(f"{path} can be used by others: chmod {mode:o} '{path}'")


def _refuse_foreign(path: Path) -> None:
    if _POSIX and (owner := path.stat().st_uid) != os.geteuid():
        raise DataDirectoryError(f"{path} belongs to another user (id {owner}): start as that user, or {_ELSEWHERE}")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, _PRIVATE_FILE)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
