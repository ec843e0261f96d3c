"""A store on a PostgreSQL database of the test's own."""

from collections.abc import AsyncIterator

import pytest

from qhronos_core.adapters.postgres import PostgresStore, open_postgres_store
from tests.clock import FakeClock


@pytest.fixture
def url(migrated_postgres_url: str) -> str:
    return migrated_postgres_url


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def store(url: str, clock: FakeClock) -> AsyncIterator[PostgresStore]:
    async with open_postgres_store(url, clock=clock) as opened:
        yield opened
