"""What happened and what is coming; the inbox; and the last word about an occurrence."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final
from uuid import UUID

from qhronos_core.domain import access, judgement, planning
from qhronos_core.domain.access import READ, WRITE, Principal
from qhronos_core.domain.errors import (
    ConflictError,
    EventNotFoundError,
    ForbiddenError,
    InvalidInputError,
    NotFinishedError,
    NotHeldError,
    OccurrenceNotFoundError,
)
from qhronos_core.domain.event import Event, EventStatus
from qhronos_core.domain.ids import EventId, OccurrenceId, occurrence_id
from qhronos_core.domain.judgement import AckOutcome
from qhronos_core.domain.lifecycle import DISPATCHED, DISPATCHING, FAILED, MISSED
from qhronos_core.domain.occurrence import Attempt, Move, Occurrence
from qhronos_core.domain.schedule import parse_duration
from qhronos_core.ports import (
    Changes,
    EventQuery,
    InboxQuery,
    Listing,
    OccurrenceQuery,
    Page,
    Signals,
    Stirred,
    Store,
)
from qhronos_core.tally import Tally
from qhronos_core.usecases.audit import audited, told_by, who
from qhronos_core.usecases.decide import decided
from qhronos_core.usecases.once import Once, replayed

NOTE_LIMIT: Final = 500
DELAY_MOST: Final = timedelta(days=7)
DEFAULT_DELAY: Final = timedelta(minutes=5)
RETRY_MANY_LIMIT: Final = 1_000
UPCOMING_EVENTS: Final = 1_000
HELD_MOST: Final = 1_000  # inbox items of one holder that are given back at once


@dataclass(frozen=True, slots=True)
class OccurrenceAnswer:
    occurrence: Occurrence
    event: Event


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A run ahead, computed and not stored; its id is already known, since ids are derived."""

    occurrence_id: OccurrenceId
    event: Event
    due_at: datetime


@dataclass(frozen=True, slots=True)
class InboxGlimpse:
    """`waiting`: due and unclaimed. `held`: claimed by this caller, unacknowledged. Looking claims nothing."""

    waiting: int
    held: tuple[OccurrenceId, ...]
    next_due: datetime | None
    rows: tuple[OccurrenceAnswer, ...]


class OccurrenceCases:
    def __init__(self, store: Store, signals: Signals, *, tally: Tally | None = None) -> None:
        self._tally = tally or Tally()
        self._store = store
        self._signals = signals

    # --- reading ------------------------------------------------------------------------------

    async def get(self, occurrence_id: UUID, *, caller: Principal) -> OccurrenceAnswer:
        """Raises OccurrenceNotFoundError for one that is absent or out of reach, with the same words."""
        return await self._reached(OccurrenceId(occurrence_id), caller)

    async def list(
        self, query: OccurrenceQuery, page: Page, *, caller: Principal, count: bool = False
    ) -> Listing[OccurrenceAnswer]:
        if query.event_id is not None:
            await self._event(query.event_id, caller)
        listing = await self._store.occurrences.list(query, access.reach(caller, READ), page, count=count)
        return Listing(await self._with_events(listing.items, caller), listing.next_cursor, listing.total)

    async def attempts(self, occurrence_id: UUID, *, caller: Principal) -> Sequence[Attempt]:
        answer = await self._reached(OccurrenceId(occurrence_id), caller)
        return await self._store.occurrences.attempts(answer.occurrence.id)

    async def upcoming(
        self, query: OccurrenceQuery, *, limit: int, caller: Principal, skip: int = 0
    ) -> Sequence[Upcoming]:
        """The next `limit` runs of the events the caller reads, soonest first, without the first `skip`.

        Those are of one instant, the first, where a page ended; so no event has more than one of them.
        """
        now = await self._store.now()
        after = max(now, query.since) if query.since else now
        if query.event_id is not None:
            events: Sequence[Event] = [await self._event(query.event_id, caller)]
        else:
            wanted = EventQuery(tags=query.tags, match_all=query.match_all, statuses=frozenset({EventStatus.ACTIVE}))
            listing = await self._store.events.list(wanted, access.reach(caller, READ), Page(limit=UPCOMING_EVENTS))
            events = listing.items
        most = limit + (1 if skip else 0)
        runs = heapq.merge(*[await self._ahead(event, after, most) for event in events], key=lambda run: run.due_at)
        page = islice(runs, skip, skip + limit)
        return [run for run in page if query.until is None or run.due_at < query.until]

    async def inbox(self, query: InboxQuery, *, caller: Principal) -> InboxGlimpse:
        reach = access.reach(caller, WRITE)
        occurrences = self._store.occurrences
        held = await occurrences.held_by(caller.holder, 50)
        rows = await occurrences.inbox(query, reach, limit=10)
        return InboxGlimpse(
            waiting=await occurrences.waiting(query, reach),
            held=tuple(row.id for row in held),
            next_due=await occurrences.next_due_within(query, reach),
            rows=await self._with_events(rows, caller),
        )

    # --- changing -----------------------------------------------------------------------------

    async def claim_inbox(self, query: InboxQuery, *, caller: Principal) -> Sequence[OccurrenceAnswer]:
        """Take what is due and free, under a lease of each event's `ack_timeout`. Empty for a token that may not write."""
        if not caller.writes:
            return []
        taken = await self._store.claim_inbox(
            query, access.reach(caller, WRITE), holder=caller.holder, actor=caller.sub, told=who(caller)
        )
        if taken:
            await self._signals.announce(Stirred(min(row.due_at for row in taken if row.due_at is not None)))
        return await self._with_events(taken, caller)

    async def acknowledge(
        self,
        occurrence_id: UUID,
        outcome: str,
        *,
        caller: Principal,
        delay: str | None = None,
        note: str | None = None,
        once: Once | None = None,
    ) -> OccurrenceAnswer:
        """The same outcome again has the same answer.

        Raises:
            AlreadySettledError: it ended with another outcome.
            NotHeldError: another holds it.
        """

        async def attempt() -> OccurrenceAnswer:
            found = await self._reached(OccurrenceId(occurrence_id), caller)
            event, was = found.event, found.occurrence
            await audited(self._store, caller, "acknowledge", lambda: _require_write(caller, event), event.id)
            word, wait = _word(outcome, delay, note)
            now = await self._store.now()
            leased = was.inbox_at is not None and was.lease_until is not None and was.lease_until > now
            if leased and was.holder != caller.holder:
                raise NotHeldError()
            move = judgement.acknowledged(event, was, word, at=now, actor=caller.sub, delay=wait, note=note)
            move = told_by(caller, move) if move else None
            answer = OccurrenceAnswer(move.now if move else was, event)
            changes = Changes(moves=[move] if move else [], at=now)
            if once is not None:
                changes.answer = once.remembered(answer, now)
            if move or once:
                await self._store.commit(changes)
                if move:
                    self._tally.moved(move, event)
                await self._signals.announce(
                    Stirred(answer.occurrence.due_at or (now if move and move.frees_queue else None))
                )
            return answer

        return await replayed(self._store, once, lambda: decided(attempt))

    async def give_back(self, handed: Mapping[OccurrenceId, int]) -> Mapping[OccurrenceId, int]:
        """Handed over, each under this fence, to a client that has gone: no acknowledgement will come, so its time is up now.

        Returns those whose hand-over is not on record yet, to be given back later. One that was handed over anew
        meanwhile is somebody else's.
        """
        rows = [
            row for row in (await self._store.occurrences.many(list(handed))).values() if handed[row.id] == row.fence
        ]
        given = [row for row in rows if row.state is DISPATCHED and row.inbox_at is None]
        if given:
            now = await self._store.now()
            await self._store.settle([Move(row, row.changed(now, due_at=now)) for row in given])
            await self._signals.announce(Stirred(now))
        return {row.id: row.fence for row in rows if row.state is DISPATCHING}

    async def give_back_held(self, holder: str) -> int:
        """Inbox items of a holder that has gone for good: free for others now, not when each lease lapses. How many."""
        held = await self._store.occurrences.held_by(holder, HELD_MOST)
        if held:
            now = await self._store.now()
            await self._store.settle([Move(row, row.changed(now, due_at=now, lease_until=now)) for row in held])
            await self._signals.announce(Stirred(now))
        return len(held)

    async def retry(self, occurrence_id: UUID, *, caller: Principal, once: Once | None = None) -> OccurrenceAnswer:
        """Send a failed or missed occurrence again: a new round of attempts, the same id.

        Raises:
            NotFinishedError: it is in another state.
            ConflictError: its event was deleted.
        """

        async def attempt() -> OccurrenceAnswer:
            found = await self._reached(OccurrenceId(occurrence_id), caller)
            event_id = found.event.id
            await audited(self._store, caller, "retry", lambda: _require_write(caller, found.event), event_id)
            now = await self._store.now()
            move = told_by(caller, judgement.retried(found.event, found.occurrence, at=now, actor=caller.sub))
            answer = OccurrenceAnswer(move.now, found.event)
            changes = Changes(moves=[move], at=now)
            if once is not None:
                changes.answer = once.remembered(answer, now)
            await self._store.commit(changes)
            await self._signals.announce(Stirred(now))
            return answer

        return await replayed(self._store, once, lambda: decided(attempt))

    async def retry_matching(
        self, query: OccurrenceQuery, *, caller: Principal, dry_run: bool = False, once: Once | None = None
    ) -> Sequence[OccurrenceAnswer]:
        """The same for every failed or missed occurrence that matches and may be written, at most 1,000.

        `once` is kept after the last of them: repeated after a crash half-way, what is left is sent again. A dry run
        keeps nothing.
        """
        if dry_run:
            return await self._matching(query, caller)
        return await replayed(self._store, once, lambda: self._retry_all(query, caller, once))

    async def _retry_all(
        self, query: OccurrenceQuery, caller: Principal, once: Once | None
    ) -> Sequence[OccurrenceAnswer]:
        retried = []
        for answer in await self._matching(query, caller):
            try:
                retried.append(await self.retry(answer.occurrence.id, caller=caller))
            except (
                NotFinishedError,
                ConflictError,
            ):  # somebody else was faster, or the event is gone: not ours to retry
                continue
        if once is not None:
            now = await self._store.now()
            await self._store.commit(Changes(at=now, answer=once.remembered(retried, now)))
        return retried

    async def _matching(self, query: OccurrenceQuery, caller: Principal) -> Sequence[OccurrenceAnswer]:
        """Those to be sent again."""
        await audited(self._store, caller, "retry", lambda: access.require_writer(caller))
        if query.event_id is not None:
            event = await self._event(query.event_id, caller)
            await audited(self._store, caller, "retry", lambda: _require_write(caller, event), event.id)
        states = (query.states or frozenset({FAILED, MISSED})) & {FAILED, MISSED}
        if not states:
            raise InvalidInputError.of("status", "Only failed and missed occurrences can be sent again.")
        wanted = replace(query, states=frozenset(states), live=True)
        listing = await self._store.occurrences.list(wanted, access.reach(caller, WRITE), Page(limit=RETRY_MANY_LIMIT))
        return await self._with_events(listing.items, caller)

    # --- within reach -------------------------------------------------------------------------

    async def _reached(self, occurrence_id: OccurrenceId, caller: Principal) -> OccurrenceAnswer:
        access.require_unconfined(caller)
        occurrence = await self._store.occurrences.get(occurrence_id)
        event = (await self._store.events.many([occurrence.event_id])).get(occurrence.event_id)
        if event is None or not reads_history(caller, event):
            raise OccurrenceNotFoundError
        return OccurrenceAnswer(occurrence, event)

    async def _event(self, event_id: EventId, caller: Principal) -> Event:
        access.require_unconfined(caller)
        event = await self._store.events.get(event_id)
        if not reads_history(caller, event):
            raise EventNotFoundError
        return event

    async def _with_events(self, rows: Sequence[Occurrence], caller: Principal) -> tuple[OccurrenceAnswer, ...]:
        """Each with its event as it is by now: what was given to others since the rows were read is left out (P7)."""
        read = await self._store.events.many(list({row.event_id for row in rows})) if rows else {}
        events = {event.id: event for event in read.values() if reads_history(caller, event)}
        return tuple(OccurrenceAnswer(row, events[row.event_id]) for row in rows if row.event_id in events)

    async def _ahead(self, event: Event, after: datetime, limit: int) -> Sequence[Upcoming]:
        if event.status is not EventStatus.ACTIVE:
            return []
        planned = await self._store.occurrences.planned(event.id)
        row: Occurrence | None = planned
        runs: list[Upcoming] = []
        while row is not None and len(runs) < limit:
            due_at = row.due_at or row.scheduled_at
            if due_at > after:
                runs.append(Upcoming(occurrence_id(event.id, row.scheduled_at), event, due_at))
            row = planning.successor(event, row, after)
        return runs


def reads_history(caller: Principal, event: Event) -> bool:
    """A deleted event's occurrences are read by admin and master until retention ends them."""
    if not event.live:
        return caller.sees_all
    return access.may(caller, READ, event.labels)


def _require_write(caller: Principal, event: Event) -> None:
    if not access.may(caller, WRITE, event.labels):
        raise ForbiddenError("Your token can read this event but not change it.")


def _word(outcome: str, delay: str | None, note: str | None) -> tuple[AckOutcome, timedelta]:
    """What was said, checked. Raises InvalidInputError with the words that are accepted."""
    try:
        word = AckOutcome(outcome)
    except ValueError:
        fix = [{"outcome": str(known)} for known in AckOutcome]
        raise InvalidInputError.of("outcome", "One of done, failed, later.", got=outcome, fix=fix) from None
    if note is not None and len(note) > NOTE_LIMIT:
        raise InvalidInputError.of("note", f"At most {NOTE_LIMIT} characters.", fix=[{"note": note[:NOTE_LIMIT]}])
    if delay is None:
        return word, DEFAULT_DELAY
    return word, parse_duration(delay, field="delay", minimum=timedelta(seconds=1), maximum=DELAY_MOST)
