"""A clock that moves when told."""

from datetime import UTC, datetime, timedelta
from typing import Final

NOON: Final = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class FakeClock:
    """Stands still at `at` until advanced; `monotonic` moves with it, but never back."""

    def __init__(self, at: datetime = NOON) -> None:
        self._now = at
        self._monotonic = 1_000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, by: timedelta = timedelta(0), *, seconds: float = 0) -> datetime:
        """Later (or, as a clock that was set back, earlier) by so much; the new instant."""
        by += timedelta(seconds=seconds)
        self._now += by
        self._monotonic += max(0.0, by.total_seconds())
        return self._now

    def set(self, at: datetime) -> None:
        self.advance(at - self._now)
