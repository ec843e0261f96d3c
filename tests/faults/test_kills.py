"""Nodes are killed, stopped and told to end while work is under way (F1, F4, F6, F45, F48)."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.faults.rig.checker import Verdict, Wanted, judge
from tests.faults.rig.nodes import Cluster, Node, a_cluster
from tests.faults.rig.receiver import Receiver

WITHIN = 60.0


def webhook(receiver: Receiver, path: str = "/hook") -> dict[str, Any]:
    return {"type": "webhook", "params": {"url": receiver.url(path)}}


def soon(seconds: float) -> datetime:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0) + timedelta(seconds=1)


async def all_finished(node: Node, events: list[str]) -> list[dict[str, Any]]:
    """Every row of these events, once each has ended."""
    async with asyncio.timeout(WITHIN):
        while True:
            rows = [row for event in events for row in await asyncio.to_thread(node.occurrences, event)]
            if rows and all(row["status"] in ("completed", "failed", "missed", "cancelled") for row in rows):
                return rows
            await asyncio.sleep(0.1)


def verdict_on(node: Node, wanted: list[Wanted], receiver: Receiver, rows: list[dict[str, Any]]) -> Verdict:
    return judge(wanted, receiver.log, rows, {row["id"]: node.attempts(row["id"]) for row in rows})


async def test_nodes_are_killed_at_random_while_hundreds_fall_due(cluster: Cluster, receiver: Receiver) -> None:
    """F1 at a tenth of its load: three nodes, one killed every second or so."""
    for number in (1, 2, 3):
        await asyncio.to_thread(cluster.start, number)
    begin = soon(3)
    wanted = []
    for n in range(60):
        due = begin + timedelta(seconds=n % 6)
        event = await asyncio.to_thread(
            cluster.nodes[1].create, schedule=due.isoformat(), action=webhook(receiver, f"/{n}")
        )
        wanted.append(Wanted(event["id"], due))
    receiver.takes = lambda _: 0.05
    await asyncio.sleep(max(0.0, (begin - datetime.now(UTC)).total_seconds()))
    for turn in range(4):
        number = turn % 3 + 1
        cluster.nodes[number].kill()
        await asyncio.to_thread(cluster.start, number)
    rows = await all_finished(cluster.nodes[1], [each.event_id for each in wanted])
    verdict = verdict_on(cluster.nodes[1], wanted, receiver, rows)
    assert verdict.clean(), verdict
    assert {row["status"] for row in rows} == {"completed"}


async def test_a_stopped_node_comes_back_and_its_late_word_changes_nothing(
    cluster: Cluster, receiver: Receiver
) -> None:
    """F4: stopped for longer than its lease while the receiver thinks; another node takes over."""
    one = await asyncio.to_thread(cluster.start, 1)
    due = soon(2)
    event = await asyncio.to_thread(one.create, schedule=due.isoformat(), action=webhook(receiver))
    receiver.takes = lambda _: 1.0
    await receiver.until(lambda log: len(log) == 1, within=WITHIN)
    one.send(signal.SIGSTOP)
    two = await asyncio.to_thread(cluster.start, 2)
    receiver.takes = lambda _: 0.0
    rows = await all_finished(two, [event["id"]])
    one.send(signal.SIGCONT)
    await asyncio.sleep(2)

    assert await asyncio.to_thread(two.occurrences, event["id"]) == rows
    verdict = verdict_on(two, [Wanted(event["id"], due)], receiver, rows)
    assert verdict.clean(), verdict
    outcomes = [attempt["outcome"] for attempt in await asyncio.to_thread(two.attempts, rows[0]["id"])]
    assert outcomes == ["lease_lost", "accepted"]


async def test_a_swallowed_answer_is_sent_again_with_the_same_id_and_bytes(
    cluster: Cluster, receiver: Receiver
) -> None:
    """F6."""
    node = await asyncio.to_thread(cluster.start)
    receiver.answers = lambda _path, nth: None if nth == 1 else 200
    retry = {"max_attempts": 3, "delays": ["1s"]}
    due = soon(1)
    event = await asyncio.to_thread(node.create, schedule=due.isoformat(), action=webhook(receiver), retry=retry)
    rows = await all_finished(node, [event["id"]])
    one, other = receiver.log
    assert (one.webhook_id, one.body_hash) == (other.webhook_id, other.body_hash)
    assert (one.attempt, other.attempt) == (1, 2)
    assert one.signature != other.signature
    assert rows[0]["status"] == "completed"


async def test_a_deploy_loses_nothing_and_sends_nothing_twice(cluster: Cluster, receiver: Receiver) -> None:
    """F45: SIGTERM while requests are under way; what was claimed finishes, and the other node goes on."""
    for number in (1, 2):
        await asyncio.to_thread(cluster.start, number)
    begin = soon(3)
    receiver.takes = lambda _: 0.3
    wanted = []
    for n in range(40):
        due = begin + timedelta(seconds=n % 4)
        event = await asyncio.to_thread(
            cluster.nodes[2].create, schedule=due.isoformat(), action=webhook(receiver, f"/{n}")
        )
        wanted.append(Wanted(event["id"], due))
    await receiver.until(lambda log: len(log) >= 5, within=WITHIN)
    status = await asyncio.to_thread(cluster.nodes[1].stopped_by, signal.SIGTERM)
    assert status in (-signal.SIGTERM, 128 + signal.SIGTERM, 0)
    rows = await all_finished(cluster.nodes[2], [each.event_id for each in wanted])
    verdict = verdict_on(cluster.nodes[2], wanted, receiver, rows)
    assert verdict.clean(), verdict
    assert verdict.duplicates == 0
    assert [row["attempts_made"] for row in rows] == [1] * 40


async def test_a_migration_killed_half_way_is_finished_by_the_next_start(
    tmp_path: Path, empty_database: str | None
) -> None:
    """F48."""
    with a_cluster(tmp_path, database_url=empty_database, forks=True) as cluster:
        dying = await asyncio.to_thread(cluster.start, failpoint="mid_migration:kill")
        assert await dying.until_dead() == -signal.SIGKILL
        one, other = await asyncio.gather(asyncio.to_thread(cluster.start, 1), asyncio.to_thread(cluster.start, 2))
        event = await asyncio.to_thread(one.create, schedule="every 1h")
        assert len(await asyncio.to_thread(other.occurrences, event["id"])) == 1
