from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faces.mcp.house import House, a_house
from tests.faces.mcp.speakers import VERSIONS, Speaker, in_its_own_task
from tests.world import World, a_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        yield world


@pytest.fixture
async def house(world: World, tmp_path: Path) -> AsyncIterator[House]:
    async with a_house(world, tmp_path) as house:
        yield house


@pytest.fixture(params=VERSIONS)
async def alice(request: pytest.FixtureRequest, house: House) -> AsyncIterator[Speaker]:
    """A client of each protocol version, over HTTP, with write access to `user:alice`."""
    async with in_its_own_task(house.speaker(request.param)) as speaker:
        yield speaker
