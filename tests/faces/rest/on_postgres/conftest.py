from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faces.rest.house import House, a_house


@pytest.fixture
async def house(tmp_path: Path, migrated_postgres_url: str) -> AsyncIterator[House]:
    async with a_house(tmp_path, postgres_url=migrated_postgres_url) as made:
        yield made
