"""Nodes on PostgreSQL as an operator may have to set them: without prepared statements, with small pools, migrated apart."""

import asyncio
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from qhronos_core.adapters.postgres import PostgresStore, schema
from qhronos_core.config import load
from qhronos_core.wiring import open_core
from tests.faults.rig.nodes import ROOT, Cluster, Node, a_cluster
from tests.faults.rig.receiver import Receiver, a_receiver

SMALL = {
    "QHRONOS_DATABASE__PREPARE_THRESHOLD": "0",
    "QHRONOS_DATABASE__POOL": "2",
    "QHRONOS_DATABASE__DISPATCH_POOL": "1",
}


async def test_a_node_with_few_connections_and_no_prepared_statements_works(
    tmp_path: Path, migrated_postgres_url: str
) -> None:
    with a_cluster(tmp_path, database_url=migrated_postgres_url, settings=SMALL) as cluster:
        node = await asyncio.to_thread(cluster.start)
        async with a_receiver() as receiver:
            await all_delivered(node, receiver, 20)
        with psycopg.connect(migrated_postgres_url) as connection:
            ours = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'qhronos'"
            [(sessions,)] = connection.execute(f"SELECT count(*) {ours}").fetchall()
        pools = node.ask("GET", "/status")[1]["store"]["pools"]
        assert {name: pool["pool_max"] for name, pool in pools.items()} == {"callers": 2, "dispatch": 1}
        assert 0 < sessions <= 3


async def all_delivered(node: Node, receiver: Receiver, count: int) -> None:
    due = datetime.now(UTC) + timedelta(seconds=1)
    action = {"type": "webhook", "params": {"url": receiver.url()}}
    for _ in range(count):
        await asyncio.to_thread(node.create, schedule=due.isoformat(), action=action)
    await receiver.until(lambda log: len({each.event_id for each in log}) == count, within=30)


@pytest.mark.parametrize(("threshold", "prepares"), [("0", False), ("2", True)])
async def test_statements_are_prepared_or_never(
    tmp_path: Path, migrated_postgres_url: str, threshold: str, prepares: bool
) -> None:
    told = {**SMALL, "QHRONOS_DATABASE__PREPARE_THRESHOLD": threshold}
    cluster = Cluster(tmp_path, database_url=migrated_postgres_url, settings=told)
    environ = cluster.environ()
    async with open_core(load(Path(environ["QHRONOS_CONFIG"]), environ), run_scheduler=False) as core:
        assert isinstance(core.store, PostgresStore)
        for _ in range(10):
            await core.store.events.to_resume(1)
            await core.store.settle([])
        [(count,)] = await core.store._callers.rows("SELECT count(*) FROM pg_prepared_statements")
        assert (count > 0) is prepares


async def test_a_node_told_not_to_migrate_waits_until_somebody_has(tmp_path: Path, postgres_url: str) -> None:
    settings = {"QHRONOS_DATABASE__MIGRATE": "false"}
    with a_cluster(tmp_path, database_url=postgres_url, settings=settings) as cluster:
        node = await asyncio.to_thread(cluster.start)
        status, answer = await asyncio.to_thread(node.ask, "POST", "/events", {"name": "n", "schedule": "@daily"})
        assert (status, answer["code"]) == (503, "store_unavailable")
        assert "qhronos migrate" in answer["error"]
        assert (await asyncio.to_thread(node.ask, "GET", "/health?ready=true"))[0] == 503
        await asyncio.to_thread(migrate, cluster)
        async with asyncio.timeout(20):
            while (await asyncio.to_thread(node.ask, "GET", "/health?ready=true"))[0] != 200:
                await asyncio.sleep(0.1)
        await asyncio.to_thread(node.create, schedule="@daily")


async def test_a_node_that_waits_for_anothers_migration_says_so_and_stops_when_told(
    tmp_path: Path, postgres_url: str
) -> None:
    """F45, F48: a migration elsewhere may take as long as it likes."""
    with a_cluster(tmp_path, database_url=postgres_url) as cluster, psycopg.connect(postgres_url) as other:
        other.execute(schema._LOCK, {"key": schema._LOCK_KEY})
        node = await asyncio.to_thread(cluster.start)
        status, answer = await asyncio.to_thread(node.ask, "POST", "/events", {"name": "n", "schedule": "@daily"})
        assert (status, answer["code"]) == (503, "store_unavailable")
        began = time.monotonic()
        node.send(signal.SIGTERM)
        assert await node.until_dead() == -signal.SIGTERM
        assert time.monotonic() - began < 12


async def test_doctor_leaves_a_database_as_it_is(tmp_path: Path, postgres_url: str) -> None:
    with a_cluster(tmp_path, database_url=postgres_url) as cluster:
        assert await asyncio.to_thread(doctor, cluster) == (
            1,
            "FIX  The store does not answer: The store's schema is of an earlier release. Run `qhronos migrate`.\n",
        )
        with psycopg.connect(postgres_url) as connection:
            assert connection.execute("SELECT to_regclass('schema_migrations')").fetchone() == (None,)
        await asyncio.to_thread(migrate, cluster)
        with psycopg.connect(postgres_url) as connection:
            connection.execute("UPDATE store_meta SET looked_at = NULL")
        status, found = await asyncio.to_thread(doctor, cluster)
        assert status == 1
        [line] = [line for line in found.splitlines() if line.startswith("FIX ")]  # tests' servers run without fsync
        assert "may lose what it has acknowledged" in line
        with psycopg.connect(postgres_url) as connection:
            assert connection.execute("SELECT looked_at FROM store_meta").fetchone() == (None,)


def doctor(cluster: Cluster) -> tuple[int, str]:
    told = subprocess.run(
        [sys.executable, "-m", "qhronos_mcp", "doctor"],
        cwd=ROOT,
        env={**cluster.environ(), "QHRONOS_DELIVERY__TIMEOUT": "1s"},  # the rig's leases are short
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return told.returncode, told.stdout


def migrate(cluster: Cluster) -> None:
    subprocess.run(
        [sys.executable, "-m", "qhronos_mcp", "migrate"],
        cwd=ROOT,
        env=cluster.environ(),
        check=True,
        capture_output=True,
        timeout=60,
    )
