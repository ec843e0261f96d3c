"""Waits for the inbox that outlive their request: an MCP task. Nothing is claimed for an agent that stopped asking."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from qhronos_core.domain import access
from qhronos_core.domain.access import WRITE, Principal
from qhronos_core.domain.errors import LimitedError, NotFoundError
from qhronos_core.domain.ids import new_id
from qhronos_core.ports import InboxQuery, Signals, Stirred, Store, Wait, WaitState
from qhronos_core.usecases.audit import who
from qhronos_core.usecases.occurrences import OccurrenceAnswer, reads_history

WAITS: Final = 20  # that one principal may have going at once


class TooManyWaitsError(LimitedError):
    code = "too_many_waits"

    def __init__(self) -> None:
        super().__init__(1, f"At most {WAITS} waits may be open at once. Let one end first.")


class WaitNotFoundError(NotFoundError):
    """No such wait, or another's: one text for both."""

    code = "wait_not_found"

    def __init__(self) -> None:
        super().__init__("No such task.")


@dataclass(frozen=True, slots=True)
class Looked:
    """A wait as it is now. `news`: what must be told of it and recorded with `tell`; None while there is nothing new."""

    wait: Wait
    news: tuple[OccurrenceAnswer, ...] | None = None


class WaitCases:
    def __init__(self, store: Store, signals: Signals) -> None:
        self._store = store
        self._signals = signals

    async def start(self, query: InboxQuery, length: timedelta, *, caller: Principal) -> Wait | None:
        """A wait of this length; None if something is due already, so that there is nothing to wait for.

        Raises:
            TooManyWaitsError: the caller has as many going as one principal may.
        """
        if await self._store.occurrences.waiting(query, access.reach(caller, WRITE)):
            return None
        now = await self._store.now()
        wait = Wait(new_id(now), caller.holder, query, created_at=now, updated_at=now, ends_at=now + length)
        if not await self._store.waits.start(wait, most=WAITS):
            raise TooManyWaitsError()
        return wait

    async def get(self, wait_id: UUID, *, caller: Principal) -> Wait:
        """As it stands; nothing is claimed for it. Raises WaitNotFoundError: no such wait, or another's."""
        wait = await self._store.waits.get(wait_id)
        if wait is None or not caller.is_behind(wait.holder):
            raise WaitNotFoundError()
        return wait

    async def look(self, wait_id: UUID, *, caller: Principal) -> Looked:
        """Claim for it what is due now. What was claimed once is what it tells for ever.

        Raises:
            WaitNotFoundError: no such wait, or another's.
        """
        wait = await self.get(wait_id, caller=caller)
        if wait.state is not WaitState.WORKING:
            return Looked(wait)
        if not wait.occurrence_ids and caller.writes:
            taken = await self._store.claim_inbox(
                wait.query,
                access.reach(caller, WRITE),
                holder=caller.holder,
                actor=caller.sub,
                told=who(caller),
                wait_id=wait.id,
            )
            if taken:
                await self._signals.announce(Stirred(min(row.due_at for row in taken if row.due_at is not None)))
            wait = await self.get(wait_id, caller=caller)
        if wait.state is WaitState.WORKING and (wait.occurrence_ids or await self._store.now() >= wait.ends_at):
            return Looked(wait, await self._claimed(wait, caller))
        return Looked(wait)

    async def tell(self, wait: Wait, answer: Mapping[str, Any]) -> Wait:
        """Record what was told; the wait is over. If another request told it first, its answer stands."""
        return await self._store.waits.end(wait.id, WaitState.COMPLETED, answer=answer) or wait

    async def cancel(self, wait_id: UUID, *, caller: Principal) -> Wait:
        """End it. What was claimed for it stays claimed. Raises WaitNotFoundError."""
        wait = await self.get(wait_id, caller=caller)
        return await self._store.waits.end(wait.id, WaitState.CANCELLED) or wait

    async def next_due(self, wait: Wait, *, caller: Principal) -> timedelta | None:
        """How long until something it waits for is planned to be due."""
        due = await self._store.occurrences.next_due_within(wait.query, access.reach(caller, WRITE))
        return None if due is None else due - await self._store.now()

    async def _claimed(self, wait: Wait, caller: Principal) -> tuple[OccurrenceAnswer, ...]:
        """Also after a node died between the claim and the answer."""
        rows = await self._store.occurrences.many(wait.occurrence_ids)
        events = await self._store.events.many(list({row.event_id for row in rows.values()}))
        answers = (
            OccurrenceAnswer(rows[row_id], events[rows[row_id].event_id])
            for row_id in wait.occurrence_ids
            if row_id in rows and rows[row_id].event_id in events
        )
        return tuple(answer for answer in answers if reads_history(caller, answer.event))
