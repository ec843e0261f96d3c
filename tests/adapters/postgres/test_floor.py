"""Looking for what is due behind somebody's long transaction."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from qhronos_core.adapters.postgres import PostgresStore, open_postgres_store
from qhronos_core.adapters.postgres.floor import SLOW, Floor
from tests.adapters.store.scenes import a_webhook, an_occurrence, kept, look


class Seconds:
    """A clock each look at which costs what `takes` says."""

    def __init__(self) -> None:
        self.now, self.takes = 1_000.0, 1.0

    def __call__(self) -> float:
        self.now += self.takes
        return self.now


@pytest.fixture
async def real(url: str) -> AsyncIterator[PostgresStore]:
    async with open_postgres_store(url) as store:
        yield store


async def slowed(store: PostgresStore, floor: Floor) -> None:
    await store.now()
    for _ in range(3):
        assert await floor.parameter() == {"floor": None}
        floor.looked(SLOW)


async def test_one_slow_look_is_chance_and_three_in_a_row_are_not(real: PostgresStore) -> None:
    floor = Floor(real._dispatch, applies=True, monotonic=Seconds())
    await real.now()
    for seconds in (SLOW, SLOW, 0.001, SLOW, SLOW):
        floor.looked(seconds)
        assert await floor.parameter() == {"floor": None}
    floor.looked(SLOW)
    found = (await floor.parameter())["floor"]
    assert found is not None
    assert timedelta(seconds=5) < await real.now() - found < timedelta(seconds=30)


async def test_the_floor_is_no_higher_than_the_earliest_row_whatever_its_lease(real: PostgresStore) -> None:
    floor = Floor(real._dispatch, applies=True, monotonic=Seconds())
    await slowed(real, floor)
    early = (await real.now()) - timedelta(minutes=3)
    event = a_webhook()
    await kept(real, event, an_occurrence(event, early))
    await look(real)
    assert await floor.parameter() == {"floor": early}


async def test_it_is_given_up_when_asking_has_become_quick(real: PostgresStore) -> None:
    seconds = Seconds()
    floor = Floor(real._dispatch, applies=True, monotonic=seconds)
    await slowed(real, floor)
    assert (await floor.parameter())["floor"] is not None
    seconds.now += 10
    seconds.takes = 0.001
    assert await floor.parameter() == {"floor": None}


async def test_a_row_due_below_it_is_found_when_it_is_asked_for_again(real: PostgresStore) -> None:
    seconds = Seconds()
    real._claiming._floor._monotonic = seconds
    await slowed(real, real._claiming._floor)
    now = await real.now()
    event = a_webhook()
    seconds.takes = 0.0
    seconds.now += 10
    real._claiming._floor._from, real._claiming._floor._asked_at = now - timedelta(seconds=10), seconds.now
    await kept(
        real, event, an_occurrence(event, now - timedelta(seconds=5)), an_occurrence(event, now - timedelta(hours=1))
    )

    assert [claim.occurrence.scheduled_at for claim in (await look(real)).claims] == [now - timedelta(seconds=5)]
    seconds.now += 10
    assert [claim.occurrence.scheduled_at for claim in (await look(real)).claims] == [now - timedelta(hours=1)]
