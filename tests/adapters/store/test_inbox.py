"""The inbox: who may take what, for how long, and what is left for others."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from qhronos_core.domain.access import Level
from qhronos_core.domain.event import EventStatus, Policies
from qhronos_core.domain.lifecycle import DISPATCHED
from qhronos_core.domain.occurrence import EntryKind, Held
from qhronos_core.ports import Changes, EventSave, InboxQuery, Store
from tests.adapters.store.places import Place
from tests.adapters.store.scenes import (
    ALL,
    a_webhook,
    after,
    an_event,
    an_occurrence,
    completed,
    finished,
    handed_over,
    ids,
    journal,
    kept,
    row,
    within,
)
from tests.clock import NOON, FakeClock

ANY = InboxQuery(limit=100)
ONE = InboxQuery()
TIMEOUT = Policies().ack_timeout


async def test_a_taken_item_is_leased_to_its_holder_for_the_events_ack_timeout(store: Store, clock: FakeClock) -> None:
    event = an_event(policies=Policies(ack_timeout=timedelta(minutes=3)))
    item = handed_over(event, fence=2)
    await kept(store, event, item)
    clock.advance(seconds=10)

    (taken,) = await store.claim_inbox(ONE, ALL, holder="h", actor="ada")

    lapse = clock.now() + timedelta(minutes=3)
    assert taken == await row(store, item)
    assert taken == item.changed(
        clock.now(),
        fence=3,
        deliveries=1,
        holder="h",
        claimed_at=clock.now(),
        lease_until=lapse,
        due_at=lapse,
    )
    (entry,) = await journal(store)
    assert (entry.kind, entry.occurrence_id, entry.actor) == (EntryKind.OCCURRENCE_CLAIMED, item.id, "ada")


async def test_an_item_that_expires_before_its_lease_ends_is_looked_at_then(store: Store) -> None:
    event = an_event(policies=Policies(expires_after=timedelta(minutes=10), ack_timeout=timedelta(minutes=15)))
    await kept(store, event, handed_over(event, due_at=after(minutes=10)))

    (taken,) = await store.claim_inbox(ONE, ALL, holder="h", actor="ada")

    assert (taken.due_at, taken.lease_until) == (after(minutes=10), after(minutes=15))


async def test_an_expired_item_is_not_handed_out(store: Store, clock: FakeClock) -> None:
    event = an_event(policies=Policies(expires_after=timedelta(minutes=10)))
    await kept(store, event, handed_over(event, due_at=after(minutes=10)))
    clock.advance(timedelta(minutes=10))
    assert await store.claim_inbox(ONE, ALL, holder="h", actor="ada") == []


async def test_nobody_else_takes_an_item_until_its_lease_has_lapsed(store: Store, clock: FakeClock) -> None:
    event = an_event()
    item = handed_over(event)
    await kept(store, event, item)
    (first,) = await store.claim_inbox(ONE, ALL, holder="one", actor="ada")

    clock.advance(TIMEOUT - timedelta(microseconds=1))
    assert await store.claim_inbox(ONE, ALL, holder="other", actor="bob") == []
    assert await store.occurrences.waiting(ANY, ALL) == 0
    clock.advance(timedelta(microseconds=1))
    assert await store.occurrences.waiting(ANY, ALL) == 1
    (second,) = await store.claim_inbox(ONE, ALL, holder="other", actor="bob")

    assert (second.holder, second.state, second.fence) == ("other", DISPATCHED, first.fence + 1)
    assert await store.settle([completed(first, clock.now())]) == frozenset()  # too late
    assert await store.settle([completed(second, clock.now())]) == {item.id}


async def test_the_earliest_handed_over_is_taken_first_and_no_more_than_asked_for(store: Store) -> None:
    event = an_event()
    items = [handed_over(event, after(minutes=place), inbox_at=after(minutes=-place)) for place in (1, 3, 2)]
    await kept(store, event, *items)

    taken = await store.claim_inbox(InboxQuery(limit=2), ALL, holder="h", actor="ada")
    assert ids(taken) == [items[1].id, items[2].id]
    assert ids(await store.claim_inbox(InboxQuery(limit=2), ALL, holder="h", actor="ada")) == [items[0].id]
    assert await store.claim_inbox(InboxQuery(limit=2), ALL, holder="h", actor="ada") == []


async def test_only_what_awaits_an_acknowledgement_of_a_live_event_is_in_the_inbox(store: Store) -> None:
    event, deleted, paused = an_event(), an_event(status=EventStatus.DELETED), an_event(status=EventStatus.PAUSED)
    item, kept_in_pause = handed_over(event), handed_over(paused)
    await kept(
        store,
        event,
        deleted,
        paused,
        item,
        kept_in_pause,
        handed_over(deleted),
        an_occurrence(event, after(minutes=1)),
        finished(event, after(minutes=2)),
        an_occurrence(event, after(minutes=3), state=DISPATCHED, due_at=None),
    )

    assert {occurrence.id for occurrence in await store.occurrences.inbox(ANY, ALL, limit=9)} == {
        item.id,
        kept_in_pause.id,
    }
    assert await store.occurrences.waiting(ANY, ALL) == 2
    taken = await store.claim_inbox(ANY, ALL, holder="h", actor="ada")
    assert {occurrence.id for occurrence in taken} == {item.id, kept_in_pause.id}


async def test_the_inbox_is_narrowed_by_event_tags_and_reach(store: Store) -> None:
    mine, ours, theirs = an_event("user:ada", "a"), an_event("user:ada", "user:bob", "b"), an_event("user:bob", "a")
    items = {event.id: handed_over(event) for event in (mine, ours, theirs)}
    await kept(store, mine, ours, theirs, *items.values())

    async def free(query: InboxQuery, *scope: str, level: Level = Level.WRITE) -> set[object]:
        reach = within(*scope, level=level) if scope else ALL
        found = await store.occurrences.inbox(query, reach, limit=9)
        assert await store.occurrences.waiting(query, reach) == len(found)
        return {occurrence.event_id for occurrence in found}

    assert await free(ANY) == {mine.id, ours.id, theirs.id}
    assert await free(replace(ANY, tags=("a",))) == {mine.id, theirs.id}
    assert await free(replace(ANY, tags=("a", "b"))) == {mine.id, ours.id, theirs.id}
    assert await free(replace(ANY, event_id=ours.id)) == {ours.id}
    assert await free(ANY, "user:ada") == {mine.id}
    assert await free(ANY, "user:ada", level=Level.READ) == {mine.id, ours.id}
    assert await free(ANY, "user:ada", "user:bob") == {mine.id, ours.id, theirs.id}
    assert await free(replace(ANY, event_id=theirs.id), "user:ada") == set()

    taken = await store.claim_inbox(ANY, within("user:ada", level=Level.WRITE), holder="h", actor="ada")
    assert ids(taken) == [items[mine.id].id]


async def test_what_a_holder_has_is_listed_until_the_lease_lapses(store: Store, clock: FakeClock) -> None:
    event = an_event()
    await kept(store, event, handed_over(event), handed_over(event, after(seconds=-1)))
    first = await store.claim_inbox(ONE, ALL, holder="one", actor="ada")
    await store.claim_inbox(ONE, ALL, holder="other", actor="ada")

    assert await store.occurrences.held_by("one", 10) == first
    assert await store.occurrences.held_by("one", 0) == []
    assert await store.occurrences.held_by("nobody", 10) == []
    clock.advance(TIMEOUT)
    assert await store.occurrences.held_by("one", 10) == []


async def test_an_acknowledged_item_is_held_by_nobody(store: Store) -> None:
    event = an_event()
    await kept(store, event, handed_over(event))
    (taken,) = await store.claim_inbox(ONE, ALL, holder="h", actor="ada")
    await store.commit(Changes(moves=[completed(taken, NOON)]))

    assert await store.occurrences.held_by("h", 10) == []
    assert await store.occurrences.inbox(ANY, ALL, limit=10) == []


async def test_the_whole_inbox_is_listed_earliest_handed_over_first_claimed_or_not(store: Store) -> None:
    event = an_event()
    items = [handed_over(event, after(minutes=-place)) for place in range(4)]
    await kept(store, event, *items)
    (taken,) = await store.claim_inbox(ONE, ALL, holder="h", actor="ada")
    assert taken.id == items[3].id

    found = await store.occurrences.inbox(ONE, ALL, limit=3)

    assert ids(found) == [items[3].id, items[2].id, items[1].id]
    assert found[0] == taken


async def test_the_next_planned_instant_is_of_an_inbox_event_within_reach(store: Store) -> None:
    mine, theirs, hook = an_event("user:ada", "a"), an_event("user:bob"), a_webhook("user:ada")
    paused = an_event("user:ada", status=EventStatus.PAUSED)
    await kept(
        store,
        mine,
        theirs,
        hook,
        paused,
        an_occurrence(hook, after(minutes=1)),
        an_occurrence(theirs, after(minutes=2)),
        an_occurrence(paused, after(minutes=2)),
        an_occurrence(mine, after(minutes=3), due_at=None, held=Held.PAUSE),
        an_occurrence(mine, after(minutes=4)),
        an_occurrence(mine, after(minutes=5)),
    )

    assert await store.occurrences.next_due_within(ANY, within("user:ada")) == after(minutes=4)
    assert await store.occurrences.next_due_within(ANY, ALL) == after(minutes=2)
    assert await store.occurrences.next_due_within(InboxQuery(tags=("a",)), ALL) == after(minutes=4)
    assert await store.occurrences.next_due_within(InboxQuery(event_id=theirs.id), ALL) == after(minutes=2)
    assert await store.occurrences.next_due_within(ANY, within("user:eve")) is None


async def test_many_takers_at_once_never_hold_one_item_together(place: Place, clock: FakeClock) -> None:
    event = an_event()
    items = [handed_over(event, after(microseconds=position)) for position in range(60)]
    async with place.open(clock) as one, place.open(clock) as other:
        await kept(one, event, *items)
        takes = await asyncio.gather(
            *(
                node.claim_inbox(InboxQuery(limit=4), ALL, holder=f"h{taker}", actor="ada")
                for taker, node in enumerate([one, other] * 10)
            )
        )
        taken = [item.id for each in takes for item in each]
        assert len(taken) == len(set(taken))
        # A taker who met another's choice may have gone without; nothing is lost by that.
        rest = await one.claim_inbox(ANY, ALL, holder="last", actor="ada")
        assert sorted([*taken, *ids(rest)]) == sorted(ids(items))


async def test_an_item_of_an_event_deleted_meanwhile_is_not_taken(store: Store) -> None:
    event = an_event()
    await kept(store, event, handed_over(event))
    await store.commit(Changes(saves=[EventSave(event.deleted(NOON), event)]))
    assert await store.claim_inbox(ONE, ALL, holder="h", actor="ada") == []
