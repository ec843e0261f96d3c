"""What is previewed is what fires: random schedules over a simulated year, by the planner, the store and a moved clock."""

import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from qhronos_core.domain.errors import InvalidInputError
from qhronos_core.domain.schedule import preview
from qhronos_core.domain.schedule.wallclock import wall_clock
from tests.world import OWNER, World, a_world

BEGIN = datetime(2027, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
SCHEDULES = int(os.environ.get("QHRONOS_PREVIEWED", "1000"))
# Fired of each: most begin shortly before a change of clocks, so these step over it. 100000 fires all of a year.
RUNS_MOST = int(os.environ.get("QHRONOS_PREVIEWED_RUNS", "12"))
ZONES = [
    "UTC",
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Asia/Gaza",
    "Asia/Tehran",
]


def near_a_change(rng: random.Random, zone: str, now: datetime) -> datetime:
    """Some hours or days before the next change of clocks, if there is one; so that the runs fired step over it."""
    begin = int(now.timestamp())
    changes = wall_clock(zone).changes(begin, begin + 400 * 86_400)
    if not changes:
        return now
    return max(now, datetime.fromtimestamp(changes[0].start, UTC) - timedelta(hours=rng.choice([2, 20, 60, 120])))


def a_schedule(rng: random.Random) -> str:
    minute = rng.choice(["0", "30", "*/20", "5,35", "59"])
    hour = rng.choice(["0", "1", "2", "3", "9", "*/6", "2,14", "23"])
    day = rng.choice(["*", "*", "1", "15", "31", "L", "*/10"])
    weekday = rng.choice(["*", "*", "MON", "1-5", "SUN", "5L", "2#3"])
    return rng.choice(
        [
            f"{minute} {hour} {day} * {weekday}",
            f"{minute} {hour} {day} {rng.choice(['1', '3', '10-12', '*/3'])} {weekday}",
            f"every {rng.choice(['90m', '7h', '36h', '11d'])}",
            f"RRULE:FREQ=MONTHLY;BYDAY={rng.choice(['-1FR', '2MO', 'SU'])};BYHOUR=2;BYMINUTE=30",
            f"RRULE:FREQ=WEEKLY;INTERVAL={rng.randint(1, 4)};BYDAY=MO,SA;BYHOUR={rng.randint(0, 23)};BYMINUTE=15",
            f"RRULE:FREQ=DAILY;INTERVAL={rng.randint(1, 40)}",
            rng.choice(["@daily", "@weekly", "every weekday at 9am", "last day of the month at 6pm"]),
        ]
    )


async def fired(world: World, fields: dict[str, Any], until: datetime) -> list[datetime]:
    """Create it, then go from one due instant to the next, as the loop sleeps."""
    world.courier.deliveries.clear()
    answer = await world.event(**fields)
    while (due := await world.store.occurrences.next_due()) is not None and due <= until:
        world.clock.set(due)
        await world.settle_down()
        if len(world.courier.deliveries) == RUNS_MOST:
            break
    await world.events.delete(answer.event.id, caller=OWNER)
    return [delivery.occurrence.scheduled_at for delivery in world.courier.deliveries]


@pytest.mark.parametrize("part", range(4))
async def test_what_is_previewed_is_what_fires(tmp_path: Path, part: int) -> None:
    rng = random.Random(f"preview {part}")
    async with a_world(tmp_path, at=BEGIN) as world:
        told = 0
        while told < SCHEDULES // 4:
            schedule, zone = a_schedule(rng), rng.choice(ZONES)
            world.clock.set(max(world.clock.now(), BEGIN + rng.random() * YEAR))
            now = world.clock.now().replace(microsecond=0)
            if rng.random() < 0.7:
                now = near_a_change(rng, zone, now)
            world.clock.set(now)
            try:
                foreseen = preview(schedule, timezone=zone, after=now, count=RUNS_MOST)
            except InvalidInputError:
                continue
            until = now + YEAR
            got = await fired(world, {"schedule": schedule, "timezone": zone}, until)
            assert got == [at for at in foreseen if at <= until], (schedule, zone, now)
            told += 1
