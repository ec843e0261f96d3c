"""The store's time as this node knows it, and the only place that reads the machine's clock."""

import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """The machine's clock, shifted by what `adjust` has learned of the store's. Alone (embedded), it is the store's."""

    def __init__(self) -> None:
        self._offset = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def monotonic(self) -> float:
        return time.monotonic()

    def adjust(self, store_now: datetime, *, asked_at: datetime) -> None:
        """Learn from an instant the store has just told, in answer to a call begun at `asked_at` by this clock.

        The store looked at its clock somewhere between then and now, so an instant between the two teaches nothing:
        a slow answer is not a slow clock. One outside shows by how much this clock is wrong at least.
        """
        answered_at = self.now()
        if store_now < asked_at:
            self._offset += store_now - asked_at
        elif store_now > answered_at:
            self._offset += store_now - answered_at
