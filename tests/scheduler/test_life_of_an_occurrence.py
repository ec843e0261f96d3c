"""From due to the last word, on the real store, with a clock that moves when told."""

from datetime import timedelta

import pytest

from qhronos_core.domain.errors import AlreadySettledError, NotFinishedError
from qhronos_core.domain.event import Event, EventStatus
from qhronos_core.domain.ids import EventId, occurrence_id
from qhronos_core.domain.lifecycle import CANCELLED, COMPLETED, DISPATCHED, DISPATCHING, FAILED, MISSED, PENDING
from qhronos_core.domain.occurrence import AttemptOutcome, Reason
from qhronos_core.ports import InboxQuery, OccurrenceQuery
from qhronos_core.usecases.occurrences import RETRY_MANY_LIMIT
from tests.world import ACCEPT, GONE, NO_ANSWER, NOON, OWNER, REFUSE, World


async def test_nothing_is_sent_before_its_instant(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)
    world.clock.set(NOON - timedelta(microseconds=1))

    assert await world.run() == 0
    assert world.courier.deliveries == []

    world.clock.set(NOON)
    assert await world.run() == 1
    assert await world.state_of(occurrence) is COMPLETED


async def test_the_id_is_derived_from_the_event_and_the_instant(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)
    assert occurrence.id == occurrence_id(occurrence.event_id, NOON)


async def test_a_refused_occurrence_is_tried_again_after_the_first_wait(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)
    world.courier.will(REFUSE, ACCEPT)

    await world.run()
    assert await world.state_of(occurrence) is PENDING
    world.clock.advance(seconds=4)
    assert await world.run() == 0
    world.clock.advance(seconds=1)
    await world.run()

    assert await world.state_of(occurrence) is COMPLETED
    assert await world.attempt_times(occurrence) == [NOON, NOON + timedelta(seconds=5)]
    assert {delivery.occurrence.id for delivery in world.courier.deliveries} == {occurrence.id}


async def test_after_the_last_attempt_it_is_failed_and_open_to_retry_with_the_same_id(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON, retry={"max_attempts": 2, "delays": ["10s"]})
    world.courier.will(REFUSE, NO_ANSWER, ACCEPT)
    await world.run()
    world.clock.advance(seconds=10)
    await world.run()

    row = await world.read(occurrence)
    assert (row.state, row.reason, row.attempts_made) == (FAILED, Reason.EXHAUSTED, 2)

    again = await world.occurrences.retry(row.id, caller=OWNER)
    assert again.occurrence.state is PENDING
    assert again.occurrence.id == occurrence.id
    await world.run()
    assert await world.state_of(occurrence) is COMPLETED
    assert [attempt.number for attempt in await world.attempts(occurrence)] == [1, 2, 3]
    with pytest.raises(NotFinishedError):
        await world.occurrences.retry(row.id, caller=OWNER)


async def test_a_gone_receiver_fails_it_and_pauses_the_event_visibly(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)
    world.courier.will(GONE)
    await world.run()

    row = await world.read(occurrence)
    event = await world.store.events.get(row.event_id)
    assert (row.state, row.reason) == (FAILED, Reason.GONE)
    assert (event.status, event.paused_reason) == (EventStatus.PAUSED, "gone")  # though it has no instant left


async def test_a_recurring_event_whose_receiver_is_gone_is_paused_with_that_reason(world: World) -> None:
    answer = await world.event(schedule="every 10m")
    world.courier.will(GONE)
    world.clock.advance(timedelta(minutes=10))
    await world.run()

    event = await world.store.events.get(answer.event.id)
    assert (event.status, event.paused_reason) == (EventStatus.PAUSED, "gone")
    world.clock.advance(timedelta(hours=1))
    await world.settle_down()
    assert len(world.courier.deliveries) == 1


async def test_once_its_receiver_is_gone_earlier_occurrences_of_an_ended_event_are_not_sent_either(
    world: World,
) -> None:
    retry = {"max_attempts": 2, "delays": ["1h"]}
    answer = await world.event(schedule="every 10m", max_occurrences=2, retry=retry)
    world.courier.will(REFUSE, GONE)
    for _ in range(2):  # after the second there is none
        world.clock.advance(timedelta(minutes=10))
        await world.run()
    world.clock.advance(timedelta(days=1))
    await world.settle_down()

    assert (await world.store.events.get(answer.event.id)).paused_reason == "gone"
    assert len(world.courier.deliveries) == 2


async def test_a_recurring_event_goes_on_and_each_claim_plans_the_next(world: World) -> None:
    answer = await world.event(schedule="*/10 * * * *")
    for _ in range(3):
        world.clock.advance(timedelta(minutes=10))
        assert await world.run() == 1

    rows = await world.occurrences_of(answer.event)
    states = [row.state for row in rows]
    assert states == [COMPLETED] * 3 + [PENDING]
    assert [row.advances for row in rows if row.state is PENDING] == [True]


async def test_a_worker_that_dies_loses_nothing_and_its_attempt_is_recorded_as_lost(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)
    judge = world.judge
    claimed = await world.store.claim_due(node="dead", lease=timedelta(minutes=1), limit=10, judge=judge)
    assert [claim.occurrence.id for claim in claimed.claims] == [occurrence.id]
    assert await world.state_of(occurrence) is DISPATCHING

    world.clock.advance(timedelta(seconds=59))
    assert await world.run() == 0
    world.clock.advance(timedelta(seconds=1))
    await world.run()

    assert await world.state_of(occurrence) is COMPLETED
    lost, sent = await world.attempts(occurrence)
    assert (lost.outcome, lost.node, lost.number) == (AttemptOutcome.LEASE_LOST, "dead", 1)
    assert (sent.outcome, sent.number) == (AttemptOutcome.ACCEPTED, 2)


async def test_an_occurrence_that_kills_its_workers_ends_failed_with_a_reason(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON, retry={"max_attempts": 3, "delays": ["1s"]})
    for _ in range(4):
        await world.store.claim_due(node="dies", lease=timedelta(minutes=1), limit=10, judge=world.judge)
        world.clock.advance(timedelta(minutes=1))

    row = await world.read(occurrence)
    assert (row.state, row.reason, row.attempts_made) == (FAILED, Reason.EXHAUSTED, 3)


async def test_a_zombies_outcome_changes_nothing(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)
    from qhronos_core.domain import judgement

    claim = (await world.store.claim_due(node="slow", lease=timedelta(seconds=5), limit=1, judge=world.judge)).claims[0]
    world.clock.advance(seconds=5)
    await world.run()
    before = await world.read(occurrence)
    late = judgement.settled(claim.event, claim.occurrence, REFUSE, at=world.clock.now(), node="slow")

    assert await world.store.settle([late]) == frozenset()
    assert await world.read(occurrence) == before
    assert len(await world.attempts(occurrence)) == 2


async def test_expired_before_it_began_is_missed_and_expired_between_attempts_is_failed(world: World) -> None:
    late = await world.occurrence(scheduled_at=NOON, expires_after="10m")
    world.clock.advance(timedelta(minutes=10))
    await world.run()
    row = await world.read(late)
    assert (row.state, row.reason) == (MISSED, Reason.EXPIRED)

    begun = await world.occurrence(scheduled_at=NOON + timedelta(hours=1), expires_after="1m")
    world.courier.will(REFUSE, REFUSE)
    await world.run()
    world.clock.advance(timedelta(seconds=5))
    await world.run()
    world.clock.advance(timedelta(minutes=10))
    await world.run()
    row = await world.read(begun)
    assert (row.state, row.reason) == (FAILED, Reason.EXPIRED)


# --- acknowledgements ---------------------------------------------------------------------------------


async def test_an_inbox_occurrence_waits_claimed_under_a_lease_and_is_acknowledged(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON, action={"type": "inbox"})
    await world.run()
    assert await world.state_of(occurrence) is DISPATCHED

    (taken,) = await world.occurrences.claim_inbox(InboxQuery(limit=5), caller=OWNER)
    assert taken.occurrence.id == occurrence.id
    assert await world.occurrences.claim_inbox(InboxQuery(limit=5), caller=OWNER) == ()
    done = await world.occurrences.acknowledge(occurrence.id, "done", caller=OWNER, note="read")

    assert (done.occurrence.state, done.occurrence.note) == (COMPLETED, "read")
    same = await world.occurrences.acknowledge(occurrence.id, "done", caller=OWNER)
    assert same.occurrence.state is COMPLETED
    with pytest.raises(AlreadySettledError):
        await world.occurrences.acknowledge(occurrence.id, "failed", caller=OWNER)


async def test_an_agent_that_dies_gives_its_inbox_item_back_after_the_lease(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON, action={"type": "inbox"}, ack_timeout="1m")
    await world.run()
    await world.occurrences.claim_inbox(InboxQuery(), caller=OWNER)
    world.clock.advance(timedelta(minutes=1))
    await world.run()

    assert await world.state_of(occurrence) is DISPATCHED
    (again,) = await world.occurrences.claim_inbox(InboxQuery(), caller=OWNER)
    assert again.occurrence.id == occurrence.id
    assert await world.attempts(occurrence) == []


async def test_later_offers_it_again_after_the_delay(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON, action={"type": "inbox"})
    await world.run()
    await world.occurrences.claim_inbox(InboxQuery(), caller=OWNER)
    await world.occurrences.acknowledge(occurrence.id, "later", caller=OWNER, delay="20m")
    assert await world.state_of(occurrence) is PENDING

    world.clock.advance(timedelta(minutes=20))
    await world.run()
    (again,) = await world.occurrences.claim_inbox(InboxQuery(), caller=OWNER)
    assert again.occurrence.id == occurrence.id


async def test_a_webhook_that_asks_an_acknowledgement_is_not_done_by_a_2xx(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON, ack="required", ack_timeout="1m")
    await world.run()
    assert await world.state_of(occurrence) is DISPATCHED

    world.clock.advance(timedelta(minutes=1))
    await world.run()
    assert await world.state_of(occurrence) is PENDING
    world.clock.advance(timedelta(seconds=5))
    await world.run()
    assert len(world.courier.deliveries) == 2

    await world.occurrences.acknowledge(occurrence.id, "done", caller=OWNER)
    assert await world.state_of(occurrence) is COMPLETED


async def test_an_acknowledgement_that_is_faster_than_the_receivers_answer_has_the_last_word(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)

    async def acknowledged_meanwhile(_: object) -> object:
        await world.occurrences.acknowledge(occurrence.id, "done", caller=OWNER)
        return REFUSE

    world.courier.will(acknowledged_meanwhile)
    await world.run()

    assert await world.state_of(occurrence) is COMPLETED
    assert [attempt.outcome for attempt in await world.attempts(occurrence)] == [AttemptOutcome.ACCEPTED]


# --- stopping -----------------------------------------------------------------------------------------


async def test_a_deleted_event_sends_nothing_more_and_its_rows_say_so(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)
    await world.events.delete(occurrence.event_id, caller=OWNER)
    await world.run()

    row = await world.read(occurrence)
    assert (row.state, row.reason) == (CANCELLED, Reason.DELETED)
    assert world.courier.deliveries == []


async def test_deleted_while_its_attempt_is_under_way_it_ends_cancelled_if_refused(world: World) -> None:
    """At once, however long the wait before another attempt would have been."""
    occurrence = await world.occurrence(scheduled_at=NOON, retry={"delays": ["30d"]})

    async def deleted_meanwhile(_: object) -> object:
        await world.events.delete(occurrence.event_id, caller=OWNER)
        return REFUSE

    world.courier.will(deleted_meanwhile)
    await world.settle_down()
    assert await world.state_of(occurrence) is CANCELLED
    assert len(world.courier.deliveries) == 1


async def test_a_paused_event_sends_nothing_at_its_instant_and_resuming_never_fires_the_past(world: World) -> None:
    answer = await world.event(schedule="0 * * * *")
    await world.events.update(answer.event.id, {"status": "paused"}, caller=OWNER)
    world.clock.advance(timedelta(hours=2, minutes=30))
    await world.settle_down()
    assert world.courier.deliveries == []
    (row,) = await world.occurrences_of(answer.event)
    assert (row.state, row.reason) == (CANCELLED, Reason.PAUSED)

    resumed = await world.events.update(answer.event.id, {"status": "active"}, caller=OWNER)
    assert resumed.next_run_at is not None
    assert resumed.next_run_at > world.clock.now()
    await world.settle_down()
    assert world.courier.deliveries == []
    world.clock.set(resumed.next_run_at)
    await world.run()
    assert len(world.courier.deliveries) == 1


async def test_between_attempts_a_pause_holds_it_and_resuming_lets_it_go_on(world: World) -> None:
    answer = await world.event(schedule="0 * * * *")
    world.courier.will(REFUSE)
    world.clock.set(NOON - timedelta(hours=2))
    await world.run()
    await world.events.update(answer.event.id, {"status": "paused"}, caller=OWNER)
    world.clock.advance(timedelta(minutes=10))
    await world.settle_down()
    assert len(world.courier.deliveries) == 1

    await world.events.update(answer.event.id, {"status": "active"}, caller=OWNER)
    await world.settle_down()
    assert len(world.courier.deliveries) == 2


async def test_trigger_runs_a_paused_event_now_and_moves_nothing(world: World) -> None:
    answer = await world.event(schedule="0 * * * *")
    await world.events.update(answer.event.id, {"status": "paused"}, caller=OWNER)
    world.clock.advance(seconds=1)
    first = await world.events.trigger(answer.event.id, caller=OWNER)
    second = await world.events.trigger(answer.event.id, caller=OWNER)
    assert first.occurrence.id != second.occurrence.id
    await world.settle_down()
    assert len(world.courier.deliveries) == 2


async def test_an_event_paused_until_an_instant_resumes_by_itself(world: World) -> None:
    answer = await world.event(schedule="0 * * * *")
    until = world.clock.now() + timedelta(minutes=90)
    await world.events.update(answer.event.id, {"paused_until": until.isoformat()}, caller=OWNER)
    assert await world.events.resume_due() == until
    world.clock.set(until)
    assert await world.events.resume_due() is None
    event = await world.store.events.get(answer.event.id)
    assert event.status is EventStatus.ACTIVE
    assert event.paused_until is None


async def test_what_deleted_events_left_behind_does_not_keep_the_rest_from_being_sent_again(world: World) -> None:
    failed = await world.occurrence(retry={"max_attempts": 1})
    world.courier.will(REFUSE)
    await world.run()
    deleted = await world.event(schedule="* * * * *", catch_up="none")
    world.clock.advance(timedelta(minutes=RETRY_MANY_LIMIT + 10))
    await world.settle_down()
    await world.events.delete(deleted.event.id, caller=OWNER)

    would = await world.occurrences.retry_matching(OccurrenceQuery(), caller=OWNER, dry_run=True)
    sent = await world.occurrences.retry_matching(OccurrenceQuery(), caller=OWNER)
    assert [each.occurrence.id for each in would] == [each.occurrence.id for each in sent] == [failed.id]


@pytest.mark.parametrize("looks_first", [True, False])
async def test_a_run_at_the_very_end_of_a_pause_is_made(world: World, looks_first: bool) -> None:
    """Paused until noon, it has a run at noon: whether it is looked at a moment before or after the pause is lifted."""
    answer = await world.event(schedule="0 12 * * *")
    await world.events.update(answer.event.id, {"paused_until": NOON.isoformat()}, caller=OWNER)
    world.clock.set(NOON)
    if looks_first:
        await world.settle_down()
    await world.events.resume_due()
    world.clock.advance(seconds=1)
    await world.settle_down()
    assert [delivery.occurrence.scheduled_at for delivery in world.courier.deliveries] == [NOON]


async def test_a_pause_that_is_lifted_late_loses_no_run_after_its_end(world: World) -> None:
    answer = await world.event(schedule="*/10 * * * *")
    until = NOON + timedelta(minutes=5)
    world.clock.set(NOON - timedelta(minutes=5))
    await world.events.update(answer.event.id, {"paused_until": until.isoformat()}, caller=OWNER)
    await world.settle_down()
    world.clock.set(until + timedelta(minutes=20))
    await world.events.resume_due()
    await world.settle_down()
    _, first, second, *_ = await world.occurrences_of(answer.event)
    assert (first.scheduled_at, first.state, first.reason) == (until + timedelta(minutes=5), MISSED, Reason.COALESCED)
    assert (second.scheduled_at, second.state) == (until + timedelta(minutes=15), COMPLETED)


async def test_an_event_that_cannot_be_resumed_holds_up_neither_others_nor_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = world.clock.now() + timedelta(minutes=90)
    broken, other = [(await world.event(schedule="0 * * * *", paused_until=until.isoformat())).event for _ in range(2)]
    get = world.store.events.get

    async def crashes(event_id: EventId) -> Event:
        if event_id == broken.id:
            raise RuntimeError("a bug")
        return await get(event_id)

    monkeypatch.setattr(world.store.events, "get", crashes)
    world.clock.set(until)
    assert await world.events.resume_due() is None  # not the past: the loop would look again without a pause
    assert (await get(other.id)).status is EventStatus.ACTIVE
