"""Each planted bug turns the checker red, with the figure it should; without it the same run is clean."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.faults.planted import PLANTED
from tests.faults.rig.checker import Verdict, Wanted, judge
from tests.faults.rig.nodes import Cluster, Node, a_cluster
from tests.faults.rig.receiver import Receiver
from tests.faults.test_kills import WITHIN, all_finished, soon, webhook


async def judged(node: Node, event: str, due: datetime, receiver: Receiver, *more: datetime) -> Verdict:
    """As if no fault could explain a duplicate."""
    rows = await asyncio.to_thread(node.occurrences, event)
    attempts = {row["id"]: await asyncio.to_thread(node.attempts, row["id"]) for row in rows}
    return judge([Wanted(event, each) for each in (due, *more)], receiver.log, rows, attempts, blows=[])


async def stopped_and_continued(cluster: Cluster, receiver: Receiver, planted: str) -> Verdict:
    """F4: the one that was stopped comes back with its late word."""
    one = await asyncio.to_thread(cluster.start, 1, planted=planted)
    due = soon(2)
    event = await asyncio.to_thread(one.create, schedule=due.isoformat(), action=webhook(receiver))
    receiver.takes = lambda _: 1.0
    await receiver.until(lambda log: len(log) == 1, within=WITHIN)
    one.send(signal.SIGSTOP)
    two = await asyncio.to_thread(cluster.start, 2)
    receiver.takes = lambda _: 0.0
    await all_finished(two, [event["id"]])
    one.send(signal.SIGCONT)
    await asyncio.sleep(3)
    return await judged(two, event["id"], due, receiver)


async def killed_before_the_send(cluster: Cluster, receiver: Receiver, planted: str) -> Verdict:
    """F1 at its sharpest point."""
    one = await asyncio.to_thread(cluster.start, 1)
    due = soon(5)
    event = await asyncio.to_thread(one.create, schedule=due.isoformat(), action=webhook(receiver))
    one.kill()
    dying = await asyncio.to_thread(cluster.start, 1, planted=planted, failpoint="before_send:kill")
    await dying.until_dead()
    again = await asyncio.to_thread(cluster.start, 1)
    await asyncio.sleep(4)  # two leases: whoever is to take it over has
    return await judged(again, event["id"], due, receiver)


async def killed_with_a_run_to_come(cluster: Cluster, receiver: Receiver, planted: str) -> Verdict:
    """F3: between the claim and the send, of an event that runs twice."""
    one = await asyncio.to_thread(cluster.start, 1)
    due = soon(4)
    times = {"schedule": "every 2s", "start_time": due.isoformat(), "max_occurrences": 2, "catch_up": "all"}
    event = await asyncio.to_thread(one.create, **times, action=webhook(receiver))
    one.kill()
    dying = await asyncio.to_thread(cluster.start, 1, planted=planted, failpoint="before_send:kill")
    await dying.until_dead()
    again = await asyncio.to_thread(cluster.start, 1)
    await asyncio.sleep(5)
    return await judged(again, event["id"], due, receiver, due + timedelta(seconds=2))


async def answer_swallowed(cluster: Cluster, receiver: Receiver, planted: str) -> Verdict:
    """F6."""
    node = await asyncio.to_thread(cluster.start, 1, planted=planted)
    receiver.answers = lambda _path, nth: None if nth == 1 else 200
    due = soon(2)
    retry = {"max_attempts": 3, "delays": ["1s"]}
    event = await asyncio.to_thread(node.create, schedule=due.isoformat(), action=webhook(receiver), retry=retry)
    await all_finished(node, [event["id"]])
    return await judged(node, event["id"], due, receiver)


async def slow_receiver(cluster: Cluster, receiver: Receiver, planted: str) -> Verdict:
    """No nemesis at all."""
    node = await asyncio.to_thread(cluster.start, 1, planted=planted)
    receiver.takes = lambda _: 1.5
    due = soon(2)
    event = await asyncio.to_thread(node.create, schedule=due.isoformat(), action=webhook(receiver))
    await all_finished(node, [event["id"]])
    await asyncio.sleep(2)
    return await judged(node, event["id"], due, receiver)


async def on_time(cluster: Cluster, receiver: Receiver, planted: str) -> Verdict:
    """F19: the node's clock is ahead."""
    node = await asyncio.to_thread(cluster.start, 1, planted=planted)
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=8)
    event = await asyncio.to_thread(node.create, schedule=due.isoformat(), action=webhook(receiver))
    await all_finished(node, [event["id"]])
    return await judged(node, event["id"], due, receiver)


Run = Callable[[Cluster, Receiver, str], Awaitable[Verdict]]
RUNS: dict[str, tuple[Run, str]] = {
    "no_fence": (stopped_and_continued, "fence breach"),
    "removed_before_sent": (killed_before_the_send, "lost"),
    "new_id_each_time": (answer_swallowed, "split"),
    "lease_let_go": (slow_receiver, "unexplained"),
    "nodes_own_clock": (on_time, "early"),
    "successor_later": (killed_with_a_run_to_come, "lost"),
}


@pytest.mark.parametrize("planted", [*PLANTED])
async def test_a_planted_bug_turns_the_checker_red(
    tmp_path: Path, receiver: Receiver, planted: str, migrated_url: str | None
) -> None:
    run, figure = RUNS[planted]
    with a_cluster(tmp_path, database_url=migrated_url) as cluster:
        verdict = await run(cluster, receiver, planted)
    assert verdict.faults[figure] > 0, verdict


async def test_without_a_planted_bug_such_a_run_is_clean(tmp_path: Path, receiver: Receiver) -> None:
    with a_cluster(tmp_path) as cluster:
        verdict = await killed_with_a_run_to_come(cluster, receiver, "")
    assert verdict.clean(), verdict


@pytest.fixture
def migrated_url(request: pytest.FixtureRequest, planted: str) -> str | None:
    """The bug of the clock shows where the store has another than the node."""
    return request.getfixturevalue("migrated_postgres_url") if planted == "nodes_own_clock" else None
