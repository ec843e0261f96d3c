"""Cursors of lists: a position in one order of one store, as opaque text.

A cursor holds the instant and id of the last item given, and a digest of what was listed. It is a
position, not a permission: the caller's reach is no part of it and is applied anew on every page.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from qhronos_core.domain.errors import InvalidInputError
from qhronos_core.domain.ids import EPOCH, microseconds

LAST_NUMBER: Final = 2**63 - 1  # that a store can count to, where the id of an item is a number
_DIGEST: Final = 6
_INSTANT: Final = 8
_LENGTH: Final = _DIGEST + _INSTANT + 16


@dataclass(frozen=True, slots=True)
class ListOrder:
    """What was listed, where: `listed` names the list, `query` its filters and direction (its repr must be stable)."""

    store: UUID
    listed: str
    query: object

    def cursor(self, instant: datetime, id_: UUID) -> str:
        raw = self._digest() + microseconds(instant).to_bytes(_INSTANT, "big", signed=True) + id_.bytes
        return base64.urlsafe_b64encode(raw).decode()

    def position(self, cursor: str) -> tuple[datetime, UUID]:
        """The instant and id after which to go on. Raises InvalidInputError for a cursor of another list."""
        try:
            raw = base64.urlsafe_b64decode(cursor)
            if len(raw) == _LENGTH and raw[:_DIGEST] == self._digest():
                instant = int.from_bytes(raw[_DIGEST : _DIGEST + _INSTANT], "big", signed=True)
                return EPOCH + timedelta(microseconds=instant), UUID(bytes=raw[_DIGEST + _INSTANT :])
        except (binascii.Error, ValueError, OverflowError):
            pass
        why = "Not a cursor of this list. Leave it out to begin at the first page."
        raise InvalidInputError.of("cursor", why, code="invalid_cursor", got=cursor)

    def _digest(self) -> bytes:
        return hashlib.sha256(f"{self.store}\n{self.listed}\n{_stable(self.query)}".encode()).digest()[:_DIGEST]


def _stable(query: object) -> str:
    """A text that is the same in every process: sets are sorted, since their order changes with the hash seed."""
    if isinstance(query, frozenset | set):
        return str(sorted(_stable(item) for item in query))
    slots = getattr(query, "__slots__", None)
    if slots and not isinstance(query, str | int | UUID | datetime):
        return str([(name, _stable(getattr(query, name))) for name in slots])
    return repr(query)
