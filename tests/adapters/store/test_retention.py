"""Retention removes ended history and nothing else (F53, L18)."""

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qhronos_core.domain.access import Access
from qhronos_core.domain.errors import EventNotFoundError
from qhronos_core.domain.event import Event, EventStatus
from qhronos_core.domain.ids import TokenId
from qhronos_core.domain.lifecycle import DISPATCHED, DISPATCHING, FAILED, TERMINAL, State
from qhronos_core.domain.occurrence import Attempt, AttemptOutcome, Cause, Move, Occurrence
from qhronos_core.ports import (
    Changes,
    EventQuery,
    OccurrenceQuery,
    Page,
    RememberedAnswer,
    Revocation,
    Store,
    TokenRecord,
)
from tests.adapters.store.scenes import (
    ALL,
    after,
    an_entry,
    an_event,
    an_occurrence,
    finished,
    handed_over,
    ids,
    journal,
    kept,
)
from tests.clock import NOON, FakeClock

NEVER = datetime.min.replace(year=1980, tzinfo=NOON.tzinfo)


async def retire(store: Store, limit: int = 1_000, **before: datetime) -> int:
    instants: dict[str, Any] = dict.fromkeys(("occurrences", "attempts", "journal", "deleted"), NEVER) | before
    return await store.retire(limit=limit, **{f"{kind}_before": instant for kind, instant in instants.items()})


async def left(store: Store) -> set[UUID]:
    return set(ids((await store.occurrences.list(OccurrenceQuery(), ALL, Page())).items))


async def tried(store: Store, occurrence: Occurrence, at: datetime) -> None:
    """Give it an attempt that ended at this instant."""
    number = occurrence.attempts_made + 1
    attempt = Attempt(occurrence.id, number, at, at, AttemptOutcome.REFUSED)
    await store.commit(Changes(moves=[Move(occurrence, occurrence, attempt=attempt)]))


async def test_finished_rows_go_with_their_attempts_once_they_are_old(store: Store) -> None:
    event = an_event()
    old, young, latest = (finished(event, after(days=day)) for day in (1, 2, 3))
    await kept(store, event, old, young, latest)
    for each in (old, young):
        await tried(store, each, each.scheduled_at)

    assert await retire(store, occurrences=after(days=2)) == 1

    assert await left(store) == {young.id, latest.id}
    assert await store.occurrences.attempts(old.id) == []
    assert len(await store.occurrences.attempts(young.id)) == 1


async def test_it_is_the_end_that_counts_and_not_the_instant(store: Store) -> None:
    event = an_event()
    late = finished(event, after(days=1), finished_at=after(days=9))
    await kept(store, event, late, finished(event, after(days=2)))
    assert await retire(store, occurrences=after(days=5)) == 0


async def test_what_was_skipped_stays_until_its_instant_has_passed_or_an_edit_would_plan_it_again(store: Store) -> None:
    event = an_event()
    skipped = finished(event, after(days=300), finished_at=after(days=1))
    await kept(store, event, skipped, finished(event, after(days=400), finished_at=after(days=1)))

    assert await retire(store, occurrences=after(days=40)) == 0
    assert await retire(store, occurrences=after(days=301)) == 1


async def test_each_events_latest_row_stays_whatever_its_age(store: Store) -> None:
    one, other = an_event(), an_event()
    rows = [finished(event, after(days=day)) for event in (one, other) for day in (1, 2)]
    await kept(store, one, other, *rows)

    await retire(store, occurrences=after(days=99))

    assert await left(store) == {rows[1].id, rows[3].id}


async def test_the_latest_run_of_the_schedule_stays_though_another_was_triggered_later(store: Store) -> None:
    """Its number is the one that `max_occurrences` goes on from."""
    event = an_event(max_occurrences=5)
    rows = [finished(event, after(days=day), ordinal=day) for day in (1, 2)]
    triggered = [finished(event, after(days=day), ordinal=0, cause=Cause.TRIGGER) for day in (3, 4)]
    await kept(store, event, *rows, *triggered)

    assert await retire(store, occurrences=after(days=99)) == 2

    assert await left(store) == {rows[1].id, triggered[1].id}
    assert await store.occurrences.last_ordinal(event.id, since=event.anchor_at) == 2


@pytest.mark.parametrize(
    "unfinished",
    [
        {},
        {"due_at": None, "held": "overlap"},
        {"state": DISPATCHING, "lease_until": NOON},
        {"state": DISPATCHED, "due_at": None, "inbox_at": NOON},
        {"attempts_made": 3, "round": 2},
    ],
)
async def test_nothing_unfinished_goes_and_its_attempts_stay(store: Store, unfinished: dict[str, Any]) -> None:
    event = an_event()
    row = an_occurrence(event, **unfinished)
    await kept(store, event, row, finished(event, after(days=1)))
    await tried(store, row, NOON)

    assert await retire(store, occurrences=after(days=99), attempts=after(days=99), deleted=after(days=99)) == 0

    assert row.id in await left(store)
    assert len(await store.occurrences.attempts(row.id)) == 1


async def test_old_attempts_may_go_before_their_finished_occurrence(store: Store) -> None:
    event = an_event()
    row = finished(event, after(days=1), FAILED)
    await kept(store, event, row)
    await tried(store, row, after(days=1))

    assert await retire(store, attempts=after(days=2)) == 1

    assert await left(store) == {row.id}
    assert await store.occurrences.attempts(row.id) == []


async def test_a_live_event_outlives_every_pass(store: Store) -> None:
    in_two_years, idle = an_event(), an_event(status=EventStatus.INACTIVE)
    paused = an_event(status=EventStatus.PAUSED)
    await kept(store, in_two_years, idle, paused, an_occurrence(in_two_years, after(days=730)))
    ages = after(days=9_999)

    await retire(store, occurrences=ages, attempts=ages, journal=ages, deleted=ages)

    assert len((await store.events.list(EventQuery(), ALL, Page())).items) == 3
    assert await store.occurrences.planned(in_two_years.id) is not None


async def test_a_deleted_event_goes_with_all_its_history_once_it_is_old(store: Store) -> None:
    old = an_event("user:ada", status=EventStatus.DELETED, deleted_at=after(days=1))
    young = an_event("user:ada", status=EventStatus.DELETED, deleted_at=after(days=2))
    rows = {event.id: finished(event) for event in (old, young)}
    await kept(store, old, young, *rows.values())
    await tried(store, rows[old.id], NOON)

    assert await retire(store, deleted=after(days=2)) == 2

    with pytest.raises(EventNotFoundError):
        await store.events.get(old.id)
    assert await store.events.get(young.id) == young
    assert await left(store) == {rows[young.id].id}
    assert await store.occurrences.attempts(rows[old.id].id) == []


async def test_a_deleted_event_with_an_attempt_under_way_waits_for_it(store: Store) -> None:
    event = an_event(status=EventStatus.DELETED, deleted_at=NOON)
    await kept(store, event, an_occurrence(event, state=DISPATCHING, lease_until=after(days=1)))
    assert await retire(store, deleted=after(days=9)) == 0
    assert await store.events.get(event.id) == event


async def test_entries_go_in_order_up_to_the_first_that_is_young(store: Store) -> None:
    days = (1, 2, 9, 3)  # the last was written late, and the one before it shields it
    await store.commit(Changes(entries=[replace(an_entry(detail={"day": day}), at=after(days=day)) for day in days]))

    assert await retire(store, journal=after(days=5)) == 2

    assert [entry.detail["day"] for entry in await journal(store)] == [9, 3]


async def test_a_pass_removes_no_more_of_each_kind_than_asked(store: Store) -> None:
    event = an_event()
    await kept(store, event, *(finished(event, after(minutes=place)) for place in range(8)))
    await store.commit(Changes(entries=[an_entry() for _ in range(8)]))
    old = after(days=1)

    passes = [await retire(store, 3, occurrences=old, journal=old) for _ in range(4)]

    assert passes == [6, 6, 3, 0]
    assert len(await left(store)) == 1


async def test_expired_answers_and_revocations_of_expired_tokens_go(store: Store, clock: FakeClock) -> None:
    expired, valid = TokenId(UUID(int=1)), TokenId(UUID(int=2))
    await store.commit(
        Changes(
            tokens=[
                TokenRecord(jti, "ada", Access.READ, (), NOON, after(hours=hours))
                for jti, hours in ((expired, 1), (valid, 3))
            ],
            revocations=[
                Revocation(UUID(int=1), NOON, jti=expired),
                Revocation(UUID(int=2), NOON, jti=valid),
                Revocation(UUID(int=3), NOON, sub="ada"),
            ],
            answer=RememberedAnswer("ada", "/events", "k", b"h", 201, {}, after(hours=1)),
        )
    )
    clock.set(after(hours=2))

    assert await retire(store) == 2

    assert [revocation.id.int for revocation in await store.tokens.revocations()] == [2, 3]
    assert (await store.tokens.get(expired)).jti == expired


ROW = st.tuples(
    st.integers(0, 3),  # of which event
    st.integers(0, 60),  # day of its instant
    st.sampled_from(State),
    st.integers(0, 60),  # day of its end
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(ROW, max_size=25, unique_by=lambda row: row[:2]),
    deleted_on=st.lists(st.none() | st.integers(0, 60), min_size=4, max_size=4),
    before=st.tuples(*[st.integers(0, 60)] * 2),
    limit=st.integers(1, 5),
)
async def test_whatever_the_history_only_old_ended_rows_go(
    store: Store,
    rows: list[tuple[int, int, State, int]],
    deleted_on: list[int | None],
    before: tuple[int, int],
    limit: int,
) -> None:
    events: list[Event] = [
        an_event() if day is None else an_event(status=EventStatus.DELETED, deleted_at=after(days=day))
        for day in deleted_on
    ]
    occurrences = [
        finished(events[of], after(days=day), state, finished_at=after(days=end))
        if state in TERMINAL
        else handed_over(events[of], after(days=day))
        if state is DISPATCHED
        else an_occurrence(events[of], after(days=day), state=state, due_at=after(days=999))
        for of, day, state, end in rows
    ]
    await kept(store, *events, *occurrences)
    finished_before, deleted_before = (after(days=day) for day in before)

    async def retired() -> int:
        return await retire(store, limit, occurrences=finished_before, deleted=deleted_before)

    while await retired():
        pass

    found = await store.occurrences.many([each.id for each in occurrences])
    there = await store.events.many([event.id for event in events])
    for event in events:
        mine = [each for each in occurrences if each.event_id == event.id]
        over = (
            event.deleted_at is not None and event.deleted_at < deleted_before and all(each.finished for each in mine)
        )
        assert (event.id in there) == (not over)
        latest = max((each.scheduled_at for each in mine), default=None)
        for each in mine:
            ended = each.finished_at is not None and each.finished_at < finished_before
            old = ended and each.scheduled_at < finished_before
            assert (each.id in found) == (not (over or (old and each.scheduled_at != latest)))
