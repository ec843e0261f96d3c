"""Hostile receivers before a whole node: slots, records and the neighbours (F28, F30-F34, F56; L6, L16).

What the door itself makes of each: tests/adapters/http/test_egress.py.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from websockets.asyncio.client import connect

from tests.adapters.http.receivers import OK, Script, answering, dripping, flooding, receiving
from tests.faces.test_sockets import Served, heard, said, serving, settings_in
from tests.faults.rig.nodes import Cluster, Node, a_cluster
from tests.faults.rig.receiver import Receiver
from tests.faults.test_kills import all_finished, soon, webhook


@pytest.fixture
def database_url() -> None:
    return None


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


@pytest.mark.parametrize("dripped", ["head", "body"])
async def test_what_is_slow_ends_by_its_deadline_and_its_slot_is_free_for_the_next(
    tmp_path: Path, receiver: Receiver, dripped: str
) -> None:
    """F28: a byte a second, before the only slot there is."""
    script = dripping(first=HEAD if dripped == "body" else b"", then=b"HTTP/1.1 200 OK\r\nX: yyyyyyyy", every=1)
    settings = {"QHRONOS_DELIVERY__CONCURRENCY": "1"}
    with a_cluster(tmp_path, settings=settings, lease="30s", forks=True) as cluster:
        async with receiving(script) as loris:
            node = await asyncio.to_thread(cluster.start)
            due = soon(2)
            slow = {"type": "webhook", "params": {"url": loris.url(), "timeout": "2s"}}
            once = {"max_attempts": 1}
            first = await asyncio.to_thread(node.create, schedule=due.isoformat(), action=slow, retry=once)
            after = due + timedelta(seconds=1)
            second = await asyncio.to_thread(node.create, schedule=after.isoformat(), action=webhook(receiver))
            rows = await all_finished(node, [first["id"], second["id"]])
            [attempt] = await asyncio.to_thread(node.attempts, rows[0]["id"])
    assert [row["status"] for row in rows] == ["failed", "completed"]
    assert (attempt["outcome"], attempt["error"]) == ("no_answer", "timeout")
    assert attempt["duration_ms"] < 3_000
    waited = receiver.log[0].at - due.timestamp()
    assert 1.9 < waited < 2 + 1 + 5  # the deadline, a second, and what a busy machine takes


ZOO: dict[str, tuple[Script, str, str]] = {
    "no status line": (answering(b"hello\r\n\r\n", close=True), "no_answer", "bad_answer"),
    "999": (answering(b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n", close=True), "no_answer", "bad_answer"),
    "1,000 headers": (
        answering(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", close=True),
        "no_answer",
        "bad_answer",
    ),
    "a flood of 1xx": (flooding(first=b"", then=b"HTTP/1.1 103 Early\r\n\r\n" * 100), "no_answer", "bad_answer"),
    "a bad chunk": (
        answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", close=True),
        "no_answer",
        "bad_answer",
    ),
    "nothing at all": (answering(b"", close=True), "no_answer", "connection_failed"),
    "10 GB": (
        flooding(first=b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", then=b"x" * 65_536),
        "accepted",
        "",
    ),
    "a redirect to itself": (
        answering(b"HTTP/1.1 307 X\r\nLocation: /hook\r\nContent-Length: 0\r\n\r\n"),
        "refused",
        "http_307",
    ),
    "no tls": (
        answering(b"HTTP/1.1 400 X\r\nContent-Length: 0\r\n\r\n", close=True),
        "no_answer",
        "tls_failed|timeout",
    ),
    "gone": (answering(b"HTTP/1.1 410 X\r\nContent-Length: 0\r\n\r\n"), "refused", "http_410"),
}


async def test_a_zoo_of_receivers_is_recorded_for_what_it_is_and_the_worker_lives(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(a_cluster(tmp_path, lease="30s", forks=True))
        node = await asyncio.to_thread(cluster.start)
        zoo = {name: await stack.enter_async_context(receiving(script)) for name, (script, _, _) in ZOO.items()}
        urls = {name: place.url("/hook", "https" if name == "no tls" else "http") for name, place in zoo.items()}
        due = soon(3)
        events = {}
        for name, url in {**urls, "no such name": "https://nothing.invalid/"}.items():
            action = {"type": "webhook", "params": {"url": url, "timeout": "3s"}}
            events[name] = await asyncio.to_thread(
                node.create, schedule=due.isoformat(), action=action, retry={"max_attempts": 1}
            )
        good = await asyncio.to_thread(node.create, schedule=due.isoformat(), action=webhook(receiver))
        await all_finished(node, [*(event["id"] for event in events.values()), good["id"]])
        assert len(zoo["a redirect to itself"].requests) == 1
        for name, event in events.items():
            [row] = await asyncio.to_thread(node.occurrences, event["id"])
            [attempt] = await asyncio.to_thread(node.attempts, row["id"])
            _, outcome, error = ZOO.get(name, (None, "no_answer", "connection_failed"))
            assert attempt["outcome"] == outcome, name
            assert re.fullmatch(error, attempt["error"] or ""), (name, attempt["error"])
            assert row["status"] == ("completed" if outcome == "accepted" else "failed"), name
            assert (row.get("reason") == "gone") == (name == "gone")
        assert len(receiver.log) == 1
        assert "exception" not in node.log.read_text()


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [("31536000", 86_400, 86_400), ("0", 1, 2), ("7", 7, 7), ("-5", 1, 2), ("soon", 1, 2), ("1e9", 1, 2)],
)
async def test_retry_after_is_waited_for_within_its_bounds_and_rubbish_is_not(
    shared_node: Node, said: str, least: int, most: int
) -> None:
    """F56. The event's own wait is a second."""
    reply = f"HTTP/1.1 503 X\r\nRetry-After: {said}\r\nContent-Length: 0\r\n\r\n".encode()
    async with receiving(answering(reply)) as busy:
        action = {"type": "webhook", "params": {"url": busy.url()}}
        retry = {"max_attempts": 9, "delays": ["1s"]}
        event = await asyncio.to_thread(shared_node.create, schedule="@yearly", action=action, retry=retry)
        run = (await asyncio.to_thread(shared_node.ask, "POST", f"/events/{event['id']}/trigger"))[1]
        async with asyncio.timeout(20):
            while not (attempts := await asyncio.to_thread(shared_node.attempts, run["id"])):
                await asyncio.sleep(0.05)
    first = attempts[0]
    wait = _instant(first["retry_at"]) - _instant(first["finished_at"])
    assert least <= wait.total_seconds() <= most * 1.2 + 0.01  # a jitter of at most a fifth
    await asyncio.to_thread(shared_node.ask, "DELETE", f"/events/{event['id']}")


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with a_cluster(tmp_path_factory.mktemp("shared"), forks=True) as cluster:
        yield cluster.start()


async def test_a_given_secret_signs_after_a_restart(cluster: Cluster) -> None:
    """L16."""
    async with receiving(answering(OK)) as receiver:
        node = await asyncio.to_thread(cluster.start)
        action = {"type": "webhook", "params": {"url": receiver.url()}}
        event = await asyncio.to_thread(
            node.create, schedule=soon(3).isoformat(), action=action, hmac_secret="given by its owner, 24 bytes"
        )
        node.kill()
        node = await asyncio.to_thread(cluster.start)
        await all_finished(node, [event["id"]])
    [request] = receiver.requests
    told: Any = Webhook(b"given by its owner, 24 bytes").verify(request.body, request.headers)
    assert told["event_id"] == event["id"]
    assert "hmac_secret" not in (await asyncio.to_thread(node.ask, "GET", f"/events/{event['id']}"))[1]


# --- sockets ------------------------------------------------------------------------------------------------


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(settings_in(tmp_path)) as made:
        yield made


async def test_a_socket_that_reads_nothing_delays_no_other_delivery(served: Served) -> None:
    """L6."""
    token = await served.token("ann")
    async with connect(served.url) as stalled, connect(served.url, max_size=None) as other:
        for socket, name in ((stalled, "stalled"), (other, "other")):
            hook = {"type": "client-hook", "client_name": name, "token": token}
            assert (await said(socket, **hook))["type"] == "ack"
        stalled.transport.pause_reading()
        large = {"filling": "x" * 60_000}
        full = await served.event(client="stalled", metadata=large)
        for _ in range(100):  # six megabytes: more than what lies between
            await served.due(full)
        wanted = await served.due(await served.event(client="other"))
        frame = await asyncio.wait_for(heard(other), 15)
        assert frame["occurrence_id"] == str(wanted.id)
        stalled.transport.abort()
