"""What is due, who takes it, and whose word about it counts."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from qhronos_core.domain.event import Action, ActionType, Event, EventStatus, Overlap, Policies
from qhronos_core.domain.ids import OccurrenceId, occurrence_id
from qhronos_core.domain.journal import Cursor
from qhronos_core.domain.lanes import creator_of, lane_of
from qhronos_core.domain.lifecycle import COMPLETED, DISPATCHED, DISPATCHING, FAILED, MISSED, PENDING
from qhronos_core.domain.occurrence import Attempt, AttemptOutcome, Entry, EntryKind, Held, Move
from qhronos_core.ports import Changes, Claimed, Due, EventSave, Gap, Store
from tests.adapters.store.places import Place
from tests.adapters.store.scenes import (
    LEASE,
    MINUTE,
    ScriptedJudge,
    after,
    an_event,
    an_occurrence,
    claim,
    completed,
    ended,
    finished,
    handed_over,
    ids,
    journal,
    kept,
    kinds,
    look,
    row,
)
from tests.clock import NOON, FakeClock

SKIPS = Policies(overlap=Overlap.SKIP)


def taken(looked: Claimed) -> list[OccurrenceId]:
    return [each.occurrence.id for each in looked.claims]


# --- due --------------------------------------------------------------------------------------------------


async def test_nothing_is_claimed_before_its_instant_by_the_stores_clock(store: Store, clock: FakeClock) -> None:
    event = an_event()
    planned = an_occurrence(event, after(seconds=10))
    await kept(store, event, planned)

    clock.set(after(seconds=9, milliseconds=999, microseconds=999) - timedelta(microseconds=1))
    for _ in range(2):
        assert (await look(store)).judged == 0
    clock.advance(timedelta(microseconds=1))
    assert (await look(store)).judged == 0
    clock.set(after(seconds=10))
    assert taken(await look(store)) == [planned.id]


async def test_a_claim_leases_the_row_to_the_node_under_a_grown_fence(store: Store, clock: FakeClock) -> None:
    event = an_event()
    planned = an_occurrence(event, fence=4)
    await kept(store, event, planned)
    clock.advance(seconds=3)

    looked = await look(store, node="node-1")

    (claim,) = looked.claims
    assert claim.event == event
    assert claim.occurrence == await row(store, planned)
    assert (claim.occurrence.state, claim.occurrence.fence, claim.occurrence.attempts_made) == (DISPATCHING, 5, 1)
    assert (claim.occurrence.node, claim.occurrence.lease_until) == ("node-1", clock.now() + LEASE)
    assert claim.occurrence.due_at == NOON  # where it was
    assert (looked.now, looked.judged, looked.more) == (clock.now(), 1, False)
    assert await kinds(store) == [EntryKind.OCCURRENCE_DUE]


async def test_the_earliest_due_are_taken_first_and_a_full_look_says_there_may_be_more(
    store: Store, clock: FakeClock
) -> None:
    event = an_event()
    rows = [an_occurrence(event, after(seconds=place)) for place in (3, 1, 4, 0, 2)]
    await kept(store, event, *rows)
    clock.advance(MINUTE)
    in_order = [occurrence_id(event.id, after(seconds=place)) for place in range(5)]

    first, second, third = [await look(store, limit=2) for _ in range(3)]

    assert (taken(first), first.more) == (in_order[:2], True)
    assert (taken(second), second.more) == (in_order[2:4], True)
    assert (taken(third), third.more) == (in_order[4:], False)


async def test_under_a_flood_of_one_creator_the_lanes_are_served_in_turn(store: Store, clock: FakeClock) -> None:
    """F39: what one has due delays another by a share, not by all of it."""
    flood, other = an_event(created_by="ada"), an_event(created_by="bob")
    floods = [an_occurrence(flood, after(seconds=place), lane=lane_of(flood)) for place in range(30)]
    others = [an_occurrence(other, after(minutes=1, seconds=place), lane=lane_of(other)) for place in range(3)]
    await kept(store, flood, other, *floods, *others)
    clock.advance(2 * MINUTE)

    looks = [await look(store, limit=4) for _ in range(3)]

    first, second, third = ([claim.occurrence.scheduled_at for claim in each.claims] for each in looks)
    assert first == [row.scheduled_at for row in floods[:4]]
    assert second == [row.scheduled_at for row in (*floods[4:6], *others[:2])]
    assert third == [row.scheduled_at for row in (*floods[6:8], others[2])]
    assert all(each.more for each in looks)
    rest = []
    while (found := await look(store, limit=4)).claims:
        rest += [claim.occurrence.scheduled_at for claim in found.claims]
    assert rest == [row.scheduled_at for row in floods[8:]]


async def test_under_a_flood_to_one_receiver_the_creator_s_others_are_served_in_turn(
    store: Store, clock: FakeClock
) -> None:
    """F35: what a receiver holds up delays what goes elsewhere by a share; another creator's share is not made smaller by it."""
    down, up, other = (
        an_event(created_by=creator, action=Action(ActionType.WEBHOOK, {"url": f"https://{host}.example/in?x=/"}))
        for creator, host in (("ada", "down"), ("ada", "up"), ("bob", "up"))
    )
    floods = [an_occurrence(down, after(seconds=place), lane=lane_of(down)) for place in range(40)]
    ups = [an_occurrence(up, after(minutes=1, seconds=place), lane=lane_of(up)) for place in range(10)]
    others = [an_occurrence(other, after(minutes=1, seconds=place), lane=lane_of(other)) for place in range(10)]
    await kept(store, down, up, other, *floods, *ups, *others)
    clock.advance(2 * MINUTE)

    await look(store, limit=8)
    taken = Counter(claim.event.id for claim in (await look(store, limit=8)).claims)

    assert taken == {down.id: 2, up.id: 2, other.id: 4}


async def test_creators_who_are_passed_over_keep_their_rows_and_the_others_are_served(
    store: Store, clock: FakeClock
) -> None:
    flood, other = an_event(created_by="ada"), an_event(created_by="bob")
    floods = [an_occurrence(flood, after(seconds=place), lane=lane_of(flood)) for place in range(30)]
    others = [an_occurrence(other, after(minutes=1, seconds=place), lane=lane_of(other)) for place in range(3)]
    await kept(store, flood, other, *floods, *others)
    clock.advance(2 * MINUTE)
    ada, bob = (frozenset({creator_of(lane_of(event))}) for event in (flood, other))

    two = await look(store, limit=2, without=ada)
    assert (taken(two), two.more) == ([row.id for row in others[:2]], True)
    one = await look(store, limit=2, without=ada)
    assert (taken(one), one.more) == ([others[2].id], False)
    none = await look(store, limit=2, without=ada)
    assert (none.judged, none.more) == (0, False)
    assert (await look(store, limit=2, without=ada | bob)).judged == 0
    rest = []
    while (found := await look(store, limit=20)).claims:
        rest += taken(found)
    assert rest == [row.id for row in floods]


async def test_with_fewer_places_than_lanes_each_lane_has_its_turn(store: Store, clock: FakeClock) -> None:
    events = [an_event(created_by=name) for name in ("ada", "bob", "cyd")]
    rows = [
        an_occurrence(event, after(seconds=place), lane=lane) for lane, event in enumerate(events) for place in range(4)
    ]
    await kept(store, *events, *rows)
    clock.advance(MINUTE)

    taken_of = [(await look(store, limit=1)).claims[0].occurrence.lane for _ in range(10)]

    assert sorted(Counter(taken_of[1:]).values()) == [3, 3, 3]


async def test_a_leased_row_is_left_alone_until_its_lease_has_lapsed(store: Store, clock: FakeClock) -> None:
    event = an_event()
    planned = an_occurrence(event)
    await kept(store, event, planned)
    await look(store)

    clock.advance(LEASE - timedelta(microseconds=1))
    assert (await look(store)).judged == 0
    clock.advance(timedelta(microseconds=1))
    judge = ScriptedJudge()
    (again,) = (await look(store, judge, node="other")).claims

    assert judge.asked[0].occurrence.state is DISPATCHING
    assert (again.occurrence.fence, again.occurrence.attempts_made, again.occurrence.node) == (2, 2, "other")


@pytest.mark.parametrize(
    "fields",
    [
        {"due_at": None, "held": Held.PAUSE},
        {"due_at": None, "held": Held.OVERLAP},
        {"due_at": None, "state": DISPATCHED, "inbox_at": NOON},
        {"due_at": None, "state": COMPLETED, "finished_at": NOON},
        {"lease_until": after(days=1), "state": DISPATCHING},
    ],
)
async def test_what_is_held_free_finished_or_leased_is_not_due(
    store: Store, clock: FakeClock, fields: dict[str, Any]
) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event, **fields))
    clock.advance(timedelta(hours=1))
    assert (await look(store)).judged == 0


async def test_every_row_is_judged_with_its_event_as_it_is_now(store: Store) -> None:
    event, deleted = an_event(), an_event(status=EventStatus.DELETED)
    await kept(store, event, deleted, an_occurrence(event), an_occurrence(deleted))
    changed = event.changed(NOON, name="new", status=EventStatus.PAUSED)
    await store.commit(Changes(saves=[EventSave(changed, event)]))
    judge = ScriptedJudge()

    await look(store, judge, node="node-1")

    asked = {due.event.id: due for due in judge.asked}
    assert asked[event.id].event == changed
    assert asked[deleted.id].event == deleted
    assert {(due.now, due.node, due.lease, due.gap) for due in judge.asked} == {(NOON, "node-1", LEASE, None)}


async def test_a_judgement_that_is_no_claim_is_written_and_not_handed_out(store: Store) -> None:
    event = an_event()
    planned = an_occurrence(event)
    await kept(store, event, planned)

    def miss(due: Due) -> Move:
        entry = Entry(due.now, EntryKind.OCCURRENCE_MISSED, due.event.id, due.occurrence.id, detail={"count": 3})
        return Move(due.occurrence, ended(due.occurrence, due.now, MISSED), entries=(entry,))

    looked = await look(store, ScriptedJudge(miss))

    assert (looked.claims, looked.judged) == ((), 1)
    assert (await row(store, planned)).state is MISSED
    assert [entry.detail for entry in await journal(store)] == [{"count": 3}]


async def test_a_judge_that_fails_claims_nothing_at_all(store: Store) -> None:
    event = an_event()
    rows = [an_occurrence(event, after(microseconds=place)) for place in (-1, 0)]
    await kept(store, event, *rows)

    def fails_at_the_second(due: Due) -> Move:
        if due.occurrence.id == rows[1].id:
            raise ZeroDivisionError
        return claim(due)

    with pytest.raises(ZeroDivisionError):
        await look(store, ScriptedJudge(fails_at_the_second))
    for untouched in rows:
        assert await row(store, untouched) == untouched
    assert len((await look(store)).claims) == 2


# --- successors ---------------------------------------------------------------------------------------------


def claims_and_plans(*instants: datetime, **fields: Any) -> Callable[[Due], Move]:
    def decide(due: Due) -> Move:
        planned = tuple(an_occurrence(due.event, instant, ordinal=2, **fields) for instant in instants)
        return replace(claim(due), planned=planned)

    return decide


async def test_the_successor_commits_with_the_claim(store: Store) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event))

    await look(store, ScriptedJudge(claims_and_plans(after(minutes=1))))

    planned = await store.occurrences.planned(event.id)
    assert planned == an_occurrence(event, after(minutes=1), ordinal=2)


async def test_an_instant_that_has_a_row_is_not_planned_again_but_the_next_free_one_is(store: Store) -> None:
    event = an_event()
    triggered = finished(event, after(minutes=1), FAILED)
    other = finished(event, after(minutes=2))
    await kept(store, event, an_occurrence(event), triggered, other)
    judge = ScriptedJudge(claims_and_plans(after(minutes=1)), [after(minutes=place) for place in range(1, 9)])

    await look(store, judge)

    assert judge.advanced == [after(minutes=1), after(minutes=2)]
    planned = await store.occurrences.planned(event.id)
    assert planned is not None
    assert (planned.scheduled_at, planned.ordinal) == (after(minutes=3), 4)
    assert await row(store, triggered) == triggered
    assert (await store.events.get(event.id)).status is EventStatus.ACTIVE


async def test_an_event_ends_where_no_free_instant_is_left(store: Store) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event), finished(event, after(minutes=1)))

    await look(store, ScriptedJudge(claims_and_plans(after(minutes=1)), [after(minutes=1)]))

    assert await store.occurrences.planned(event.id) is None
    assert await store.events.get(event.id) == replace(event, status=EventStatus.INACTIVE)


async def test_a_row_of_history_whose_instant_has_one_is_just_left_out(store: Store) -> None:
    event = an_event()
    there = finished(event, after(minutes=-1))
    await kept(store, event, an_occurrence(event), there)
    judge = ScriptedJudge(
        claims_and_plans(after(minutes=-1), after(minutes=-2), state=MISSED, due_at=None, advances=False)
    )

    await look(store, judge)

    assert judge.advanced == []
    assert await row(store, there) == there
    assert await store.occurrences.instants_after(event.id, after(minutes=-3)) == {
        after(minutes=-2),
        after(minutes=-1),
        NOON,
    }


async def test_ends_pauses_and_freed_rows_are_written_with_the_claim(store: Store) -> None:
    ends, pauses, frees = an_event(), an_event(), an_event(policies=Policies(overlap=Overlap.QUEUE))
    held = an_occurrence(frees, after(minutes=-9), due_at=None, held=Held.OVERLAP)
    await kept(store, ends, pauses, frees, held, *(an_occurrence(event) for event in (ends, pauses, frees)))

    def decide(due: Due) -> Move:
        return replace(
            claim(due),
            ends_event=due.event.id == ends.id,
            pauses_event="gone" if due.event.id == pauses.id else None,
            frees_queue=due.event.id == frees.id,
        )

    await look(store, ScriptedJudge(decide))

    assert (await store.events.get(ends.id)).status is EventStatus.INACTIVE
    assert (await store.events.get(pauses.id)).status is EventStatus.PAUSED
    assert ((await row(store, held)).due_at, (await row(store, held)).held) == (NOON, None)


async def test_a_row_judged_after_another_paused_its_event_sees_the_pause(store: Store) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event, after(seconds=-1)), an_occurrence(event))
    judge = ScriptedJudge(lambda due: replace(claim(due), pauses_event="gone"))

    await look(store, judge)

    assert [due.event.status for due in judge.asked] == [EventStatus.ACTIVE, EventStatus.PAUSED]


async def test_a_lost_lease_is_recorded_by_whoever_takes_over(store: Store, clock: FakeClock) -> None:
    event = an_event()
    planned = an_occurrence(event)
    await kept(store, event, planned)
    await look(store, node="dead")
    clock.advance(MINUTE)

    def take_over(due: Due) -> Move:
        was = due.occurrence
        lost = Attempt(
            was.id, was.attempts_made, was.claimed_at or NOON, due.now, AttemptOutcome.LEASE_LOST, node=was.node
        )
        return replace(claim(due), attempt=lost)

    await look(store, ScriptedJudge(take_over))

    (attempt,) = await store.occurrences.attempts(planned.id)
    assert (attempt.outcome, attempt.number, attempt.node) == (AttemptOutcome.LEASE_LOST, 1, "dead")


# --- what others of the event are about ----------------------------------------------------------------------


async def test_others_begun_and_held_are_counted_where_the_event_minds_overlap(store: Store) -> None:
    event, easy = an_event(policies=SKIPS), an_event()
    rows = []
    for each in (event, easy):
        rows += [
            an_occurrence(each),
            an_occurrence(each, after(minutes=1), state=DISPATCHING, lease_until=after(days=1)),
            an_occurrence(each, after(minutes=2), state=DISPATCHED, due_at=after(days=1)),
            handed_over(each, after(minutes=3)),
            an_occurrence(each, after(minutes=4), due_at=after(days=1), attempts_made=1),
            an_occurrence(each, after(minutes=5), due_at=after(days=1), round=2),
            an_occurrence(each, after(minutes=6), due_at=None, held=Held.PAUSE, attempts_made=1),
            an_occurrence(each, after(minutes=7), due_at=None, held=Held.OVERLAP),
            an_occurrence(each, after(minutes=8), due_at=None, held=Held.OVERLAP),
            an_occurrence(each, after(minutes=9), due_at=None, held=Held.PAUSE),
            an_occurrence(each, after(minutes=10)),
            finished(each, after(minutes=11), FAILED, attempts_made=8),
        ]
    await kept(store, event, easy, *rows)
    judge = ScriptedJudge()

    await look(store, judge)

    assert {due.event.id: (due.unfinished, due.queued) for due in judge.asked} == {event.id: (6, 2), easy.id: (0, 0)}


async def test_the_row_itself_is_not_among_the_others(store: Store, clock: FakeClock) -> None:
    event = an_event(policies=SKIPS)
    await kept(store, event, an_occurrence(event, attempts_made=2, round=2))
    judge = ScriptedJudge()
    await look(store, judge)
    clock.advance(LEASE)
    await look(store, judge)
    assert [due.unfinished for due in judge.asked] == [0, 0]


async def test_a_row_begun_earlier_in_the_same_look_counts_for_the_next(store: Store) -> None:
    event = an_event(policies=SKIPS)
    rows = [an_occurrence(event, after(seconds=-place)) for place in (3, 2, 1)]
    await kept(store, event, *rows)

    def one_at_a_time(due: Due) -> Move:
        if due.unfinished:
            return Move(due.occurrence, ended(due.occurrence, due.now, MISSED))
        return claim(due)

    judge = ScriptedJudge(one_at_a_time)
    looked = await look(store, judge)

    assert taken(looked) == [rows[0].id]
    assert [due.unfinished for due in judge.asked] == [0, 1, 1]


async def test_a_row_held_earlier_in_the_same_look_counts_as_queued(store: Store) -> None:
    event = an_event(policies=Policies(overlap=Overlap.QUEUE))
    await kept(store, event, *(an_occurrence(event, after(seconds=-place)) for place in (3, 2, 1)))

    def hold_the_rest(due: Due) -> Move:
        if due.unfinished:
            held = due.occurrence.changed(due.now, held=Held.OVERLAP, due_at=None, fence=due.occurrence.fence + 1)
            return Move(due.occurrence, held)
        return claim(due)

    judge = ScriptedJudge(hold_the_rest)
    await look(store, judge)

    assert [(due.unfinished, due.queued) for due in judge.asked] == [(0, 0), (1, 0), (1, 1)]


# --- gaps -----------------------------------------------------------------------------------------------------


async def gap_seen(store: Store, clock: FakeClock) -> Gap | None:
    """What a row due now is judged with."""
    event = an_event()
    await kept(store, event, an_occurrence(event, clock.now()))
    judge = ScriptedJudge()
    await look(store, judge)
    return next(due.gap for due in judge.asked if due.event.id == event.id)


async def test_a_new_store_has_been_looked_at_since_it_was_made(store: Store, clock: FakeClock) -> None:
    clock.advance(seconds=5)
    assert await gap_seen(store, clock) is None


async def test_a_time_in_which_nobody_looked_is_a_gap_from_the_last_look_to_the_next(
    store: Store, clock: FakeClock
) -> None:
    await look(store)
    clock.advance(seconds=5, by=timedelta(microseconds=1))
    assert await gap_seen(store, clock) == Gap(NOON, clock.now())


async def test_looking_often_enough_leaves_no_gap(store: Store, clock: FakeClock) -> None:
    for _ in range(10):
        await look(store)
        clock.advance(seconds=4)
    assert await gap_seen(store, clock) is None


async def test_an_old_gap_is_told_until_another_takes_its_place(store: Store, clock: FakeClock) -> None:
    clock.advance(seconds=60)
    first = await gap_seen(store, clock)
    assert first == Gap(NOON, after(seconds=60))
    clock.advance(seconds=3)
    assert await gap_seen(store, clock) == first
    clock.advance(seconds=60)
    assert await gap_seen(store, clock) == Gap(after(seconds=63), after(seconds=123))


async def test_a_gap_begins_where_the_last_one_did_while_rows_of_that_are_unclaimed(
    store: Store, clock: FakeClock
) -> None:
    event = an_event()
    await kept(store, event, *(an_occurrence(event, after(seconds=place)) for place in (10, 20)))
    clock.advance(seconds=60)
    judge = ScriptedJudge()
    await look(store, judge, limit=1)  # and then the node dies
    clock.advance(seconds=60)
    await look(store, judge, limit=1)

    assert [due.gap for due in judge.asked] == [
        Gap(NOON, after(seconds=60)),
        Gap(NOON, after(seconds=120)),
    ]


async def test_the_looks_of_every_node_count(place: Place, clock: FakeClock) -> None:
    async with place.open(clock) as one, place.open(clock) as other:
        for _ in range(5):
            await look(one)
            clock.advance(seconds=4)
            await look(other)
            clock.advance(seconds=1)
        assert await gap_seen(one, clock) is None


async def test_a_node_that_starts_again_finds_the_gap_it_left(place: Place, clock: FakeClock) -> None:
    async with place.open(clock) as store:
        await look(store)
    clock.advance(timedelta(hours=8))
    async with place.open(clock) as store:
        assert await gap_seen(store, clock) == Gap(NOON, clock.now())


async def test_a_clock_set_back_makes_no_gap_and_nothing_due_early(store: Store, clock: FakeClock) -> None:
    await look(store)
    clock.advance(timedelta(minutes=-10))
    event = an_event()
    await kept(store, event, an_occurrence(event))
    assert (await look(store)).judged == 0
    assert await gap_seen(store, clock) is None


# --- settling ---------------------------------------------------------------------------------------------------


async def test_settling_writes_the_outcome_its_attempt_and_its_entries(store: Store, clock: FakeClock) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event))
    (taken_,) = (await look(store)).claims
    clock.advance(seconds=1)
    move = completed(taken_.occurrence, clock.now())

    assert await store.settle([move]) == {taken_.occurrence.id}

    assert await row(store, taken_.occurrence) == move.now
    assert await store.occurrences.attempts(taken_.occurrence.id) == [move.attempt]
    assert (await journal(store))[-1] == move.entries[0]


async def test_nothing_to_settle_settles_nothing(store: Store) -> None:
    assert await store.settle([]) == frozenset()


async def test_a_zombies_outcome_changes_nothing(store: Store, clock: FakeClock) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event))
    (zombie,) = (await look(store, node="zombie")).claims
    clock.advance(LEASE)
    (heir,) = (await look(store, node="heir")).claims
    told = await journal(store)

    late = replace(completed(zombie.occurrence, clock.now()), ends_event=True, pauses_event="gone", frees_queue=True)
    assert await store.settle([late]) == frozenset()

    assert await row(store, heir.occurrence) == heir.occurrence
    assert await store.occurrences.attempts(heir.occurrence.id) == []
    assert await store.events.get(event.id) == event
    assert await journal(store) == told
    assert await store.settle([completed(heir.occurrence, clock.now())]) == {heir.occurrence.id}


async def test_an_outcome_is_written_once(store: Store) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event))
    (taken_,) = (await look(store)).claims
    move = completed(taken_.occurrence, NOON)

    assert await store.settle([move]) == {taken_.occurrence.id}
    assert await store.settle([move]) == frozenset()
    assert len(await store.occurrences.attempts(taken_.occurrence.id)) == 1


async def test_one_zombie_in_a_batch_holds_up_nobody_else(store: Store) -> None:
    event = an_event()
    rows = [an_occurrence(event, after(seconds=-place)) for place in range(250)]
    await kept(store, event, *rows)
    claims = (await look(store, limit=250)).claims
    assert len(claims) == 250
    moves = [completed(each.occurrence, NOON) for each in claims]
    stale = moves[100]
    moves[100] = replace(stale, was=replace(stale.was, fence=99))

    written = await store.settle(moves)

    assert written == {each.occurrence.id for each in claims} - {stale.was.id}
    assert (await row(store, stale.was)).state is DISPATCHING
    assert await store.occurrences.attempts(stale.was.id) == []


async def test_the_same_row_settled_twice_in_one_batch_is_settled_once(store: Store) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event))
    (taken_,) = (await look(store)).claims
    first = completed(taken_.occurrence, NOON)
    second = Move(taken_.occurrence, ended(taken_.occurrence, NOON, FAILED))

    assert await store.settle([first, second]) == {taken_.occurrence.id}
    assert await row(store, taken_.occurrence) == first.now


async def test_an_outcome_may_free_the_queue_end_and_pause_its_event(store: Store) -> None:
    event = an_event(policies=Policies(overlap=Overlap.QUEUE))
    held = an_occurrence(event, after(minutes=-1), due_at=None, held=Held.OVERLAP)
    await kept(store, event, an_occurrence(event), held)
    (taken_,) = (await look(store)).claims

    await store.settle([completed(taken_.occurrence, NOON, frees_queue=True, pauses_event="gone")])

    assert (await row(store, held)).due_at == NOON
    assert (await store.events.get(event.id)).paused_reason == "gone"


async def test_a_refused_row_is_due_again_when_its_outcome_says(store: Store, clock: FakeClock) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event))
    (taken_,) = (await look(store)).claims
    was = taken_.occurrence
    await store.settle([Move(was, was.changed(NOON, state=PENDING, lease_until=None, due_at=after(seconds=5)))])

    assert (await look(store)).judged == 0
    clock.advance(seconds=5)
    (again,) = (await look(store)).claims
    assert (again.occurrence.fence, again.occurrence.attempts_made) == (2, 2)


# --- before the send ----------------------------------------------------------------------------------------------


async def test_a_claim_is_wanted_while_its_fence_and_its_events_version_stand(store: Store, clock: FakeClock) -> None:
    kept_, edited, deleted, over = events = [an_event() for _ in range(4)]
    await kept(store, *events, *(an_occurrence(event) for event in events))
    looked = await look(store)
    claims = {each.event.id: each for each in looked.claims}
    assert await store.still_wanted(looked.claims) == {each.occurrence.id for each in looked.claims}

    changed = [EventSave(edited.changed(NOON, name="new"), edited), EventSave(deleted.deleted(NOON), deleted)]
    await store.commit(Changes(saves=changed))
    await store.settle([completed(claims[over.id].occurrence, NOON)])

    assert await store.still_wanted(looked.claims) == {claims[kept_.id].occurrence.id}
    assert await store.still_wanted([]) == frozenset()


async def test_a_claim_taken_over_is_not_wanted_any_more(store: Store, clock: FakeClock) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event))
    (lost,) = (await look(store)).claims
    clock.advance(LEASE)
    (heir,) = (await look(store)).claims
    assert await store.still_wanted([lost]) == frozenset()
    assert await store.still_wanted([lost, heir]) == {heir.occurrence.id}


async def test_a_stopped_event_wants_no_claim_made_before(store: Store) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event))
    (taken_,) = (await look(store)).claims
    assert await store.still_wanted([taken_]) == {taken_.occurrence.id}

    paused = event.changed(NOON, status=EventStatus.PAUSED, paused_at=NOON)
    await store.commit(Changes(saves=[EventSave(paused, event)]))

    assert await store.still_wanted([taken_]) == frozenset()


async def test_an_event_that_merely_ended_still_wants_its_last_claim(store: Store) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event))
    (taken_,) = (await look(store, ScriptedJudge(lambda due: replace(claim(due), ends_event=True)))).claims
    assert await store.still_wanted([taken_]) == {taken_.occurrence.id}


async def test_a_run_asked_for_while_paused_is_wanted(store: Store) -> None:
    event = an_event(status=EventStatus.PAUSED, paused_at=after(minutes=-2))
    before, asked_for = (
        an_occurrence(event, after(minutes=-place), round_began_at=after(minutes=-place), advances=False)
        for place in (3, 1)
    )
    await kept(store, event, before, asked_for)
    claims = (await look(store)).claims
    assert await store.still_wanted(claims) == {asked_for.id}


# --- when to look next ----------------------------------------------------------------------------------------------


async def test_the_next_look_is_at_the_earliest_due_or_lapsing_row(store: Store, clock: FakeClock) -> None:
    assert await store.occurrences.next_due() is None
    event = an_event()
    await kept(store, event, an_occurrence(event, after(minutes=5)), finished(event, after(minutes=-5)))
    assert await store.occurrences.next_due() == after(minutes=5)
    await kept(store, an_occurrence(event))
    assert await store.occurrences.next_due() == NOON

    await look(store)
    assert await store.occurrences.next_due() == NOON + LEASE
    clock.advance(LEASE)
    assert await store.occurrences.next_due() == NOON  # lapsed: due where it was


async def test_a_lease_that_lapses_after_another_row_is_due_does_not_delay_it(store: Store) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event), an_occurrence(event, after(seconds=30)))
    await look(store)
    assert await store.occurrences.next_due() == after(seconds=30)


async def test_the_sooner_of_two_lapsing_leases_comes_first(store: Store, clock: FakeClock) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event), an_occurrence(event, after(seconds=-1)))
    await store.claim_due(node="n", lease=timedelta(minutes=5), limit=1, judge=ScriptedJudge())
    clock.advance(seconds=1)
    await store.claim_due(node="n", lease=timedelta(minutes=1), limit=1, judge=ScriptedJudge())
    assert await store.occurrences.next_due() == after(seconds=61)


async def test_an_item_in_the_inbox_is_looked_at_only_if_it_expires(store: Store) -> None:
    event = an_event()
    await kept(store, event, handed_over(event))
    assert await store.occurrences.next_due() is None
    await kept(store, handed_over(event, after(seconds=1), due_at=after(hours=1)))
    assert await store.occurrences.next_due() == after(hours=1)


async def test_the_backlog_is_what_is_due_and_unleased(store: Store, clock: FakeClock) -> None:
    assert await store.occurrences.backlog() == (0, None)
    event = an_event()
    await kept(store, event, *(an_occurrence(event, after(seconds=place)) for place in (-2, -1, 0, 1)))
    assert await store.occurrences.backlog() == (3, after(seconds=-2))
    await look(store, limit=1)
    assert await store.occurrences.backlog() == (2, after(seconds=-1))
    clock.advance(LEASE)
    assert await store.occurrences.backlog() == (4, after(seconds=-2))


# --- many at once ---------------------------------------------------------------------------------------------------


async def test_looks_at_the_same_time_from_two_nodes_take_each_row_once(place: Place, clock: FakeClock) -> None:
    event = an_event()
    rows = [an_occurrence(event, after(microseconds=-position)) for position in range(200)]
    async with place.open(clock) as one, place.open(clock) as other:
        await kept(one, event, *rows)
        looks = await asyncio.gather(*(look(node, limit=15) for _ in range(12) for node in (one, other)))

    claimed_ids = [claim_.occurrence.id for looked in looks for claim_ in looked.claims]
    assert len(claimed_ids) == len(set(claimed_ids))
    assert sorted(claimed_ids) == sorted(ids(rows))


async def test_a_claim_and_a_stop_at_the_same_time_leave_no_claim_of_the_old_version_behind(
    place: Place, clock: FakeClock
) -> None:
    async with place.open(clock) as one, place.open(clock) as other:
        for _ in range(30):
            event = an_event()
            await kept(one, event, an_occurrence(event))
            stopped = event.deleted(NOON)

            async def stop(event: Event = event, stopped: Event = stopped) -> Cursor:
                await other.commit(Changes(saves=[EventSave(stopped, event)]))
                return await other.journal.end()

            looked, stopped_at = await asyncio.gather(look(one), stop())
            # A claim under the old version committed before the stop was answered, so its entry lies before it.
            for each in looked.claims:
                if each.event.version == event.version:
                    page = await one.journal.after(stopped_at, limit=100)
                    assert each.occurrence.id not in {line.entry.occurrence_id for line in page.lines}
            await one.settle([completed(each.occurrence, NOON) for each in looked.claims])


async def test_of_two_who_settle_one_claim_exactly_one_is_written(place: Place, clock: FakeClock) -> None:
    async with place.open(clock) as one, place.open(clock) as other:
        for _ in range(20):
            event = an_event()
            await kept(one, event, an_occurrence(event))
            (taken_,) = (await look(one)).claims
            outcomes = await asyncio.gather(
                *(node.settle([completed(taken_.occurrence, NOON)]) for node in (one, other))
            )
            assert sorted(map(len, outcomes)) == [0, 1]
            assert len(await one.occurrences.attempts(taken_.occurrence.id)) == 1
