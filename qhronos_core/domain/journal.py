"""Where a reader of the journal stands."""

import base64
import binascii
from dataclasses import dataclass
from uuid import UUID

from qhronos_core.domain.errors import InvalidInputError
from qhronos_core.domain.event import Event
from qhronos_core.domain.occurrence import Entry


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in one epoch of the journal; a restored store begins another. A position, not a permission."""

    epoch: UUID
    position: int

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(self.epoch.bytes + self.position.to_bytes(8, "big")).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> "Cursor":
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != 24:
            raise InvalidInputError.of("cursor", "Not a cursor of ours.", code="invalid_cursor", got=text)
        return cls(UUID(bytes=raw[:16]), int.from_bytes(raw[16:], "big"))


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One entry with its position, and its event as it is now (None: it has none, or it was retired)."""

    position: int
    entry: Entry
    event: Event | None


@dataclass(frozen=True, slots=True)
class JournalPage:
    """`truncated`: the cursor asked for is older than what is kept, or of another epoch; reading went on from the oldest line."""

    lines: tuple[JournalLine, ...]
    cursor: Cursor
    truncated: bool = False
