"""One suite, every store: a test that takes `store` or `place` runs once for each."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qhronos_core.ports import Store
from tests.adapters.store.places import OPENS, Place
from tests.clock import FakeClock


@pytest.fixture(params=sorted(OPENS))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place of this test's own."""
    if request.param == "sqlite":
        return Place("sqlite", str(tmp_path / "data"))
    return Place(request.param, request.getfixturevalue(f"migrated_{request.param}_url"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def store(place: Place, clock: FakeClock) -> AsyncIterator[Store]:
    async with place.open(clock) as opened:
        yield opened
