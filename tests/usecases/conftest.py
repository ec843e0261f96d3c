from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.world import World, a_world


@pytest.fixture(params=["sqlite", "postgres"])
def postgres_or_none(request: pytest.FixtureRequest) -> str | None:
    """A database's URL, or None for the embedded store."""
    return request.getfixturevalue("migrated_postgres_url") if request.param == "postgres" else None


@pytest.fixture
async def world(tmp_path: Path, postgres_or_none: str | None) -> AsyncIterator[World]:
    """The same world on each store."""
    async with a_world(tmp_path, postgres_url=postgres_or_none) as made:
        yield made
