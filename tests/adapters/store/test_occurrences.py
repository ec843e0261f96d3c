"""Occurrences as they are listed and looked up."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from qhronos_core.domain.access import Reach
from qhronos_core.domain.errors import InvalidInputError, OccurrenceNotFoundError
from qhronos_core.domain.event import EventStatus
from qhronos_core.domain.lifecycle import CANCELLED, COMPLETED, DISPATCHING, FAILED, MISSED, PENDING
from qhronos_core.domain.occurrence import Cause, Held, Occurrence
from qhronos_core.ports import OccurrenceQuery, Page, Store
from tests.adapters.store.scenes import (
    ALL,
    after,
    an_event,
    an_occurrence,
    finished,
    handed_over,
    ids,
    kept,
    unknown_event,
    unknown_occurrence,
    within,
)
from tests.clock import NOON


async def listed(store: Store, query: OccurrenceQuery, reach: Reach = ALL) -> list[UUID]:
    return ids((await store.occurrences.list(query, reach, Page())).items)


async def test_an_occurrence_nobody_planned_is_not_found(store: Store) -> None:
    with pytest.raises(OccurrenceNotFoundError):
        await store.occurrences.get(unknown_occurrence())
    assert await store.occurrences.many([unknown_occurrence()]) == {}
    assert await store.occurrences.many([]) == {}


async def test_more_can_be_asked_for_at_once_than_a_statement_takes(store: Store) -> None:
    event = an_event()
    rows = [an_occurrence(event, after(seconds=place)) for place in range(1_201)]
    await kept(store, event, *rows)
    assert len(await store.occurrences.many([each.id for each in rows])) == 1_201


async def test_a_list_is_latest_first_or_turned_round_and_ties_are_broken_by_id(store: Store) -> None:
    events = [an_event() for _ in range(3)]
    rows = [an_occurrence(event, after(minutes=place)) for event in events for place in (0, 1)]
    await kept(store, *events, *rows)
    rows.sort(key=lambda each: (each.scheduled_at, each.id))
    in_order = ids(rows)

    assert await listed(store, OccurrenceQuery(earliest_first=True)) == in_order
    assert await listed(store, OccurrenceQuery()) == in_order[::-1]


@pytest.mark.parametrize("earliest_first", [False, True])
async def test_pages_by_cursor_hold_every_row_once(store: Store, earliest_first: bool) -> None:
    events = [an_event() for _ in range(4)]
    rows = [an_occurrence(event, after(minutes=place)) for event in events for place in range(5)]
    await kept(store, *events, *rows)
    query = OccurrenceQuery(earliest_first=earliest_first)

    seen: list[Occurrence] = []
    cursor = None
    while True:
        listing = await store.occurrences.list(query, ALL, Page(limit=3, cursor=cursor), count=True)
        seen += listing.items
        assert listing.total == 20
        cursor = listing.next_cursor
        if cursor is None:
            break

    expected = sorted(rows, key=lambda each: (each.scheduled_at, each.id), reverse=not earliest_first)
    assert seen == expected


async def test_pages_by_offset(store: Store) -> None:
    event = an_event()
    rows = [an_occurrence(event, after(minutes=place)) for place in range(5)]
    await kept(store, event, *rows)
    page = await store.occurrences.list(OccurrenceQuery(earliest_first=True), ALL, Page(limit=2, offset=3))
    assert ids(page.items) == ids(rows[3:])
    assert (page.next_cursor, page.total) == (None, None)


async def test_a_cursor_of_another_order_or_list_is_refused(store: Store) -> None:
    event = an_event()
    await kept(store, event, *(an_occurrence(event, after(minutes=place)) for place in range(3)))
    cursor = (await store.occurrences.list(OccurrenceQuery(), ALL, Page(limit=1))).next_cursor

    for other in (
        OccurrenceQuery(earliest_first=True),
        OccurrenceQuery(event_id=event.id),
        OccurrenceQuery(states=frozenset({PENDING, FAILED})),
        OccurrenceQuery(since=NOON),
    ):
        with pytest.raises(InvalidInputError):
            await store.occurrences.list(other, ALL, Page(cursor=cursor))
    assert len((await store.occurrences.list(OccurrenceQuery(), ALL, Page(cursor=cursor))).items) == 2


async def test_a_cursor_is_good_for_the_same_filters_in_whatever_process_they_were_put_together(store: Store) -> None:
    event = an_event()
    await kept(store, event, *(finished(event, after(minutes=place)) for place in range(2)))
    forth = OccurrenceQuery(states=frozenset([PENDING, COMPLETED, FAILED, MISSED]))
    back = OccurrenceQuery(states=frozenset([MISSED, FAILED, COMPLETED, PENDING]))
    cursor = (await store.occurrences.list(forth, ALL, Page(limit=1))).next_cursor
    assert len((await store.occurrences.list(back, ALL, Page(cursor=cursor))).items) == 1


async def test_lists_filter_by_event_state_tags_and_time(store: Store) -> None:
    one, other = an_event("a", "b"), an_event("b")
    early, late = an_occurrence(one), finished(one, after(minutes=1), FAILED)
    missed = finished(other, after(minutes=2), MISSED)
    await kept(store, one, other, early, late, missed)

    assert await listed(store, OccurrenceQuery(event_id=one.id)) == [late.id, early.id]
    assert await listed(store, OccurrenceQuery(event_id=unknown_event())) == []
    assert await listed(store, OccurrenceQuery(states=frozenset({FAILED, MISSED}))) == [missed.id, late.id]
    assert await listed(store, OccurrenceQuery(tags=("a",))) == [late.id, early.id]
    assert await listed(store, OccurrenceQuery(tags=("a", "b"))) == [missed.id, late.id, early.id]
    assert await listed(store, OccurrenceQuery(tags=("a", "b"), match_all=True)) == [late.id, early.id]


async def test_since_is_included_and_until_is_not(store: Store) -> None:
    event = an_event()
    rows = [an_occurrence(event, after(minutes=place)) for place in range(3)]
    await kept(store, event, *rows)
    query = OccurrenceQuery(since=NOON, until=after(minutes=2), earliest_first=True)
    assert await listed(store, query) == ids(rows[:2])


async def test_occurrences_of_a_deleted_event_are_listed_only_for_who_sees_everything(store: Store) -> None:
    live, deleted = an_event("user:ada"), an_event("user:ada", status=EventStatus.DELETED)
    of_live, of_deleted = an_occurrence(live), finished(deleted, after(minutes=-1))
    await kept(store, live, deleted, of_live, of_deleted)

    assert await listed(store, OccurrenceQuery()) == [of_live.id, of_deleted.id]
    assert await listed(store, OccurrenceQuery(), within("user:ada")) == [of_live.id]
    assert await listed(store, OccurrenceQuery(event_id=deleted.id), within("user:ada")) == []


# --- looking ahead and back -------------------------------------------------------------------------------


async def test_the_planned_row_is_the_one_that_advances_and_never_began(store: Store) -> None:
    event, none, held = an_event(), an_event(), an_event()
    planned = an_occurrence(event, after(minutes=9))
    held_in_pause = an_occurrence(held, due_at=None, held=Held.PAUSE)
    await kept(
        store,
        event,
        none,
        held,
        planned,
        held_in_pause,
        an_occurrence(event, after(minutes=1), advances=False),
        an_occurrence(event, after(minutes=2), round=2),
        an_occurrence(event, after(minutes=3), attempts_made=1),
        an_occurrence(event, after(minutes=4), inbox_at=NOON),
        an_occurrence(event, after(minutes=5), state=DISPATCHING),
        finished(none, after(minutes=6)),
    )

    assert await store.occurrences.planned(event.id) == planned
    assert await store.occurrences.planned(none.id) is None
    assert await store.occurrences.planned_of([event.id, none.id, held.id, unknown_event()]) == {
        event.id: planned,
        held.id: held_in_pause,
    }


async def test_the_last_ordinal_is_of_the_schedules_row_planned_last(store: Store) -> None:
    event = an_event()
    made = event.created_at
    assert await store.occurrences.last_ordinal(event.id, since=made) == 0
    await kept(
        store,
        event,
        an_occurrence(event, after(minutes=9), ordinal=9, created_at=made),
        an_occurrence(event, after(minutes=1), ordinal=1, created_at=made + timedelta(seconds=1)),
        an_occurrence(event, after(minutes=2), ordinal=2, created_at=made + timedelta(seconds=1)),
        an_occurrence(event, after(minutes=3), ordinal=0, cause=Cause.TRIGGER, created_at=made + timedelta(seconds=2)),
    )
    assert await store.occurrences.last_ordinal(event.id, since=made) == 2


async def test_the_last_ordinal_is_of_the_present_rule(store: Store) -> None:
    changed = after(minutes=5)
    of_the_old_rule = finished(event := an_event(), after(minutes=4), ordinal=4)
    skipped = finished(event, after(minutes=9), CANCELLED, ordinal=9, finished_at=after(minutes=3))
    await kept(store, event, of_the_old_rule, skipped)
    assert await store.occurrences.last_ordinal(event.id, since=changed) == 0
    of_both = an_occurrence(other := an_event(), after(minutes=8), ordinal=1)
    await kept(store, other, finished(other, after(minutes=4), ordinal=4), of_both)
    assert await store.occurrences.last_ordinal(other.id, since=changed) == 1
    await kept(store, an_occurrence(event, after(minutes=4.5), ordinal=1, created_at=changed))
    assert await store.occurrences.last_ordinal(event.id, since=changed) == 1


async def test_rows_held_by_overlap_are_listed_oldest_first(store: Store) -> None:
    event, other = an_event(), an_event()
    rows = [an_occurrence(event, after(minutes=place), due_at=None, held=Held.OVERLAP) for place in (2, 1)]
    await kept(
        store,
        event,
        other,
        *rows,
        an_occurrence(event, due_at=None, held=Held.PAUSE),
        an_occurrence(other, due_at=None, held=Held.OVERLAP),
    )
    assert await store.occurrences.held_by_overlap(event.id) == rows[::-1]


async def test_instants_that_have_a_row_are_told_whatever_its_state(store: Store) -> None:
    event, other = an_event(), an_event()
    await kept(
        store,
        event,
        other,
        an_occurrence(event),
        finished(event, after(minutes=1)),
        handed_over(event, after(minutes=2)),
        an_occurrence(other, after(minutes=3)),
    )
    assert await store.occurrences.instants_after(event.id, NOON) == {after(minutes=1), after(minutes=2)}


async def test_the_latest_is_the_last_that_was_begun_or_finished(store: Store) -> None:
    events = [an_event() for _ in range(5)]
    sent, handed, lapsed, fresh, retried = events
    rows = {
        sent.id: finished(sent, after(minutes=2)),
        handed.id: handed_over(handed, after(minutes=2)),
        lapsed.id: an_occurrence(lapsed, after(minutes=2), attempts_made=1),
        retried.id: an_occurrence(retried, after(minutes=2), round=2),
    }
    earlier = [finished(event, after(minutes=1)) for event in events if event is not fresh]
    ahead = [an_occurrence(event, after(minutes=3)) for event in events]
    await kept(store, *events, *rows.values(), *earlier, *ahead)

    assert await store.occurrences.latest([event.id for event in events]) == rows
    assert await store.occurrences.latest([]) == {}


async def test_an_occurrence_without_attempts_has_none(store: Store) -> None:
    assert await store.occurrences.attempts(unknown_occurrence()) == []


async def test_a_row_is_found_by_the_id_its_instant_gives_it(store: Store) -> None:
    event = an_event()
    planned = an_occurrence(event, after(microseconds=1))
    await kept(store, event, planned, replace(an_occurrence(event), ordinal=2))
    assert await store.occurrences.get(an_occurrence(event, after(microseconds=1)).id) == planned
