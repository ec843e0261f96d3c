from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faces.mcp.house import House, a_house
from tests.faces.mcp_events.calling import Caller, origin_of, wired
from tests.faces.mcp_events.receiver import Receiver, a_receiver
from tests.world import World, a_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        yield world


@pytest.fixture
async def house(world: World, tmp_path: Path) -> AsyncIterator[House]:
    async with a_house(world, tmp_path) as house:
        yield house


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with a_receiver() as receiver:
        yield receiver


@pytest.fixture
def caller(house: House, receiver: Receiver) -> Caller:
    return wired(house, origin_of(receiver))
