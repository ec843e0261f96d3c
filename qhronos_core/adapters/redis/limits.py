"""Rate limits shared by all nodes, kept in Redis; by each node alone while Redis is away or slow."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final, cast

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from qhronos_core.adapters.local.limits import LocalLimits, refill_time, unlimited, verdict
from qhronos_core.ports import RateLimit, RateVerdict

_log = structlog.get_logger(__name__)

_TIMEOUT: Final = 0.25  # seconds a caller waits for Redis
_PASSES: Final = 10  # of the loop, after the timeout: what came while this node was busy is read in these
_AWAY_FOR: Final = 1.0  # seconds after a failure in which nobody but one is made to wait again
_AT_ONCE: Final = 500  # buckets in one call
_PREFIX: Final = "qhronos:limit:"
_MICROSECONDS: Final = 1_000_000

_TAKE: Final = """
-- One token from each bucket, by this server's clock, in one step. A bucket is the instant (in microseconds) at which it
-- is full; full ones expire. ARGV: for each, the time one token takes to come back, and the burst.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = {}
for i, key in ipairs(KEYS) do
  local one, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local full_at = math.max(tonumber(redis.call('GET', key) or '0'), now)
  full_at = math.min(full_at, now + one * burst)
  if full_at - now + one <= one * burst + 1 then
    full_at = full_at + one
    redis.call('SET', key, string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1)
    answer[2 * i - 1] = 1
  else
    answer[2 * i - 1] = 0
  end
  answer[2 * i] = math.floor(full_at - now)
end
return answer
"""

_Taking = tuple[str, RateLimit, asyncio.Future[RateVerdict]]


class RedisLimits:
    """Implements `ports.Limits`. Takes that come while one call is under way share the next.

    Left alone, a node counts on from what it last heard of a bucket.
    """

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url,
            socket_timeout=None,  # `_in_time` knows a slow Redis from a busy node
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            max_connections=2,
        )
        self._script: str | None = None
        self._alone = LocalLimits()
        self._away_until = 0.0
        self._waiting: list[_Taking] = []
        self._asking: asyncio.Task[None] | None = None

    async def take(self, bucket: str, limit: RateLimit) -> RateVerdict:
        if limit.per_minute == 0:
            return unlimited(limit)
        if time.monotonic() < self._away_until:
            return self._alone.take_now(bucket, limit)
        taken: asyncio.Future[RateVerdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((bucket, limit, taken))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        try:
            return await taken
        except (TimeoutError, RedisError, OSError) as error:
            self._gone(error)
            return self._alone.take_now(bucket, limit)

    async def aclose(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        await self._redis.aclose()

    async def _ask(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
            batch = [taking for taking in batch if not taking[2].done()]
            try:
                answers = await _in_time(self._take_all(batch))
            except Exception as error:
                for _, _, taken in (*batch, *self._waiting):
                    if not taken.done():
                        taken.set_exception(
                            error if isinstance(error, RedisError | OSError) else RedisError(repr(error))
                        )
                self._waiting.clear()
                return
            self._away_until = 0.0
            for (bucket, limit, taken), allowed, full_in in zip(batch, answers[::2], answers[1::2], strict=True):
                self._alone.set_now(bucket, full_in=full_in / _MICROSECONDS)
                if not taken.done():
                    taken.set_result(verdict(limit, allowed=allowed == 1, full_in=full_in / _MICROSECONDS))

    async def _take_all(self, batch: Sequence[_Taking]) -> list[int]:
        if not batch:
            return []
        keys = [_PREFIX + bucket for bucket, _, _ in batch]
        arguments = [
            part for _, limit, _ in batch for part in (f"{refill_time(limit) * _MICROSECONDS:.3f}", str(limit.burst))
        ]
        try:
            if self._script is None:
                self._script = str(await cast("Any", self._redis.script_load(_TAKE)))
            return cast("list[int]", await cast("Any", self._redis.evalsha(self._script, len(keys), *keys, *arguments)))
        except NoScriptError:  # a server that was restarted, or flushed
            return cast("list[int]", await cast("Any", self._redis.eval(_TAKE, len(keys), *keys, *arguments)))

    def _gone(self, error: Exception) -> None:
        now = time.monotonic()
        if self._away_until < now:
            _log.warning("limits_kept_by_this_node_alone", reason=type(error).__name__)
        self._away_until = now + _AWAY_FOR


async def _in_time(call: Coroutine[Any, Any, list[int]]) -> list[int]:
    """What `call` returns. A node that is busy with a burst comes late to the answer, which lies there unread: that is
    no silence of Redis, and a bucket of its own would let the same burst through once more.

    Raises:
        TimeoutError: Redis did not answer.
    """
    asking = asyncio.ensure_future(call)
    try:
        await asyncio.wait({asking}, timeout=_TIMEOUT)
        for _ in range(_PASSES):
            if asking.done():
                return asking.result()
            await asyncio.sleep(0)
        raise TimeoutError
    finally:
        asking.cancel()
