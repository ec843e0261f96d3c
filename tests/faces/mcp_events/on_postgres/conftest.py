from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faces.mcp.house import House, a_house
from tests.world import World, a_world


@pytest.fixture
async def world(tmp_path: Path, migrated_postgres_url: str) -> AsyncIterator[World]:
    async with a_world(tmp_path, postgres_url=migrated_postgres_url) as world:
        yield world


@pytest.fixture
async def house(world: World, tmp_path: Path) -> AsyncIterator[House]:
    async with a_house(world, tmp_path) as house:
        yield house
