"""Signals between nodes through Redis: published after commits, a few milliseconds' worth at a time.

Redis may be absent, flushed, slow, or come back with anything in it: signals are hints, and a node that hears none
looks again at its next poll.
"""

import asyncio
import json
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from qhronos_core.adapters.local.signals import LocalSignals
from qhronos_core.domain.ids import EPOCH, microseconds
from qhronos_core.ports import Stirred

_log = structlog.get_logger(__name__)

_CHANNEL: Final = "qhronos:stirred"
_GATHERED_FOR: Final = 0.003  # seconds between two publications
_TIMEOUT: Final = 1.0
_ALIVE_EVERY: Final = 5.0  # seconds of silence after which the connection is tried
_WAITS: Final = (0.1, 0.25, 0.5, 1.0, 2.0)  # seconds before each try to connect again; the last one repeats


class RedisSignals:
    """Implements `ports.Signals`. Those here hear at once; the others through Redis, if it is there."""

    def __init__(self, url: str, *, channel: str = _CHANNEL) -> None:
        self._redis = Redis.from_url(
            url,
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            max_connections=3,
        )
        self._channel = channel
        self._name = secrets.token_hex(8)
        self._here = LocalSignals()
        self._untold: Stirred | None = None
        self._telling: asyncio.Task[None] | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._joined = asyncio.Event()

    async def announce(self, signal: Stirred) -> None:
        await self._here.announce(signal)
        self._untold = signal if self._untold is None else _both(self._untold, signal)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    def listen(self, heard: Callable[[Stirred], None]) -> Callable[[], None]:
        """Must be called on the running event loop."""
        if self._hearing is None:
            self._hearing = asyncio.create_task(self._hear())
        return self._here.listen(heard)

    async def joined(self) -> None:
        """Return when this node hears the others. Nothing depends on it but tests."""
        await self._joined.wait()

    async def aclose(self) -> None:
        tasks = [task for task in (self._telling, self._hearing) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._redis.aclose()

    async def _tell(self) -> None:
        while self._untold is not None:
            signal, self._untold = self._untold, None
            try:
                async with asyncio.timeout(_TIMEOUT):
                    await self._redis.publish(self._channel, _text(self._name, signal))
            except (RedisError, OSError) as error:  # TimeoutError is an OSError
                _log.debug("signal_lost", reason=type(error).__name__)
            await asyncio.sleep(_GATHERED_FOR)

    async def _hear(self) -> None:
        failures = 0
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=False) as subscription:
                    await subscription.subscribe(self._channel)
                    await self._hear_on(subscription)
            except (RedisError, OSError) as error:
                if self._joined.is_set() or failures == 0:
                    _log.warning("signals_of_other_nodes_not_heard", reason=type(error).__name__)
                failures = 0 if self._joined.is_set() else failures + 1
                self._joined.clear()
            except Exception:
                _log.exception("signals_failed")
                failures += 1
            await asyncio.sleep(_WAITS[min(failures, len(_WAITS) - 1)])

    async def _hear_on(self, subscription: PubSub) -> None:
        silent = False
        while True:
            message: dict[str, Any] | None = await subscription.get_message(timeout=_ALIVE_EVERY)
            if message is None:
                if silent:
                    raise ConnectionResetError("no answer to a ping")
                silent = True
                await subscription.ping()
                continue
            silent = False
            if message["type"] == "subscribe":
                self._joined.set()
                await self._here.announce(Stirred(revoked=True))  # whatever was said while nobody here listened
            elif message["type"] == "message" and (signal := _read(message["data"], but=self._name)) is not None:
                await self._here.announce(signal)


def _both(one: Stirred, other: Stirred) -> Stirred:
    due = [signal.due_at for signal in (one, other) if signal.due_at is not None]
    return Stirred(min(due, default=None), one.revoked or other.revoked)


def _text(sender: str, signal: Stirred) -> str:
    due = None if signal.due_at is None else microseconds(signal.due_at)
    return json.dumps([sender, due, signal.revoked])


def _read(text: bytes, *, but: str) -> Stirred | None:
    """None for one of our own, and for what is none of ours."""
    try:
        sender, due, revoked = json.loads(text)
        due_at = None if due is None else EPOCH + timedelta(microseconds=due)
    except (ValueError, TypeError, OverflowError):
        return None
    return None if sender == but else Stirred(due_at, revoked is True)
