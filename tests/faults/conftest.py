from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.rig.nodes import Cluster, a_cluster
from tests.faults.rig.receiver import Receiver, a_receiver


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Where the nodes keep what they know; None: the embedded store."""
    return request.getfixturevalue("migrated_postgres_url") if request.param == "postgres" else None


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database(request: pytest.FixtureRequest) -> str | None:
    """Likewise, where nothing was ever migrated."""
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else None


@pytest.fixture
def cluster(tmp_path: Path, database_url: str | None) -> Iterator[Cluster]:
    with a_cluster(tmp_path, database_url=database_url, forks=True) as made:
        yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with a_receiver() as made:
        yield made
