"""The store's time as this node knows it, and the only place that reads the machine's clock."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

FIRST_TRUST: Final = 1.0  # how much of the first measured difference is believed
TRUST: Final = 0.2  # and of each later one: an exponentially weighted mean, so that one slow answer moves little
JUMP: Final = timedelta(seconds=2)  # a difference beyond this is a clock that was set, not noise: believed at once


class SystemClock:
    """The machine's clock, shifted by what `adjust` has learned of the store's. Alone (embedded), it is the store's."""

    def __init__(self) -> None:
        self._offset = timedelta(0)
        self._trust = FIRST_TRUST

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def monotonic(self) -> float:
        return time.monotonic()

    def adjust(self, store_now: datetime) -> None:
        """Learn from an instant the store has just told."""
        error = store_now - self.now()
        self._offset += error if abs(error) > JUMP else error * self._trust
        self._trust = TRUST
