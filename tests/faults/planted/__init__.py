"""Bugs put into a node on purpose: a suite that has never failed proves nothing (reliability.md §4).

python -c "from tests.faults.planted import plant; plant('...'); from qhronos_mcp.cli import main; main()" serve
"""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4


def no_fence() -> None:
    """1. The fence is dropped from settle: whoever comes last has the last word."""
    from qhronos_core.scheduler.dispatcher import Dispatcher

    write = Dispatcher._write

    async def unfenced(self: Any, moves: Any, futures: Any) -> None:
        decided = []
        for move in moves:
            row = await self._store.occurrences.get(move.was.id)
            number = len(await self._store.occurrences.attempts(row.id)) + 1
            attempt = replace(move.attempt, number=number) if move.attempt else None
            decided.append(replace(move, was=row, attempt=attempt))
        await write(self, decided, futures)

    Dispatcher._write = unfenced  # type: ignore[method-assign]


def removed_before_sent() -> None:
    """2. A claim removes the row first, and works after."""
    from qhronos_core.ports import Changes
    from qhronos_core.scheduler.dispatcher import Dispatcher

    sent = Dispatcher._sent

    async def late(self: Any, claim: Any, *held: float) -> Any:
        await self._store.commit(Changes(withdrawn=[claim.occurrence]))
        return await sent(self, claim, *held)

    Dispatcher._sent = late  # type: ignore[method-assign, assignment]


def new_id_each_time() -> None:
    """3. The occurrence's id is drawn anew at each attempt."""
    from qhronos_core.adapters.http.webhook import WebhookCourier

    deliver = WebhookCourier.deliver

    async def renamed(self: Any, delivery: Any) -> Any:
        return await deliver(self, replace(delivery, occurrence=replace(delivery.occurrence, id=uuid4())))

    WebhookCourier.deliver = renamed  # type: ignore[method-assign]


def lease_let_go() -> None:
    """4. The lease is released when the request is sent, not when its outcome is recorded."""
    from qhronos_core.scheduler.dispatcher import Dispatcher

    claim = Dispatcher.claim

    async def brief(self: Any) -> Any:
        take = self._store.claim_due

        async def at_once(**asked: Any) -> Any:
            claimed = await take(**{**asked, "lease": timedelta(milliseconds=1)})
            return replace(claimed, held_for=asked["lease"].total_seconds())

        self._store.claim_due = at_once
        try:
            return await claim(self)
        finally:
            del self._store.claim_due

    Dispatcher.claim = brief  # type: ignore[method-assign]


def nodes_own_clock() -> None:
    """5. "Due" is read from the node's clock, which is 3 s ahead of the store's."""
    from qhronos_core.adapters import postgres
    from qhronos_core.adapters.clock import SystemClock

    class Ahead(SystemClock):
        def now(self) -> datetime:
            return super().now() + timedelta(seconds=3)

    opens = postgres.open_postgres_store
    postgres.open_postgres_store = lambda conninfo, **asked: opens(conninfo, **{**asked, "clock": Ahead()})


def successor_later() -> None:
    """The successor is inserted in a second transaction, after the claim's."""
    from qhronos_core.failpoints import failpoint
    from qhronos_core.ports import Changes
    from qhronos_core.scheduler.dispatcher import CarefulJudge, Dispatcher

    claim, judge = Dispatcher.claim, CarefulJudge.judge
    later: list[Any] = []

    def without_successor(self: Any, due: Any) -> Any:
        move = judge(self, due)
        later.extend(move.planned)
        return replace(move, planned=())

    async def then_planned(self: Any) -> Any:
        claimed = await claim(self)
        if later:
            failpoint("before_send")
            await self._store.commit(Changes(planned=later[:]))
            later.clear()
        return claimed

    CarefulJudge.judge = without_successor  # type: ignore[method-assign]
    Dispatcher.claim = then_planned  # type: ignore[method-assign]


def wrong_clock() -> None:
    """No bug: the machine's clock is wrong by what the file named by FAULTS_CLOCK says (libfaketime and `time.sleep` quarrel)."""
    from qhronos_core.adapters.clock import SystemClock

    file, now = Path(os.environ["FAULTS_CLOCK"]), SystemClock.now
    SystemClock.now = lambda self: now(self) + timedelta(seconds=float(file.read_text()))  # type: ignore[method-assign]


PLANTED: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (no_fence, removed_before_sent, new_id_each_time, lease_let_go, nodes_own_clock, successor_later)
}


def plant(name: str) -> None:
    globals()[name]()
