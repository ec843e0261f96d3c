"""Many nodes, one service: fired on one, received on another, by every way there is.

Real processes on PostgreSQL and Redis. The nodes of `pair` look at the store by themselves once an hour only, so that what
is heard there in time was told through Redis (a wait and a tag listener, which look every few seconds in any case, are
heard too). Those of `polling` look every second: with Redis gone that is how they hear.
"""

import asyncio
import json
import signal
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from mcp.client.extension import ClientExtension
from websockets.asyncio.client import ClientConnection

from qhronos_mcp.mcp_server.push import INBOX
from tests.faces.mcp import test_waits
from tests.faces.mcp.speakers import MODERN, Speaker
from tests.faces.mcp.test_waits import Patient, task
from tests.faces.mcp_events.asking import Frames, ask
from tests.faces.mcp_events.receiver import a_receiver
from tests.faults.rig.nodes import Cluster, Node, a_cluster, free_port
from tests.journeys import clients
from tests.journeys.clients import WITHIN, frame, soon
from tests.servers import Postgres, Redis, ServerMissing, private_redis

T = TypeVar("T")

CALLBACK_PORT: Final = free_port()


@dataclass
class Pair:
    """Two nodes, `a` and `b`, and a token that was minted on `a`."""

    cluster: Cluster
    redis: Redis
    token: str = ""
    events: int = field(default=0)

    @property
    def a(self) -> Node:
        return self.cluster.nodes[1]

    @property
    def b(self) -> Node:
        return self.cluster.nodes[2]

    def start(self) -> None:
        for number in (1, 2):
            self.cluster.start(number)

    def restart(self) -> None:
        for node in (self.a, self.b):
            assert node.stopped_by(signal.SIGTERM) == -signal.SIGTERM
        self.start()

    def mint(self, sub: str) -> tuple[str, str]:
        until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        asked = {"sub": sub, "access": "write", "scope": ["user:ann"], "expires_at": until}
        status, made = self.a.ask("POST", "/tokens", asked)
        assert status == 201, made
        return made["token"], made["jti"]

    async def event(self, **fields: Any) -> str:
        """Made on `a`; ann's. Its next instant is a year away."""
        self.events += 1
        given = {"name": f"event {self.events}", "schedule": "@yearly", "tags": ["user:ann"], **fields}
        made = await asyncio.to_thread(self.a.create, **given)
        return str(made["id"])

    async def fire(self, event_id: str) -> str:
        """It falls due on `a`; the occurrence's id."""
        status, made = await asyncio.to_thread(self.a.ask, "POST", f"/events/{event_id}/trigger")
        assert status == 201, made
        return str(made["id"])

    def speaker(
        self, node: Node, version: str, extensions: Sequence[ClientExtension] = ()
    ) -> AbstractAsyncContextManager[Speaker]:
        return clients.speaker(node, self.token, version, extensions)

    def stream(self, node: Node, **given: Any) -> AbstractAsyncContextManager[Frames]:
        return clients.event_stream(node, self.token, **given)

    def socket(self, node: Node, **first: Any) -> AbstractAsyncContextManager[ClientConnection]:
        return clients.socket(node, self.token, **first)


async def until(true: Callable[[], Awaitable[T | None]]) -> T:
    async with asyncio.timeout(WITHIN):
        while (found := await true()) is None:
            await asyncio.sleep(0.1)
        return found


@contextmanager
def a_pair(directory: Path, postgres: Postgres, *, poll: str) -> Iterator[Pair]:
    with ExitStack() as stack:
        try:
            redis = stack.enter_context(private_redis())
        except ServerMissing as missing:
            pytest.skip(str(missing))
        url = postgres.new_database()
        settings = {
            "QHRONOS_SCHEDULER__POLL": poll,
            "QHRONOS_SCHEDULER__LEASE": "1m",
            "QHRONOS_EVENTS__DEV_ORIGINS": f"http://127.0.0.1:{CALLBACK_PORT}",
        }
        cluster = stack.enter_context(
            a_cluster(directory, database_url=url, redis_url=redis.url, settings=settings),
        )
        pair = Pair(cluster, redis)
        pair.start()
        pair.token = pair.mint("ann")[0]
        yield pair


@pytest.fixture(scope="module")
def pair(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with a_pair(tmp_path_factory.mktemp("pair"), postgres_server, poll="1h") as made:
        yield made


@pytest.fixture(scope="module")
def polling(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with a_pair(tmp_path_factory.mktemp("polling"), postgres_server, poll="1s") as made:
        yield made


# --- each way, through Redis -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [MODERN, "2025-11-25", "2025-06-18"])
async def test_a_subscribed_client_on_the_other_node_is_told(pair: Pair, version: str) -> None:
    """`subscriptions/listen`, and `resources/subscribe` with its GET stream."""
    event_id = await pair.event()
    async with pair.speaker(pair.b, version) as speaker, speaker.watching(INBOX, f"qhronos://events/{event_id}") as ear:
        occurrence_id = await pair.fire(event_id)
        await ear.until(INBOX)
        await ear.until(f"qhronos://events/{event_id}")
        [item] = (await speaker.call("wait_for_occurrences", event_id=event_id))["occurrences"]
        assert item["id"] == occurrence_id


async def test_a_wait_on_the_other_node_is_answered(pair: Pair) -> None:
    event_id = await pair.event()
    async with pair.speaker(pair.b, MODERN) as speaker:
        wait = asyncio.create_task(speaker.call("wait_for_occurrences", event_id=event_id, seconds=50))
        while not await clients.open_on(pair.b, "waits"):
            await asyncio.sleep(0.05)
        occurrence_id = await pair.fire(event_id)
        assert [item["id"] for item in (await soon(wait))["occurrences"]] == [occurrence_id]
        async with pair.speaker(pair.a, "2025-11-25") as elsewhere:
            done = await elsewhere.call("acknowledge_occurrence", occurrence_id=occurrence_id, outcome="done")
            assert done["occurrence"]["status"] == "completed"


async def test_an_event_stream_on_the_other_node_tells(pair: Pair) -> None:
    event_id = await pair.event()
    async with pair.stream(pair.b, name="occurrence.due", arguments={"event_id": event_id}) as frames:
        occurrence_id = await pair.fire(event_id)
        told = await soon(frames.notified("event"))
        assert told["eventId"] == occurrence_id


async def test_an_event_poll_goes_on_from_a_cursor_of_the_other_node(pair: Pair) -> None:
    event_id = await pair.event()
    asked = {"name": "occurrence.due", "arguments": {"event_id": event_id}}
    async with pair.speaker(pair.b, MODERN) as there, pair.speaker(pair.a, MODERN) as here:
        cursor = (await ask(there, "poll", **asked))["cursor"]
        fired = []
        for node in (there, here, there):
            fired.append(await pair.fire(event_id))

            async def news(speaker: Speaker = node, since: str = cursor) -> dict[str, Any] | None:
                batch = await ask(speaker, "poll", **asked, cursor=since)
                assert not batch["truncated"]
                return batch if batch["events"] else None

            batch = await until(news)
            assert [told["eventId"] for told in batch["events"]] == fired[-1:]
            cursor = batch["cursor"]


async def test_a_webhook_subscribed_on_the_other_node_is_called_once(pair: Pair) -> None:
    event_id = await pair.event()
    async with a_receiver(CALLBACK_PORT) as receiver, pair.speaker(pair.b, MODERN) as speaker:
        delivery = {"mode": "webhook", "url": receiver.url, "secret": "whsec_" + b64encode(b"k" * 32).decode()}
        asked = {"name": "occurrence.due", "arguments": {"event_id": event_id}, "delivery": delivery}
        await ask(speaker, "subscribe", **asked)
        fired = []
        for _ in range(3):
            fired.append(await pair.fire(event_id))
            await soon(receiver.until(lambda: len(receiver.events) >= len(fired)))
        assert [told["eventId"] for told in receiver.events] == fired
        async with pair.speaker(pair.a, MODERN) as elsewhere:
            await ask(elsewhere, "unsubscribe", **asked)


async def test_a_client_connected_to_the_other_node_is_handed_its_occurrence(pair: Pair) -> None:
    event_id = await pair.event(action={"type": "websocket", "params": {"client_name": "laptop"}})
    async with pair.socket(pair.b, type="client-hook", client_name="laptop") as socket:
        for _ in range(3):
            occurrence_id = await pair.fire(event_id)
            told = await frame(socket)
            assert (told["type"], told["occurrence_id"], told["attempt"]) == ("event", occurrence_id, 1)
            await socket.send(json.dumps({"type": "ack", "occurrence_id": occurrence_id}))
            assert await frame(socket) == {"type": "ack", "occurrence_id": occurrence_id, "status": "completed"}
            attempts = await asyncio.to_thread(pair.a.attempts, occurrence_id)
            assert [attempt["outcome"] for attempt in attempts] == ["accepted"]


async def test_a_tag_listener_on_the_other_node_has_its_copy(pair: Pair) -> None:
    event_id = await pair.event(tags=["user:ann", "news"])
    async with pair.socket(pair.b, type="tag-listener", tags=["news"]) as socket:
        occurrence_id = await pair.fire(event_id)
        assert (await frame(socket))["occurrence_id"] == occurrence_id


async def test_each_node_knows_of_both_and_tells_the_same_of_what_is_due(pair: Pair) -> None:
    told = [await asyncio.to_thread(node.ask, "GET", "/status") for node in (pair.a, pair.b)]
    own = {answer["node"] for _, answer in told}
    assert len(own) == 2
    for status, answer in told:
        assert status == 200
        assert own <= set(answer["nodes"])
        assert (answer["due"], answer["oldest_due_seconds"]) == (0, 0)


async def test_a_token_revoked_on_one_node_ends_its_stream_on_the_other(pair: Pair) -> None:
    token, jti = pair.mint("gone")
    gone = Pair(pair.cluster, pair.redis, token)
    async with gone.speaker(pair.b, MODERN) as speaker, speaker.watching(INBOX) as ear:
        assert (await asyncio.to_thread(pair.a.ask, "DELETE", f"/tokens/{jti}"))[0] == 200
        await soon(ear.ended.wait())


async def test_a_task_begun_on_one_node_is_answered_by_the_other_after_both_were_restarted(pair: Pair) -> None:
    event_id = await pair.event()
    patient = Patient()
    async with pair.speaker(pair.a, MODERN, [patient]) as speaker:
        begun = await task(speaker, patient, event_id=event_id)
    async with pair.speaker(pair.b, MODERN, [Patient()]) as speaker:
        assert (await test_waits.ask(speaker, "tasks/get", begun.task_id)).status == "working"
    await asyncio.to_thread(pair.restart)
    occurrence_id = await pair.fire(event_id)
    told = []
    for node in (pair.b, pair.a):
        async with pair.speaker(node, MODERN, [Patient()]) as speaker:

            async def done(speaker: Speaker = speaker) -> dict[str, Any] | None:
                return (await test_waits.ask(speaker, "tasks/get", begun.task_id)).result

            told.append(await until(done))
    assert [item["id"] for item in told[0]["structuredContent"]["occurrences"]] == [occurrence_id]
    assert told[1] == told[0]


# --- Redis comes and goes ----------------------------------------------------------------------------------


async def test_all_of_them_hear_with_redis_flushed_stopped_and_back(polling: Pair) -> None:
    """P8: slower, never wrong."""
    pair = polling
    inbox_event, ws_event = (
        await pair.event(tags=["user:ann", "news"]),
        await pair.event(action={"type": "websocket", "params": {"client_name": "laptop"}}),
    )
    delivery = {"mode": "webhook", "secret": "whsec_" + b64encode(b"k" * 32).decode()}
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(a_receiver(CALLBACK_PORT))
        modern = await stack.enter_async_context(pair.speaker(pair.b, MODERN))
        legacy = await stack.enter_async_context(pair.speaker(pair.b, "2025-11-25"))
        ears = [await stack.enter_async_context(speaker.watching(INBOX)) for speaker in (modern, legacy)]
        wanted = {"name": "occurrence.due", "arguments": {"event_id": inbox_event}}
        frames = await stack.enter_async_context(pair.stream(pair.b, **wanted))
        await ask(modern, "subscribe", **wanted, delivery={**delivery, "url": receiver.url})
        listener = await stack.enter_async_context(pair.socket(pair.b, type="tag-listener", tags=["news"]))
        hook = await stack.enter_async_context(pair.socket(pair.b, type="client-hook", client_name="laptop"))
        for number, change in enumerate((pair.redis.flush, pair.redis.stop, pair.redis.start), start=1):
            await asyncio.to_thread(change)
            for ear in ears:
                ear.heard.clear()
            wait = asyncio.create_task(modern.call("wait_for_occurrences", event_id=inbox_event, seconds=50))
            occurrence_id, handed = await pair.fire(inbox_event), await pair.fire(ws_event)
            for ear in ears:
                await ear.until(INBOX)
            assert (await soon(frames.notified("event")))["eventId"] == occurrence_id
            assert [item["id"] for item in (await soon(wait))["occurrences"]] == [occurrence_id]
            assert (await frame(listener))["occurrence_id"] == occurrence_id
            assert (await frame(hook))["occurrence_id"] == handed
            await hook.send(json.dumps({"type": "ack", "occurrence_id": handed}))
            assert (await frame(hook))["status"] == "completed"
            await soon(receiver.until(lambda count=number: len(receiver.events) >= count))  # type: ignore[misc]
            assert receiver.events[-1]["eventId"] == occurrence_id
        assert len(receiver.events) == 3
        token, jti = pair.mint("gone")
        await asyncio.to_thread(pair.redis.stop)
        gone = Pair(pair.cluster, pair.redis, token)
        async with gone.speaker(pair.b, MODERN) as speaker, speaker.watching(INBOX) as ear:
            assert (await asyncio.to_thread(pair.a.ask, "DELETE", f"/tokens/{jti}"))[0] == 200
            await soon(ear.ended.wait())
