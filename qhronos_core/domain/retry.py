"""When to try again, and when to give up (`specs`: rest.md §2, §6)."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

JITTER: Final = 0.2
RETRY_AFTER_LEAST: Final = timedelta(seconds=1)
RETRY_AFTER_MOST: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `max_attempts` (1-20) tries a round; before the (n+1)th, `delays[n-1]`; the last delay repeats."""

    max_attempts: int = 8
    delays: tuple[timedelta, ...] = (
        timedelta(seconds=5),
        timedelta(minutes=5),
        timedelta(minutes=30),
        timedelta(hours=2),
        timedelta(hours=5),
        timedelta(hours=10),
        timedelta(hours=10),
    )

    def exhausted(self, attempts_made: int) -> bool:
        return attempts_made >= self.max_attempts

    def next_attempt_at(
        self, attempts_made: int, failed_at: datetime, *, seed: UUID, retry_after: timedelta | None = None
    ) -> datetime:
        """The instant of the next try after the `attempts_made`th of this round failed.

        The first wait is exact; later ones are lengthened by 0-20 %, derived from `seed` (the
        occurrence id) so that every node computes the same. A receiver's `retry_after`, clamped
        to 1 s-24 h, is a lower bound.
        """
        wait = self.delays[min(attempts_made, len(self.delays)) - 1]
        if attempts_made > 1:
            digest = hashlib.sha256(seed.bytes + attempts_made.to_bytes(4, "big")).digest()
            wait *= 1 + JITTER * int.from_bytes(digest[:4], "big") / 2**32
        if retry_after is not None:
            wait = max(wait, min(max(retry_after, RETRY_AFTER_LEAST), RETRY_AFTER_MOST))
        return failed_at + wait
