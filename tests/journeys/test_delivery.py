"""The main job, through the front door: a real server process, a real receiver, the reference verifier."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.faults.rig.nodes import Cluster, Node
from tests.faults.rig.receiver import Receiver, a_receiver
from tests.journeys.serving import place as place

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with a_receiver() as made:
        yield made


async def started(place: Cluster, number: int = 1) -> Node:
    return await asyncio.to_thread(place.start, number)


async def created(node: Node, receiver: Receiver, **fields: Any) -> dict[str, Any]:
    action = {"type": "webhook", "params": {"url": receiver.url()}}
    return await asyncio.to_thread(node.create, action=action, **fields)


async def rows_of(node: Node, event: dict[str, Any]) -> list[dict[str, Any]]:
    return await asyncio.to_thread(node.occurrences, event["id"])


async def ended(node: Node, event: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            for row in await rows_of(node, event):
                if row["status"] == status:
                    return row
            await asyncio.sleep(0.05)


async def test_it_arrives_on_time_signed_and_is_on_record(place: Cluster, receiver: Receiver) -> None:
    node = await started(place)
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    event = await created(node, receiver, schedule=due.isoformat(), hmac_secret=SECRET, metadata={"n": 1})
    (planned,) = await rows_of(node, event)
    await receiver.until(lambda log: bool(log), within=30)
    row = await ended(node, event)

    (request,) = receiver.log
    assert request.at >= due.timestamp()
    assert request.webhook_id == row["id"] == planned["id"]
    assert request.scheduled_at == row["scheduled_at"]
    (attempt,) = await asyncio.to_thread(node.attempts, row["id"])
    assert (attempt["number"], attempt["outcome"], attempt["status_code"]) == (1, "accepted", 200)


async def test_the_reference_library_verifies_what_was_sent(place: Cluster) -> None:
    node = await started(place)
    heard: asyncio.Future[tuple[dict[str, str], bytes]] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in head.split("\r\n")[1:])}
        heard.set_result((headers, await reader.readexactly(int(headers["content-length"]))))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    fields = {"schedule": "in 1s", "webhook": url, "hmac_secret": SECRET}
    await asyncio.to_thread(node.create, **fields)
    headers, body = await asyncio.wait_for(heard, 30)
    server.close()

    Webhook(SECRET).verify(body.decode(), headers)
    key = Webhook(SECRET)._whsecret
    assert headers["x-qhronos-signature"] == hmac.new(key, body, hashlib.sha256).hexdigest()
    assert headers["idempotency-key"] == headers["webhook-id"]


async def test_a_failing_receiver_is_tried_again_and_what_never_works_ends_failed(
    place: Cluster, receiver: Receiver
) -> None:
    node = await started(place)
    receiver.answers = lambda _path, nth: 503 if nth == 1 else 500
    retry = {"max_attempts": 2, "delays": ["1s"]}
    event = await created(node, receiver, schedule="in 1s", retry=retry)
    row = await ended(node, event, "failed")
    assert (row["reason"], row["attempts_made"]) == ("exhausted", 2)
    assert [a["status_code"] for a in await asyncio.to_thread(node.attempts, row["id"])] == [503, 500]

    receiver.answers = lambda _path, _nth: 200
    status, again = await asyncio.to_thread(node.ask, "POST", f"/occurrences/{row['id']}/retry", {})
    assert (status, again["id"], again["status"]) == (200, row["id"], "pending")
    assert (await ended(node, event))["id"] == row["id"]


async def test_a_recurring_event_goes_on_and_a_paused_or_deleted_one_stops(place: Cluster, receiver: Receiver) -> None:
    node = await started(place)
    event = await created(node, receiver, schedule="every 1s")
    await receiver.until(lambda log: len(log) >= 3, within=30)
    await asyncio.to_thread(node.ask, "PUT", f"/events/{event['id']}", {"status": "paused"})
    heard = len(receiver.log)
    await asyncio.sleep(2.5)
    assert len(receiver.log) <= heard + 1  # one may have been on its way
    await asyncio.to_thread(node.ask, "PUT", f"/events/{event['id']}", {"status": "active"})
    heard = len(receiver.log)
    await receiver.until(lambda log: len(log) > heard, within=30)
    await asyncio.to_thread(node.ask, "DELETE", f"/events/{event['id']}")
    heard = len(receiver.log)
    await asyncio.sleep(2.5)
    assert len(receiver.log) <= heard + 1
    assert len({request.webhook_id for request in receiver.log}) == len(receiver.log)


async def test_killed_and_started_again_it_keeps_events_tokens_and_ids(place: Cluster, receiver: Receiver) -> None:
    node = await started(place)
    event = await created(node, receiver, schedule="in 5s")
    (planned,) = await rows_of(node, event)
    node.kill()
    again = await started(place)
    row = await ended(again, event)
    assert row["id"] == planned["id"] == receiver.log[0].webhook_id
    assert time.time() >= receiver.log[0].at
