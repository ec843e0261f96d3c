"""Databases that are ready for a store."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.servers import Postgres


@pytest.fixture(scope="session")
def _migrated_template(postgres_server: Postgres) -> str:
    from qhronos_core.adapters.postgres.schema import migrate

    url = postgres_server.new_database()
    asyncio.run(migrate(url))
    return url


@pytest.fixture
def migrated_postgres_url(postgres_server: Postgres, _migrated_template: str) -> Iterator[str]:
    """A migrated database of this test's own: a copy, which costs a fraction of migrating."""
    url = postgres_server.new_database(template=_migrated_template)
    yield url
    postgres_server.drop_database(url)
