"""Numbered plain SQL files, and what of them a store still lacks. Each store applies them under its own lock."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from qhronos_core.domain.errors import StartRefusedError

_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql\Z")


class StoreRefusedError(StartRefusedError):
    """The store is there and must not be used as it is. For the operator: says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, whatever the line ends of the checkout."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Applied:
    """A row of `schema_migrations`."""

    number: int
    name: str
    checksum: str


def known(package: str) -> Sequence[Migration]:
    """The `NNNN_name.sql` files of a package's `migrations` folder, in order."""
    found = []
    for file in (resources.files(package) / "migrations").iterdir():
        if match := _NAME.match(file.name):
            text = file.read_text(encoding="utf-8").replace("\r\n", "\n")
            found.append(Migration(int(match[1]), file.name.removesuffix(".sql"), text))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations of {package} are not numbered 1, 2, 3, ...")
    return found


def missing(migrations: Sequence[Migration], applied: Sequence[Applied]) -> Sequence[Migration]:
    """Those still to apply, in order.

    Raises:
        StoreRefusedError: the store was made by a newer release, or with other files than ours.
    """
    ours: Mapping[int, Migration] = {migration.number: migration for migration in migrations}
    for row in sorted(applied, key=lambda row: row.number):
        migration = ours.get(row.number)
        if migration is None:
            raise StoreRefusedError(
                f"The store has schema {row.name}, which this release does not know (it knows up to "
                f"{migrations[-1].name}). It was written by a newer release: run that one, or a later one."
            )
        if migration.checksum != row.checksum:
            raise StoreRefusedError(
                f"Schema {row.name} in the store was made from another text than this release has. "
                "Nothing was changed. Use the release that made the store, or restore a backup."
            )
    there = {row.number for row in applied}
    return [migration for migration in migrations if migration.number not in there]
