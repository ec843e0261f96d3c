"""An outage: every instant that came due ends in one honest record (schedules.md §9)."""

from datetime import timedelta

import pytest

from qhronos_core.domain.lifecycle import COMPLETED, MISSED, PENDING
from qhronos_core.domain.occurrence import Reason
from tests.world import NOON, World


async def looked(world: World) -> None:
    """A node looks, so that the outage begins here."""
    await world.run()


async def test_catch_up_one_runs_the_latest_and_says_how_many_and_since_when(world: World) -> None:
    answer = await world.event(schedule="*/10 * * * *")  # made at 09:00
    await looked(world)
    world.clock.set(NOON)
    await world.settle_down()

    rows = await world.occurrences_of(answer.event)
    ran = [row for row in rows if row.state is COMPLETED]
    missed = [row for row in rows if row.state is MISSED]
    assert [row.scheduled_at for row in ran] == [NOON]
    assert (ran[0].missed, ran[0].missed_since) == (17, NOON - timedelta(hours=2, minutes=50))
    assert len(missed) == 17
    assert {row.reason for row in missed} == {Reason.COALESCED}
    assert [row.scheduled_at for row in rows if row.state is PENDING] == [NOON + timedelta(minutes=10)]
    assert len(world.courier.deliveries) == 1


async def test_catch_up_all_runs_each_oldest_first(world: World) -> None:
    answer = await world.event(schedule="*/30 * * * *", catch_up="all")
    await looked(world)
    world.clock.set(NOON)
    for _ in range(20):
        await world.settle_down()
        world.clock.advance(timedelta(microseconds=1))

    sent = [delivery.occurrence.scheduled_at for delivery in world.courier.deliveries]
    assert sent == [NOON - timedelta(minutes=30 * back) for back in reversed(range(6))]
    rows = await world.occurrences_of(answer.event)
    assert [row.state for row in rows] == [COMPLETED] * 6 + [PENDING]


async def test_catch_up_all_is_bounded_to_the_latest_hundred(world: World) -> None:
    answer = await world.event(schedule="* * * * *", catch_up="all")
    await looked(world)
    world.clock.advance(timedelta(minutes=150))
    for _ in range(150):
        await world.settle_down()
        world.clock.advance(timedelta(microseconds=1))

    rows = await world.occurrences_of(answer.event)
    assert sum(row.state is COMPLETED for row in rows) == 100
    assert sum(row.reason is Reason.TOO_MANY for row in rows) == 50


async def test_catch_up_none_runs_nothing_of_the_past(world: World) -> None:
    answer = await world.event(schedule="*/30 * * * *", catch_up="none")
    await looked(world)
    world.clock.set(NOON)
    await world.settle_down()

    assert world.courier.deliveries == []
    rows = await world.occurrences_of(answer.event)
    assert [row.reason for row in rows] == [Reason.CATCH_UP_NONE] * 6 + [None]


async def test_within_the_grace_it_simply_runs(world: World) -> None:
    answer = await world.event(schedule="0 * * * *")
    await looked(world)
    world.clock.set(NOON - timedelta(hours=2) + timedelta(seconds=59))
    await world.settle_down()
    rows = await world.occurrences_of(answer.event)
    assert [row.state for row in rows] == [COMPLETED, PENDING]


async def test_a_once_only_instant_runs_however_late(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)
    world.clock.set(NOON - timedelta(minutes=30))
    await looked(world)
    world.clock.set(NOON + timedelta(days=3))
    await world.settle_down()
    assert await world.state_of(occurrence) is COMPLETED


async def test_a_backlog_under_load_is_never_judged_late(world: World) -> None:
    """A node looked all the time: what it had no slot for is late, but not missed."""
    answer = await world.event(schedule="* * * * *")
    for _ in range(30):
        world.clock.advance(timedelta(seconds=4))
        await world.store.claim_due(node="busy", lease=timedelta(minutes=1), limit=0, judge=world.judge)
    for _ in range(10):
        await world.settle_down()
    rows = await world.occurrences_of(answer.event)
    assert MISSED not in {row.state for row in rows}


@pytest.mark.parametrize(("days", "rows_most"), [(3, 1_002), (400, 1_002)])
async def test_of_a_long_outage_the_latest_thousand_have_a_row_and_the_journal_has_the_rest(
    world: World, days: int, rows_most: int
) -> None:
    answer = await world.event(schedule="*/5 * * * *", catch_up="none")
    await looked(world)
    first = (await world.occurrences_of(answer.event))[0].scheduled_at
    world.clock.advance(timedelta(days=days))
    await world.settle_down()

    rows = await world.occurrences_of(answer.event)
    missed = [row for row in rows if row.state is MISSED]
    assert 1_000 <= len(missed) <= rows_most or len(missed) == days * 288
    latest = world.clock.now() - timedelta(minutes=world.clock.now().minute % 5)
    assert missed[-1].scheduled_at == latest.replace(second=0, microsecond=0)
    (line,) = [line async for line in world._lines() if line.entry.kind == "occurrence.missed"]
    assert line.entry.detail["first"] == first.isoformat()
    assert line.entry.detail["count"] == min(days * 288, 10_001) or not line.entry.detail["count_exact"]
    assert next(row.scheduled_at for row in rows if row.state is PENDING) > world.clock.now()


async def test_max_occurrences_counts_what_was_missed(world: World) -> None:
    answer = await world.event(schedule="*/10 * * * *", max_occurrences=5)
    await looked(world)
    world.clock.set(NOON)
    await world.settle_down()

    rows = await world.occurrences_of(answer.event)
    assert len(rows) == 5
    assert [row.state for row in rows] == [MISSED] * 4 + [COMPLETED]
    assert (await world.store.events.get(answer.event.id)).status == "inactive"


async def test_of_a_long_outage_too_only_the_latest_runs_where_occurrences_are_counted(world: World) -> None:
    often = await world.event(schedule="every 1m", max_occurrences=50_000)
    ended = await world.event(schedule="every 1m", max_occurrences=12_000)
    await looked(world)
    begun = world.clock.now()
    world.clock.advance(timedelta(days=14))
    await world.settle_down()

    (ran,) = [row for row in await world.occurrences_of(often.event) if row.state is COMPLETED]
    assert (ran.scheduled_at, ran.ordinal, ran.missed) == (world.clock.now(), 20_160, 20_159)
    (last,) = [row for row in await world.occurrences_of(ended.event) if row.state is COMPLETED]
    assert (last.scheduled_at, last.ordinal) == (begun + timedelta(minutes=12_000), 12_000)
    assert (await world.store.events.get(ended.event.id)).status == "inactive"
    lines = [line.entry async for line in world._lines() if line.entry.kind == "occurrence.missed"]
    assert {entry.detail["count"] for entry in lines} == {20_159, 11_999}  # both due at one instant: in either order
    assert all(entry.detail["count_exact"] for entry in lines)
