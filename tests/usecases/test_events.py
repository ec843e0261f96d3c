"""What can be asked of an event, and what it means for its planned row."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from qhronos_core.domain.access import Access, Principal
from qhronos_core.domain.errors import (
    EventNotFoundError,
    ForbiddenError,
    InvalidInputError,
    KeyTakenError,
    NoNextRunError,
    QuotaExceededError,
)
from qhronos_core.domain.event import EventStatus
from qhronos_core.domain.lifecycle import CANCELLED, PENDING
from qhronos_core.domain.occurrence import Reason
from qhronos_core.usecases.events import ChainTooLongError, EventAnswer, EventCases, EventRules
from tests.world import NOON, OWNER, PLAIN_KEEPER, World, anywhere

WRITER = Principal("ann", Access.WRITE, frozenset({"user:ann"}), holder="ann-1")
OTHER = Principal("bob", Access.WRITE, frozenset({"user:bob"}), holder="bob-1")
READER = Principal("ann", Access.READ, frozenset({"user:ann"}), holder="ann-2")


async def test_creating_writes_the_event_its_one_planned_row_and_its_entry(world: World) -> None:
    answer = await world.event(schedule="0 9 * * *", timezone="Europe/Paris")
    assert answer.result == "created"
    (row,) = await world.occurrences_of(answer.event)
    assert row.advances
    assert answer.next_run_at == row.scheduled_at
    assert await world.journal() == ["event.created"]


async def test_a_dry_run_answers_the_same_and_keeps_nothing(world: World) -> None:
    fields = {"name": "n", "schedule": "0 9 * * *"}
    dry = await world.events.create(fields, caller=OWNER, dry_run=True)
    real = await world.events.create(fields, caller=OWNER)
    assert dry.result == "preview"
    assert [run.at for run in dry.next_runs] == [run.at for run in real.next_runs]
    with pytest.raises(EventNotFoundError):
        await world.events.get(dry.event.id, caller=OWNER)


async def test_the_same_key_again_is_unchanged_other_content_is_an_update(world: World) -> None:
    first = await world.event(key="daily", schedule="0 9 * * *")
    same = await world.event(key="daily", schedule="0 9 * * *")
    other = await world.event(key="daily", schedule="0 10 * * *")
    assert (first.result, same.result, other.result) == ("created", "unchanged", "updated")
    assert first.event.id == same.event.id == other.event.id
    assert other.event.version == first.event.version + 1
    assert len(await world.occurrences_of(first.event)) == 1


async def test_a_relative_schedule_with_a_key_is_unchanged_while_pending(world: World) -> None:
    first = await world.event(key="soon", schedule="in 2 hours")
    world.clock.advance(timedelta(minutes=5))
    again = await world.event(key="soon", schedule="in 2 hours")
    assert again.result == "unchanged"
    assert again.next_run_at == first.next_run_at


async def test_deleting_frees_the_key(world: World) -> None:
    first = await world.event(key="k")
    await world.events.delete("k", caller=OWNER)
    again = await world.event(key="k")
    assert again.result == "created"
    assert again.event.id != first.event.id


async def test_fifty_equal_creates_at_once_make_one_event(world: World) -> None:
    answers = await asyncio.gather(*[world.event(key="once", schedule="0 9 * * *") for _ in range(50)])
    assert len({answer.event.id for answer in answers}) == 1
    assert [answer.result for answer in answers].count("created") == 1


async def test_a_key_held_out_of_reach_is_taken_and_no_more_is_told(world: World) -> None:
    await world.event(caller=WRITER, key="mine")
    stranger = Principal("ann", Access.WRITE, frozenset({"user:else"}), holder="x")
    with pytest.raises(KeyTakenError):
        await world.event(caller=stranger, key="mine")


async def test_what_is_out_of_reach_reads_like_what_is_absent(world: World) -> None:
    answer = await world.event(caller=WRITER)
    with pytest.raises(EventNotFoundError) as hidden:
        await world.events.get(answer.event.id, caller=OTHER)
    assert str(hidden.value) == str(EventNotFoundError())
    with pytest.raises(ForbiddenError):
        await world.events.update(answer.event.id, {"name": "x"}, caller=READER)
    assert "access.refused" in await world.journal()


# --- edits --------------------------------------------------------------------------------------------


async def test_an_edit_of_the_rule_withdraws_the_planned_row_and_plans_anew(world: World) -> None:
    answer = await world.event(schedule="0 * * * *")
    changed = await world.events.update(answer.event.id, {"schedule": "30 * * * *"}, caller=OWNER)
    (row,) = await world.occurrences_of(answer.event)
    assert row.scheduled_at == changed.next_run_at
    assert row.scheduled_at.minute == 30
    assert "occurrence.withdrawn" in await world.journal()


async def test_an_edit_to_the_same_instant_keeps_the_row(world: World) -> None:
    answer = await world.event(schedule="0 12 * * *")
    (before,) = await world.occurrences_of(answer.event)
    await world.events.update(answer.event.id, {"schedule": "0 12 * * *", "timezone": "UTC"}, caller=OWNER)
    await world.events.update(answer.event.id, {"schedule": "0 12 * * MON-SUN"}, caller=OWNER)
    (after,) = await world.occurrences_of(answer.event)
    assert after.id == before.id
    assert after.created_at == before.created_at


async def test_a_row_due_and_not_begun_is_cancelled_by_an_edit(world: World) -> None:
    answer = await world.event(schedule="0 * * * *")
    world.clock.set(NOON - timedelta(hours=2))
    await world.events.update(answer.event.id, {"schedule": "30 * * * *"}, caller=OWNER)
    rows = await world.occurrences_of(answer.event)
    assert [(row.state, row.reason) for row in rows] == [(CANCELLED, Reason.REPLANNED), (PENDING, None)]
    await world.settle_down()
    assert world.courier.deliveries == []


async def test_a_change_of_name_leaves_the_plan_alone(world: World) -> None:
    answer = await world.event(schedule="every 7m")
    rows = await world.occurrences_of(answer.event)
    changed = await world.events.update(answer.event.id, {"name": "another"}, caller=OWNER)
    assert changed.event.anchor_at == answer.event.anchor_at
    assert await world.occurrences_of(answer.event) == rows


async def test_a_put_without_a_change_touches_nothing(world: World) -> None:
    answer = await world.event()
    world.clock.advance(seconds=30)
    same = await world.events.update(answer.event.id, {"name": answer.event.name}, caller=OWNER)
    assert same.result == "unchanged"
    assert same.event == answer.event


async def test_editors_of_different_fields_both_keep_their_change(world: World) -> None:
    answer = await world.event()
    await asyncio.gather(
        *[
            world.events.update(answer.event.id, {field: f"new {field}"}, caller=OWNER)
            for field in ("name", "description")
        ],
        *[world.events.update(answer.event.id, {"metadata": {"n": 1}}, caller=OWNER) for _ in range(3)],
    )
    event = await world.store.events.get(answer.event.id)
    assert (event.name, event.description, dict(event.metadata)) == ("new name", "new description", {"n": 1})


async def test_an_inactive_event_with_a_new_rule_is_active_again(world: World) -> None:
    answer = await world.event(schedule="in 10m")
    world.clock.advance(timedelta(minutes=10))
    await world.settle_down()
    assert (await world.store.events.get(answer.event.id)).status is EventStatus.INACTIVE
    changed = await world.events.update(answer.event.id, {"schedule": "in 20m"}, caller=OWNER)
    assert changed.event.status is EventStatus.ACTIVE
    world.clock.advance(timedelta(minutes=20))
    await world.settle_down()
    assert len(world.courier.deliveries) == 2


async def test_editing_a_paused_event_leaves_it_paused_and_sends_nothing(world: World) -> None:
    answer = await world.event(schedule="0 * * * *")
    await world.events.update(answer.event.id, {"status": "paused"}, caller=OWNER)
    changed = await world.events.update(answer.event.id, {"schedule": "*/5 * * * *"}, caller=OWNER)
    assert changed.event.status is EventStatus.PAUSED
    world.clock.advance(timedelta(hours=2))
    await world.settle_down()
    assert world.courier.deliveries == []


# --- verbs --------------------------------------------------------------------------------------------


async def test_skip_next_cancels_the_next_run_and_plans_the_one_after(world: World) -> None:
    answer = await world.event(schedule="0 * * * *")
    skipped = await world.events.update(answer.event.id, {"skip_next": True}, caller=OWNER)
    rows = await world.occurrences_of(answer.event)
    assert [(row.state, row.reason) for row in rows] == [(CANCELLED, Reason.SKIPPED), (PENDING, None)]
    assert skipped.skipped_at == answer.next_run_at
    assert skipped.next_run_at == rows[1].scheduled_at


async def test_a_skipped_instant_is_never_planned_again(world: World) -> None:
    answer = await world.event(schedule="0 * * * *")
    await world.events.update(answer.event.id, {"skip_next": True}, caller=OWNER)
    changed = await world.events.update(answer.event.id, {"schedule": "0,30 * * * *"}, caller=OWNER)
    assert answer.next_run_at is not None
    assert changed.next_run_at == answer.next_run_at - timedelta(minutes=30)
    world.clock.set(changed.next_run_at)
    await world.settle_down()
    planned = await world.store.occurrences.planned(answer.event.id)
    assert planned is not None
    assert planned.scheduled_at == answer.next_run_at + timedelta(minutes=30)


async def test_snooze_moves_the_run_later_and_keeps_its_instant_and_id(world: World) -> None:
    answer = await world.event(schedule="0 * * * *")
    (before,) = await world.occurrences_of(answer.event)
    snoozed = await world.events.update(answer.event.id, {"snooze": "20m"}, caller=OWNER)
    (row,) = await world.occurrences_of(answer.event)
    assert (row.id, row.scheduled_at) == (before.id, before.scheduled_at)
    assert row.due_at == before.scheduled_at + timedelta(minutes=20)
    assert snoozed.next_run_at == row.due_at
    with pytest.raises(InvalidInputError):
        await world.events.update(answer.event.id, {"snooze": "2h"}, caller=OWNER)


@pytest.mark.parametrize("schedule", ["every 5m", "every 1h", "@daily", "in 2h"])
@pytest.mark.parametrize("asked", ["soon", "15", "P1M", "-5m", "400d", "99999d", "2026-01-01", "2001-01-01T00:00:00Z"])
async def test_each_snooze_offered_for_one_that_is_refused_is_accepted(world: World, schedule: str, asked: str) -> None:
    answer = await world.events.create({"name": "n", "schedule": schedule}, caller=OWNER)
    with pytest.raises(InvalidInputError) as refused:
        await world.events.update(answer.event.id, {"snooze": asked}, caller=OWNER)
    assert refused.value.faults[0].fix
    for fix in refused.value.faults[0].fix:
        await world.events.update(answer.event.id, fix, caller=OWNER, dry_run=True)


async def test_a_run_snoozed_as_far_as_it_goes_is_offered_no_snooze_that_would_be_refused_again(world: World) -> None:
    answer = await world.events.create({"name": "n", "schedule": "every 1h"}, caller=OWNER)
    await world.events.update(answer.event.id, {"snooze": "1h"}, caller=OWNER)
    with pytest.raises(InvalidInputError) as refused:
        await world.events.update(answer.event.id, {"snooze": "5m"}, caller=OWNER)
    assert refused.value.faults[0].fix == ()


@pytest.mark.parametrize("asked", [{}, {"snooze": "20m"}, {"skip_next": True}])
async def test_a_run_that_an_edit_keeps_counts_anew_and_may_be_snoozed_or_skipped_in_the_same_request(
    world: World, asked: dict[str, Any]
) -> None:
    event = (await world.event(schedule="0 * * * *")).event
    world.clock.advance(timedelta(hours=1))
    await world.settle_down()  # the next is the second of the rule, and will be the first of the new one
    planned = await world.store.occurrences.planned(event.id)
    assert planned is not None
    edited = await world.events.update(event.id, {"schedule": "0 * * * 0-6", **asked}, caller=OWNER)
    assert edited.result == "updated"
    row = await world.read(planned)
    assert row.ordinal == 1
    if "skip_next" not in asked:
        assert row.due_at == planned.scheduled_at + timedelta(minutes=20 if asked else 0)
        return
    assert (row.state, row.reason) == (CANCELLED, Reason.SKIPPED)
    following = await world.store.occurrences.planned(event.id)
    assert following is not None
    assert (following.scheduled_at, following.ordinal) == (planned.scheduled_at + timedelta(hours=1), 2)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_new_rule_counts_anew_also_where_it_was_given_while_paused(world: World, at_once: bool) -> None:
    event = (await world.event(schedule="0 * * * *", max_occurrences=3)).event
    for _ in range(2):
        world.clock.advance(timedelta(hours=1))
        await world.settle_down()
    world.clock.advance(timedelta(minutes=1))
    await world.events.update(event.id, {"status": "paused"}, caller=OWNER)
    changes: list[dict[str, Any]] = [{"schedule": "30 * * * *"}, {"status": "active"}]
    for change in [changes[0] | changes[1]] if at_once else changes:
        resumed = await world.events.update(event.id, change, caller=OWNER)
    assert len(resumed.next_runs) == 3
    planned = await world.store.occurrences.planned(event.id)
    assert planned is not None
    assert planned.ordinal == 1


async def test_there_is_nothing_to_skip_on_a_finished_event(world: World) -> None:
    answer = await world.event(schedule="in 10m")
    world.clock.advance(timedelta(minutes=10))
    await world.settle_down()
    with pytest.raises(NoNextRunError):
        await world.events.update(answer.event.id, {"skip_next": True}, caller=OWNER)


async def test_a_once_only_event_whose_instant_passed_while_paused_ends_and_says_so(world: World) -> None:
    answer = await world.event(schedule="in 10m")
    await world.events.update(answer.event.id, {"status": "paused"}, caller=OWNER)
    world.clock.advance(timedelta(minutes=20))
    await world.settle_down()
    resumed = await world.events.update(answer.event.id, {"status": "active"}, caller=OWNER)
    (row,) = await world.occurrences_of(answer.event)
    assert (row.state, row.reason) == (CANCELLED, Reason.PAUSED)
    assert resumed.event.status is EventStatus.INACTIVE
    assert "event.ended" in await world.journal()


# --- what is foreseen -----------------------------------------------------------------------------------


async def foreseen(world: World, answer: EventAnswer, **asked: Any) -> list[tuple[str, str | None]]:
    preview = await world.events.preview(answer.event.id, caller=OWNER, **asked)
    return [(f"{run.at:%m-%d %H:%M}", run.note) for run in preview.runs]


async def test_a_preview_marks_what_is_left_out_and_ends_with_the_last_run(world: World) -> None:
    answer = await world.event(
        schedule="0 9 * * *", max_occurrences=3, exclusions=["2027-03-02", "2027-03-04/2027-03-05"]
    )
    expected = [
        ("03-02 09:00", "excluded"),
        ("03-03 09:00", None),
        ("03-04 09:00", "excluded"),
        ("03-05 09:00", "excluded"),
        ("03-06 09:00", None),
        ("03-07 09:00", None),
    ]
    assert await foreseen(world, answer, count=100) == expected
    assert await foreseen(world, answer, count=3) == expected[:3]
    assert await foreseen(world, answer, since=datetime(2027, 3, 6, 9, tzinfo=UTC)) == expected[4:]
    assert await foreseen(world, answer, since=datetime(2027, 3, 8, tzinfo=UTC)) == []
    assert [f"{run.at:%d}" for run in answer.next_runs] == ["03", "06", "07"]


async def test_a_preview_shows_what_a_change_of_clocks_does(world: World) -> None:
    wild = await world.event(schedule="*/30 2 * * *", timezone="America/New_York")
    fixed = await world.event(schedule="30 2 * * *", timezone="America/New_York")
    eve = datetime(2027, 3, 13, 12, tzinfo=UTC)
    assert await foreseen(world, wild, count=2, since=eve) == [("03-14 07:00", "lost_in_gap"), ("03-15 06:00", None)]
    assert await foreseen(world, fixed, count=2, since=eve) == [("03-14 07:00", "shifted"), ("03-15 06:30", None)]


async def test_a_preview_leaves_out_an_instant_that_was_skipped_before_an_edit(world: World) -> None:
    answer = await world.event(schedule="0 13 * * *")
    await world.events.update(answer.event.id, {"skip_next": True}, caller=OWNER)
    edited = await world.events.update(answer.event.id, {"schedule": "*/30 12,13 * * *"}, caller=OWNER)
    told = await foreseen(world, edited, count=4)
    assert told == [("03-01 12:00", None), ("03-01 12:30", None), ("03-01 13:30", None), ("03-02 12:00", None)]

    fired = []
    for _ in range(4):
        due = await world.store.occurrences.next_due()
        assert due is not None
        world.clock.set(due)
        await world.settle_down()
        fired.append((f"{world.courier.deliveries[-1].occurrence.scheduled_at:%m-%d %H:%M}", None))
    assert fired == told


# --- brakes -------------------------------------------------------------------------------------------


async def test_an_agent_that_schedules_itself_is_stopped_after_ten_quick_links(world: World) -> None:
    parent = await world.event(schedule="in 1m", action={"type": "inbox"}, caller=WRITER)
    for link in range(20):
        world.clock.advance(timedelta(minutes=1))
        await world.settle_down()
        from qhronos_core.ports import InboxQuery

        (held,) = await world.occurrences.claim_inbox(InboxQuery(), caller=WRITER)
        assert held.event.id == parent.event.id
        if link == 9:
            with pytest.raises(ChainTooLongError):
                await world.event(schedule="in 1m", action={"type": "inbox"}, caller=WRITER)
            far = await world.event(schedule="in 2 hours", action={"type": "inbox"}, caller=WRITER)
            assert far.event.chain_depth == 0
            return
        child = await world.event(schedule="in 1m", action={"type": "inbox"}, caller=WRITER)
        assert child.event.caused_by == held.occurrence.id
        await world.occurrences.acknowledge(held.occurrence.id, "done", caller=WRITER)
        parent = child
    raise AssertionError("never stopped")


async def test_quotas_hold_for_write_tokens_per_sub(world: World) -> None:
    strict = EventCases(
        world.store,
        world.signals,
        keeper=PLAIN_KEEPER,
        check_destination=anywhere,
        rules=EventRules(quota_events=2, quota_runs_per_day=100),
    )
    fields = {"name": "n", "schedule": "0 * * * *"}
    for _ in range(2):
        await strict.create(fields, caller=WRITER)
    with pytest.raises(QuotaExceededError):
        await strict.create(fields, caller=WRITER)
    await strict.create(fields, caller=OTHER)
    await strict.create(fields, caller=OWNER)
    with pytest.raises(QuotaExceededError):
        await strict.create({"name": "n", "schedule": "* * * * *"}, caller=OTHER)


async def test_a_pause_whose_end_is_taken_away_lasts(world: World) -> None:
    event = (await world.event(paused_until="2027-03-02T00:00:00Z")).event
    answer = await world.events.update(event.id, {"paused_until": None}, caller=OWNER)
    assert (answer.result, answer.event.status, answer.event.paused_until) == ("updated", EventStatus.PAUSED, None)
    again = await world.events.update(event.id, {"paused_until": None, "status": "paused"}, caller=OWNER)
    assert again.result == "unchanged"
    world.clock.advance(timedelta(days=3))
    await world.events.resume_due()
    assert (await world.store.events.get(event.id)).status is EventStatus.PAUSED
