"""Rate limits within one process, and the arithmetic that every kind of them shares.

A bucket is one number: the instant at which it will be full again. What is taken moves that instant on by the time one
token takes to refill; a bucket that is full need not be kept at all.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from qhronos_core.ports import RateLimit, RateVerdict

_BUCKETS_KEPT: Final = 100_000
_SECONDS_PER_MINUTE: Final = 60.0
_ROUNDING: Final = 1e-6  # a millionth of a token: what arithmetic in floats may cost is nobody's refusal


def refill_time(limit: RateLimit) -> float:
    """Seconds in which one token comes back. `per_minute` is not 0."""
    return _SECONDS_PER_MINUTE / limit.per_minute


def verdict(limit: RateLimit, *, allowed: bool, full_in: float) -> RateVerdict:
    """The answer of a bucket that will be full in `full_in` seconds."""
    one = refill_time(limit)
    left = limit.burst - full_in / one
    return RateVerdict(
        allowed=allowed,
        limit=limit,
        remaining=max(0, int(left + _ROUNDING)),
        retry_after=0.0 if allowed else max(0.0, (1 - left) * one),
        reset_after=full_in,
    )


def unlimited(limit: RateLimit) -> RateVerdict:
    return RateVerdict(allowed=True, limit=limit, remaining=limit.burst, retry_after=0.0, reset_after=0.0)


class LocalLimits:
    """Implements `ports.Limits` for one process. Of very many buckets the longest untouched are forgotten first."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, *, kept: int = _BUCKETS_KEPT) -> None:
        self._monotonic = monotonic
        self._kept = kept
        self._full_at: OrderedDict[str, float] = OrderedDict()

    async def take(self, bucket: str, limit: RateLimit) -> RateVerdict:
        return self.take_now(bucket, limit)

    def take_now(self, bucket: str, limit: RateLimit) -> RateVerdict:
        if limit.per_minute == 0:
            return unlimited(limit)
        now, one = self._monotonic(), refill_time(limit)
        full_at = max(self._full_at.get(bucket, now), now)
        full_at = min(full_at, now + limit.burst * one)  # a limit that has been lowered
        allowed = full_at - now + one <= (limit.burst + _ROUNDING) * one
        if allowed:
            full_at += one
            self._full_at[bucket] = full_at
            self._full_at.move_to_end(bucket)
            self._forget(now)
        return verdict(limit, allowed=allowed, full_in=full_at - now)

    def set_now(self, bucket: str, *, full_in: float) -> None:
        """What was heard of the bucket elsewhere: it will be full in that many seconds."""
        now = self._monotonic()
        self._full_at[bucket] = now + full_in
        self._full_at.move_to_end(bucket)
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Two looks at the oldest for each new one: full buckets go as fast as others come."""
        for _ in range(2):
            oldest, full_at = next(iter(self._full_at.items()))
            if full_at > now and len(self._full_at) <= self._kept:
                return
            del self._full_at[oldest]
