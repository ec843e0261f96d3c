"""F41: a claim, an edit and a trigger plan the same instant of one event at the same moment, on different nodes."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Final

from qhronos_core.domain.errors import StaleError
from qhronos_core.domain.event import Event
from qhronos_core.domain.ids import occurrence_id
from qhronos_core.domain.occurrence import Move
from qhronos_core.ports import Changes, Due, EventSave, OccurrenceQuery, Page, Store
from tests.adapters.store.places import Place
from tests.adapters.store.scenes import ALL, ScriptedJudge, an_event, an_occurrence, claim, kept, look
from tests.clock import NOON, FakeClock

THE_INSTANT: Final = NOON + timedelta(minutes=1)
_LATER: Final = [NOON + timedelta(minutes=minutes) for minutes in range(1, 6)]
_EVENTS: Final = 50  # in a round


async def race(place: Place, instants: int, seed: int) -> tuple[Counter[int], Counter[str]]:
    """How many rows each contested instant has (all must have one), and who won how often."""
    rng = random.Random(seed)
    rows: Counter[int] = Counter()
    winners: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        one, other, third = [await stack.enter_async_context(place.open(FakeClock())) for _ in range(3)]
        for _ in range(instants // _EVENTS):
            events = [an_event() for _ in range(_EVENTS)]
            await kept(one, *events, *map(an_occurrence, events))
            racing = asyncio.create_task(claimed(one, other))
            writes = [edited(other, event, rng.random() / 50) for event in events]
            writes += [triggered(third, event, rng.random() / 50) for event in events]
            rng.shuffle(writes)
            winners.update(await asyncio.gather(*writes))
            await racing
            for event in events:
                rows[await rows_at_the_instant(third, event)] += 1
            planned = await third.occurrences.planned_of([event.id for event in events])
            assert len(planned) == len(events), "an event without its planned row"
    return rows, winners


async def claimed(*stores: Store) -> None:
    """Every row, a few at a time and by turns; each claim plans the instant, or the first free one after it."""

    def plans(due: Due) -> Move:
        return replace(claim(due), planned=(an_occurrence(due.event, THE_INSTANT, ordinal=2),))

    for turn in range(20):
        await look(stores[turn % 2], ScriptedJudge(plans, _LATER), limit=5)
        await asyncio.sleep(0)


async def edited(store: Store, event: Event, after: float) -> str:
    """Planned anew from the row it had; refused if that was claimed first."""
    await asyncio.sleep(after)
    changed = event.changed(NOON, name="edited")
    anew = an_occurrence(event, THE_INSTANT, event_version=changed.version)
    changes = Changes(saves=[EventSave(changed, event)], withdrawn=[an_occurrence(event)], planned=[anew])
    return await _won(store, changes, "edit")


async def triggered(store: Store, event: Event, after: float) -> str:
    await asyncio.sleep(after)
    return await _won(store, Changes(planned=[an_occurrence(event, THE_INSTANT, advances=False)]), "trigger")


async def _won(store: Store, changes: Changes, who: str) -> str:
    try:
        await store.commit(changes)
    except StaleError:
        return f"no {who}"
    return who


async def rows_at_the_instant(store: Store, event: Event) -> int:
    until = THE_INSTANT + timedelta(microseconds=1)
    listed = await store.occurrences.list(
        OccurrenceQuery(event_id=event.id, since=THE_INSTANT, until=until), ALL, Page()
    )
    ids: Sequence[object] = [each.id for each in listed.items]
    assert set(ids) <= {occurrence_id(event.id, THE_INSTANT)}
    return len(ids)
