"""Bringing a database to this release's schema."""

import asyncio
from datetime import timedelta

import psycopg
import pytest
import structlog

from qhronos_core.adapters.migrations import StoreRefusedError, known
from qhronos_core.adapters.postgres import PoolSettings, open_postgres_store, schema
from qhronos_core.domain.errors import StoreUnavailableError
from tests.servers import free_port

NAMES = [migration.name for migration in known(schema.__package__ or "")]


async def test_two_nodes_that_start_at_once_on_an_empty_database_both_find_it_whole(postgres_url: str) -> None:
    async with open_postgres_store(postgres_url) as one, open_postgres_store(postgres_url) as other:
        both = await asyncio.gather(one.status(), other.status())
    assert [status["migrations"] for status in both] == [NAMES, NAMES]


async def test_a_second_migration_has_nothing_to_do(postgres_url: str) -> None:
    assert await schema.migrate(postgres_url) == NAMES
    assert await schema.migrate(postgres_url) == []
    assert await schema.lacks(postgres_url) == []


async def test_while_another_migrates_a_node_answers_that_and_does_not_wait_for_ever(postgres_url: str) -> None:
    soon = PoolSettings(wait=timedelta(seconds=0.2))
    async with open_postgres_store(postgres_url, settings=soon) as store:
        with psycopg.connect(postgres_url) as other:
            other.execute(schema._LOCK, {"key": schema._LOCK_KEY})
            async with asyncio.timeout(5):
                with pytest.raises(StoreUnavailableError, match="Another node is bringing the store up to date"):
                    await store.now()
            asked_for = asyncio.create_task(store.migrate())  # whoever asks for it waits
            await asyncio.sleep(0.5)
            assert not asked_for.done()
        assert await asked_for == NAMES
        await store.now()


async def test_where_the_server_is_not_there_whoever_migrates_is_told_where_it_was_looked_for() -> None:
    with structlog.testing.capture_logs() as logged:
        async with open_postgres_store(f"postgresql://a:b@127.0.0.1:{free_port()}/q") as store:
            with pytest.raises(StoreUnavailableError):
                await store.migrate()
    [told] = logged
    assert (told["event"], told["reason"]) == ("postgresql_does_not_answer", "nothing listens there")


async def test_a_migration_that_breaks_half_way_leaves_nothing(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("CREATE TABLE journal (mine int)")
    with pytest.raises(psycopg.errors.DuplicateTable):
        await schema.migrate(postgres_url)
    with psycopg.connect(postgres_url) as look:
        assert look.execute("SELECT to_regclass('events'), to_regclass('schema_migrations')").fetchone() == (None, None)


async def test_a_database_of_a_newer_release_is_refused_and_left_alone(postgres_url: str) -> None:
    await schema.migrate(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as newer:
        newer.execute("INSERT INTO schema_migrations VALUES (9999, '9999_of_tomorrow', 'x', now())")
    async with open_postgres_store(postgres_url) as store:
        with pytest.raises(StoreRefusedError, match="newer release"):
            await store.now()


async def test_a_node_told_not_to_migrate_waits_until_somebody_has(postgres_url: str) -> None:
    async with open_postgres_store(postgres_url, migrate=False) as store:
        with pytest.raises(StoreUnavailableError, match="qhronos migrate"):
            await store.now()
        await store.migrate()
        await store.now()
