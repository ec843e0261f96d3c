"""A store on a migrated database of the test's own, copied from a template so that it costs milliseconds."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from qhronos_core.adapters.postgres import PostgresStore, open_postgres_store
from qhronos_core.adapters.postgres.schema import migrate
from tests.clock import FakeClock
from tests.servers import Postgres


@pytest.fixture(scope="session")
def migrated_template(postgres_server: Postgres) -> str:
    url = postgres_server.new_database()
    asyncio.run(migrate(url))
    return url


@pytest.fixture
def url(postgres_server: Postgres, migrated_template: str) -> Iterator[str]:
    made = postgres_server.new_database(template=migrated_template)
    yield made
    postgres_server.drop_database(made)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def store(url: str, clock: FakeClock) -> AsyncIterator[PostgresStore]:
    async with open_postgres_store(url, clock=clock) as opened:
        yield opened
