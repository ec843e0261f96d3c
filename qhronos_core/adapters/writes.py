"""Whether the store takes writes, as far as the last of them tell: a full disk can still be read (F23).

The same in both stores, and free: every node writes its heartbeat, so nothing needs to be written to find out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

_log = structlog.get_logger(__name__)

DOUBTED_FOR: Final = 5.0  # seconds: a heartbeat still fits where an event does not


@dataclass(slots=True)
class Writes:
    monotonic: Callable[[], float]
    _refused_at: float | None = None

    @property
    def taken(self) -> bool:
        """False from a write that the store had no room for until, a while later, one succeeds."""
        return self._refused_at is None

    def refused(self, reason: str) -> None:
        if self._refused_at is None:
            _log.warning("store_takes_no_writes", reason=reason)
        self._refused_at = self.monotonic()

    def succeeded(self) -> None:
        if self._refused_at is not None and self.monotonic() - self._refused_at >= DOUBTED_FOR:
            self._refused_at = None
