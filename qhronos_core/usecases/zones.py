"""A release of ours may carry other time zones: wall-clock events are then planned anew (schedules.md §7)."""

from collections.abc import Set
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from qhronos_core.domain import planning
from qhronos_core.domain.access import Reach
from qhronos_core.domain.errors import StaleError
from qhronos_core.domain.event import Event, EventStatus
from qhronos_core.domain.occurrence import Entry, EntryKind
from qhronos_core.ports import Changes, EventQuery, Page, Signals, Stirred, Store
from qhronos_core.usecases.decide import decided

_AT_ONCE: Final = 500
_ACTIVE: Final = EventQuery(statuses=frozenset({EventStatus.ACTIVE}))
_EVERYTHING: Final = Reach(everything=True)


async def follow_zones(store: Store, signals: Signals, version: str) -> int:
    """Replace each planned row still ahead whose instant is another by these zones; how many were.

    Does nothing where planned rows follow `version` already. Any number of nodes may do it at once.
    """
    planned_by = await store.zones_version()
    if planned_by == version:
        return 0
    replanned = 0
    cursor: str | None = None
    more = planned_by is not None
    while more:
        listing = await store.events.list(_ACTIVE, _EVERYTHING, Page(limit=_AT_ONCE, cursor=cursor))
        cursor = listing.next_cursor
        more = cursor is not None
        for event in listing.items:
            if event.timezone != "UTC" and planning.timetable(event).kind != "interval":
                try:
                    replanned += await decided(partial(_replanned, store, event))
                except StaleError:
                    continue  # it is being changed all the time, and every change plans by these zones
    await store.commit(Changes(zones_version=version, at=await store.now()))
    if replanned:
        await signals.announce(Stirred(await store.occurrences.next_due()))
    return replanned


async def _replanned(store: Store, event: Event) -> bool:
    now = await store.now()
    before = await store.occurrences.planned(event.id)
    if before is None or before.due_at is None or before.due_at <= now or before.due_at != before.scheduled_at:
        return False
    taken = await store.occurrences.instants_after(event.id, now) - {before.scheduled_at}
    skipped = any(instant < before.scheduled_at for instant in taken)
    after = _just_before_what_became_of(event, before.scheduled_at, now, taken) if skipped else now
    nxt = planning.following(event, after, before.ordinal, now, taken=taken)
    if nxt is None or nxt.id == before.id:
        return False
    entry = Entry(now, EntryKind.OCCURRENCE_WITHDRAWN, event.id, before.id, detail={"reason": "time_zones"})
    await store.commit(Changes(withdrawn=[before], planned=[nxt], entries=[entry], at=now))
    return True


def _just_before_what_became_of(event: Event, planned: datetime, now: datetime, taken: Set[datetime]) -> datetime:
    """The instants ahead have moved, and those skipped are among them: the nearest to the planned one is its own.

    Of two as near the later: nothing that was skipped comes back.
    """
    table = planning.timetable(event)
    nearest: datetime | None = None
    instant = table.next_after(now)
    while instant is not None:
        if instant not in taken:
            if nearest is not None and abs(nearest - planned) < abs(instant - planned):
                break
            nearest = instant
        instant = table.next_after(instant)
    return now if nearest is None else nearest - timedelta(microseconds=1)
