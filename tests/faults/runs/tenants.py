"""Floods: all at one instant; and one tenant's, as another feels it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.faults.rig.checker import Wanted
from tests.faults.rig.runs import ALL, Asked, Found, Scene, a_scene, fault, judged, lateness_of

QUIET: Final = 100  # occurrences of the other tenant, in each of the two measures
OVER: Final = 5.0  # seconds over which they are spread
OVERTAKING: Final = 0.5  # seconds: what is under way at once is in no order
NO_LIMITS: Final = {
    "QHRONOS_QUOTAS__EVENTS": "1000000",
    "QHRONOS_QUOTAS__RUNS_PER_DAY": "100000000",
    "QHRONOS_RATE_LIMITS__READ_WRITE__PER_MINUTE": "0",
    "QHRONOS_DELIVERY__PER_HOST": "200",
}
WELL: Final = 0.25  # seconds: what is within this is punctual whatever the quiet figure was


@fault(
    "F39",
    "one tenant has 10,000 due at one instant",
    on=ALL,
    holds=f"another's p99 at most doubles, or is under {WELL:.2f} s; lost 0",
)
async def _(asked: Asked) -> Found:
    """The receivers answer at once, so that it is claiming and not waiting that is shared out."""
    many = asked.events * 20
    async with a_scene(asked, settings=NO_LIMITS) as stage:
        stage.receiver.takes = lambda _: 0.0
        await stage.start(1)
        flood, other = [await _token(stage, sub) for sub in ("flood", "other")]
        alone = await _planned(stage, other, QUIET, datetime.now(UTC) + timedelta(seconds=5), OVER)
        await _past(alone)
        quiet = _p99(stage, alone)
        begin = datetime.now(UTC) + timedelta(seconds=15 + many / 100)
        beside = await _planned(stage, other, QUIET, begin + timedelta(milliseconds=100), OVER)
        flooding = await _planned(stage, flood, many, begin, 0)
        stage.figures["planned"] = f"{(begin - datetime.now(UTC)).total_seconds():.0f} s ahead"
        await _past(beside)
        found = await judged(stage, [*alone, *beside, *flooding])
        flooded = _p99(stage, beside)
    found.figures |= {
        "quiet p99": f"{quiet * 1000:.0f} ms",
        "flooded p99": f"{flooded * 1000:.0f} ms",
        "flood drained after": f"{_drained(stage, flooding, since=begin):.1f} s",
    }
    found.must(flooded <= max(2 * quiet, WELL), f"flooded p99 {flooded:.2f} s, quiet {quiet:.2f} s")
    return found


@fault("F37", "20,000 events at one instant", on=ALL, holds="lost 0, duplicates 0; drained, earliest first")
async def _(asked: Asked) -> Found:
    """Ten thousand of them are due a second before the others: those are sent first."""
    many = asked.events * 20
    async with a_scene(asked, settings=NO_LIMITS) as stage:
        stage.receiver.takes = lambda _: 0.0
        await stage.start(1)
        token = await _token(stage, "flood")
        begin = datetime.now(UTC) + timedelta(seconds=15 + many / 50)
        earlier = await _planned(stage, token, many, begin, 0)
        later = await _planned(stage, token, many, begin + timedelta(seconds=1), 0)
        stage.figures["planned"] = f"{(begin - datetime.now(UTC)).total_seconds():.0f} s ahead"
        await _past(later)
        found = await judged(stage, [*earlier, *later])
    of_the_earlier = {each.event_id for each in earlier}
    last = max(each.at for each in stage.receiver.log if each.event_id in of_the_earlier)
    overtook = sum(each.at < last - OVERTAKING for each in stage.receiver.log if each.event_id not in of_the_earlier)
    found.figures |= {"rate": f"{2 * many / _drained(stage, later, since=begin):.0f} a second", "overtook": overtook}
    found.must(overtook == 0, f"{overtook} were sent before earlier ones")
    return found


async def _token(stage: Scene, sub: str) -> str:
    asked = {"sub": sub, "access": "write", "scope": [f"user:{sub}"]}
    status, minted = await asyncio.to_thread(stage.cluster.nodes[1].ask, "POST", "/tokens", asked)
    assert status == 201, minted
    return str(minted["token"])


async def _planned(stage: Scene, token: str, count: int, begin: datetime, over: float) -> list[Wanted]:
    """So many one-shots of one tenant, spread evenly."""
    node, gate = stage.cluster.nodes[1], asyncio.Semaphore(8)
    who = {"Authorization": f"Bearer {token}"}

    async def create(number: int) -> Wanted:
        due = begin + timedelta(seconds=over * number / count)
        action = {"type": "webhook", "params": {"url": stage.receiver.url(f"/{number}")}}
        body: dict[str, Any] = {"name": "n", "schedule": due.isoformat(), "action": action}
        async with gate:
            status, event = await asyncio.to_thread(node.ask, "POST", "/events", body, who)
        assert status == 201, event
        return Wanted(event["id"], due)

    return list(await asyncio.gather(*[create(number) for number in range(count)]))


async def _past(wanted: list[Wanted]) -> None:
    last = max(each.instant for each in wanted)
    await asyncio.sleep(max(0.0, (last - datetime.now(UTC)).total_seconds()) + 2)


def _p99(stage: Scene, wanted: list[Wanted]) -> float:
    events = {each.event_id for each in wanted}
    return lateness_of([each for each in stage.receiver.log if each.event_id in events])[0]


def _drained(stage: Scene, wanted: list[Wanted], *, since: datetime) -> float:
    """Seconds until the last of them was received."""
    events = {each.event_id for each in wanted}
    return max(each.at for each in stage.receiver.log if each.event_id in events) - since.timestamp()
