"""The at-rest key of an embedded node, in files: the present one, and beside it those it took the place of.

`<data_dir>/secrets/at_rest_key` holds the key. `retired_at_rest_keys` holds earlier ones, a line each with the instant
since when it seals nothing. The retired keys are written first, so a crash between the two leaves every key there is.
"""

import os
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from qhronos_core.adapters.local.secrets import DataDirectoryError, locked, read_private, write_private
from qhronos_core.adapters.local.vault import KEY_BYTES, Keys, head_of, read_key

AT_REST_KEY: Final = "at_rest_key"
RETIRED: Final = "retired_at_rest_keys"
_ONE: Final = re.compile(r"[A-Za-z0-9_-]{43}=?")
_LINES: Final = re.compile(r"([A-Za-z0-9_-]{43}=? \S+(\n|$))*")


class AtRestFiles:
    """Implements `ports.KeyFiles`. Each process looks at the files again when they may have changed."""

    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir / "secrets"
        self._key = self._directory / AT_REST_KEY
        self._retired = self._directory / RETIRED
        self._seen: tuple[int, ...] = ()

    def keys(self) -> Keys:
        """As they are on disk.

        Raises:
            DataDirectoryError: the key is missing, damaged, or can be read by others.
        """
        seen = self._look()
        try:
            current = read_key(read_private(self._key, _ONE))
            keys = Keys(current, tuple(read_key(text) for text in self._lines()))
        except OSError as error:
            raise DataDirectoryError(f"{error.filename}: {error.strerror}") from None
        self._seen = seen
        return keys

    def kept(self) -> tuple[bytes, ...]:
        """Whatever keys are there, if any. Raises as `keys`, but for a missing one."""
        keys = self.keys() if self._key.exists() else None
        return () if keys is None else (keys.current, *keys.retired)

    def renewed(self) -> Keys | None:
        """The keys, if the present one is not the one last read. Raises as `keys`."""
        return None if self._look() == self._seen else self.keys()

    def renew(self, at: datetime) -> None:
        with locked(self._directory / ".lock"):
            lines = self._lines()
            lines[read_private(self._key, _ONE)] = at
            self._keep(lines)
            write_private(self._key, secrets.token_urlsafe(KEY_BYTES))

    def retired(self) -> Mapping[bytes, datetime]:
        return {head_of(read_key(text)): since for text, since in self._lines().items()}

    def forget(self, heads: Iterable[bytes]) -> None:
        gone = frozenset(heads)
        with locked(self._directory / ".lock"):
            self._keep({text: at for text, at in self._lines().items() if head_of(read_key(text)) not in gone})

    def _lines(self) -> dict[str, datetime]:
        if not self._retired.exists():
            return {}
        told = read_private(self._retired, _LINES).splitlines()
        try:
            return {text: datetime.fromisoformat(at) for text, _, at in (line.partition(" ") for line in told)}
        except ValueError:
            raise DataDirectoryError(f"{self._retired} is damaged: restore it from a backup") from None

    def _keep(self, lines: Mapping[str, datetime]) -> None:
        if lines:
            write_private(self._retired, "\n".join(f"{text} {at.isoformat()}" for text, at in lines.items()))
        else:
            self._retired.unlink(missing_ok=True)

    def _look(self) -> tuple[int, ...]:
        try:
            found = os.stat(self._key)
        except OSError:
            raise DataDirectoryError(f"{self._key} is missing: put it back from your backup") from None
        return found.st_ino, found.st_mtime_ns, found.st_size
