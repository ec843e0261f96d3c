"""`/ws` over a real server and a client that is not ours (rest.md §8)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from qhronos_core.config import Settings, load
from qhronos_core.domain.access import Access, Principal
from qhronos_core.domain.errors import StoreUnavailableError
from qhronos_core.ports import RateLimit, Stirred
from qhronos_core.wiring import Core, open_core
from qhronos_mcp import bounded_websocket, sockets
from qhronos_mcp.app import build_app, uvicorn_config
from qhronos_mcp.sockets import Sockets
from tests import canaries
from tests.clock import FakeClock
from tests.world import NOON

PING, PONG, CLOSE = 0x9, 0xA, 0x8
MASTER = Principal.of_master()
ADMIN = Principal("root", Access.ADMIN, frozenset(), holder="root")


class Served:
    def __init__(self, core: Core, sockets: Sockets, server: uvicorn.Server) -> None:
        self.core = core
        self.sockets = sockets
        self.server = server
        self.port = port = server.servers[0].sockets[0].getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/ws"

    async def token(self, sub: str, access: str = "write", *scope: str) -> str:
        minted = await self.core.tokens.mint(
            {"sub": sub, "access": access, "scope": list(scope) or [f"user:{sub}"]}, caller=MASTER
        )
        return minted.token

    async def event(self, sub: str = "ann", client: str = "ann-laptop", **fields: Any) -> Any:
        caller = Principal(sub, Access.WRITE, frozenset({f"user:{sub}"}), holder=sub)
        action = {"type": "websocket", "params": {"client_name": client}}
        given = {"name": "n", "schedule": "in 1 hour", "action": action, **fields}
        return (await self.core.events.create(given, caller=caller)).event

    async def due(self, event: Any) -> Any:
        return (await self.core.events.trigger(event.id, caller=ADMIN)).occurrence

    async def until(self, occurrence: Any, *states: str) -> Any:
        async with asyncio.timeout(10):
            while True:
                row = await self.core.store.occurrences.get(occurrence.id)
                if row.state in states:
                    return row
                await asyncio.sleep(0.02)


def settings_file(directory: Path) -> Path:
    config = directory / "config.yaml"
    config.write_text("server: {}\n")
    return config


def environ_in(directory: Path) -> dict[str, str]:
    return {"QHRONOS_DATA_DIR": str(directory / "data"), "HOME": str(directory)}


def settings_in(directory: Path) -> Settings:
    return load(settings_file(directory), environ_in(directory))


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Served]:
    async with open_core(settings) as core:
        app = build_app(core, settings)
        config = uvicorn_config(app, settings)
        config.port = 0
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.create_task(server.serve())
        async with asyncio.timeout(20):
            while not server.started:
                await asyncio.sleep(0.01)
        try:
            yield Served(core, app.state.sockets, server)
        finally:
            server.should_exit = True
            await task


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(settings_in(tmp_path)) as made:
        yield made


async def said(socket: ClientConnection, **frame: Any) -> dict[str, Any]:
    await socket.send(json.dumps(frame))
    return await heard(socket)


async def heard(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        frame: dict[str, Any] = json.loads(await socket.recv())
        return frame


async def closed_with(socket: ClientConnection) -> int:
    async with asyncio.timeout(12):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 0


def bearer(token: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}"}}


async def test_a_hooked_client_is_handed_its_occurrence_and_its_ack_completes_it(served: Served) -> None:
    event = await served.event(tags=["user:ann", "news"], metadata={"n": 1})
    async with connect(served.url) as socket:
        registered = await said(socket, type="client-hook", client_name="ann-laptop", token=await served.token("ann"))
        assert registered == {"type": "ack", "message": "subscription registered"}
        occurrence = await served.due(event)
        frame = await heard(socket)
        assert (frame["type"], frame["occurrence_id"], frame["attempt"]) == ("event", str(occurrence.id), 1)
        assert (frame["event_id"], frame["metadata"], frame["tags"]) == (str(event.id), {"n": 1}, ["user:ann", "news"])
        assert (await served.until(occurrence, "dispatched")).state == "dispatched"
        answer = await said(
            socket, type="ack", event_id=str(event.id), occurrence_id=str(occurrence.id), outcome="done"
        )
        assert answer == {"type": "ack", "occurrence_id": str(occurrence.id), "status": "completed"}
    assert (await served.core.store.occurrences.get(occurrence.id)).state == "completed"


async def test_without_a_client_anywhere_it_is_a_refused_attempt(served: Served) -> None:
    occurrence = await served.due(await served.event())
    row = await served.until(occurrence, "pending")
    async with asyncio.timeout(10):
        while not (attempts := await served.core.store.occurrences.attempts(row.id)):
            await asyncio.sleep(0.02)
    assert (attempts[0].outcome, attempts[0].error) == ("refused", "no_client")


async def test_a_socket_that_ends_gives_back_what_it_has_not_acknowledged(served: Served) -> None:
    event = await served.event(retry={"max_attempts": 3, "delays": ["1s"]})
    token = await served.token("ann")
    async with connect(served.url, **bearer(token)) as socket:
        await said(socket, type="client-hook", client_name="ann-laptop")
        occurrence = await served.due(event)
        await heard(socket)
        await served.until(occurrence, "dispatched")
    await served.until(occurrence, "pending", "dispatching")
    async with connect(served.url, **bearer(token)) as socket:
        await said(socket, type="client-hook", client_name="ann-laptop")
        again = await heard(socket)
        assert again["occurrence_id"] == str(occurrence.id)
        assert again["attempt"] >= 2


async def test_a_token_that_may_not_write_the_event_gets_no_frame_of_it(served: Served) -> None:
    event = await served.event()
    async with connect(served.url, **bearer(await served.token("bob"))) as stranger:
        await said(stranger, type="client-hook", client_name="ann-laptop")
        await served.due(event)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await stranger.recv()


async def test_a_tag_listener_gets_copies_of_what_it_may_read_and_nothing_else(served: Served) -> None:
    mine = await served.event(tags=["user:ann", "news"])
    theirs = await served.event("bob", "bob-laptop", tags=["user:bob", "news"])
    async with connect(served.url, **bearer(await served.token("ann", "read"))) as socket:
        await said(socket, type="tag-listener", tags=["news"])
        await served.due(theirs)
        occurrence = await served.due(mine)
        frame = await heard(socket)
        assert frame["occurrence_id"] == str(occurrence.id)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await socket.recv()


async def test_a_read_token_may_not_hook(served: Served) -> None:
    async with connect(served.url, **bearer(await served.token("ann", "read"))) as socket:
        answer = await said(socket, type="client-hook", client_name="ann-laptop")
        assert answer["code"] == "forbidden"
        assert await closed_with(socket) == 4403


async def test_a_master_that_may_not_use_the_api_may_not_listen_either(tmp_path: Path) -> None:
    confined = {"QHRONOS_MASTER_TOKEN": canaries.MASTER, "QHRONOS_AUTH__MASTER_MAY_USE_API": "false"}
    async with (
        serving(load(settings_file(tmp_path), {**environ_in(tmp_path), **confined})) as served,
        connect(served.url, **bearer(canaries.MASTER)) as socket,
    ):
        answer = await said(socket, type="tag-listener", tags=["news"])
        assert answer["code"] == "forbidden"
        assert await closed_with(socket) == 4403


async def test_on_one_socket_each_registration_goes_by_the_token_it_came_with(served: Served) -> None:
    event = await served.event(tags=["user:ann", "news"])
    theirs = await served.event("bob", "bob-laptop", tags=["user:bob", "news"])
    async with connect(served.url) as socket:
        await said(socket, type="client-hook", client_name="ann-laptop", token=await served.token("ann"))
        await said(socket, type="tag-listener", tags=["news"], token=await served.token("bob", "read"))
        occurrence, copied = await served.due(event), await served.due(theirs)
        frames = [await heard(socket), await heard(socket)]
        assert {frame["occurrence_id"] for frame in frames} == {str(occurrence.id), str(copied.id)}
        answer = await said(socket, type="ack", event_id=str(event.id), occurrence_id=str(occurrence.id))
        assert answer == {"type": "ack", "occurrence_id": str(occurrence.id), "status": "completed"}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await socket.recv()


async def test_a_socket_ends_with_any_token_it_goes_by(served: Served) -> None:
    async with connect(served.url) as socket:
        await said(socket, type="client-hook", client_name="ann-laptop", token=await served.token("ann"))
        await said(socket, type="tag-listener", tags=["news"], token=await served.token("bob", "read"))
        await served.core.tokens.revoke(sub="ann", caller=MASTER)
        assert await closed_with(socket) == 4401


@pytest.mark.parametrize(
    "first",
    [
        {"type": "client-hook", "client_name": "x", "token": "nonsense"},
        {"type": "client-hook", "client_name": "x"},
        {"type": "tag-listener", "tags": ["a"], "token": 7},
        {"type": "nonsense"},
    ],
)
async def test_a_first_frame_that_proves_nothing_ends_the_socket(served: Served, first: dict[str, Any]) -> None:
    async with connect(served.url) as socket:
        await socket.send(json.dumps(first))
        assert await closed_with(socket) == 4401


async def test_a_bad_bearer_ends_the_socket(served: Served) -> None:
    async with connect(served.url, **bearer("not-a-token")) as socket:
        assert await closed_with(socket) == 4401


async def test_three_bad_frames_in_a_row_end_it_and_two_do_not(served: Served) -> None:
    async with connect(served.url, **bearer(await served.token("ann"))) as socket:
        await said(socket, type="tag-listener", tags=["a"])
        for frame in ("{", '{"type": "what"}'):
            await socket.send(frame)
            assert (await heard(socket))["type"] == "error"
        assert (await said(socket, type="tag-listener", tags=["b"]))["type"] == "ack"
        for frame in ("{", "[]", '{"type": 7}'):
            await socket.send(frame)
        assert await closed_with(socket) == 4400


async def test_a_revoked_tokens_socket_ends_within_five_seconds(served: Served) -> None:
    token = await served.token("ann")
    async with connect(served.url, **bearer(token)) as socket:
        await said(socket, type="tag-listener", tags=["a"])
        await served.core.tokens.revoke(sub="ann", caller=MASTER)
        assert await closed_with(socket) == 4401


async def test_a_page_of_a_foreign_origin_is_not_let_in(served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(served.url, origin="https://evil.example"):  # type: ignore[arg-type]
            pass
    assert refused.value.response.status_code == 403


async def test_an_acknowledgement_of_somebody_elses_occurrence_reads_as_absent(served: Served) -> None:
    occurrence = await served.due(await served.event())
    async with connect(served.url, **bearer(await served.token("bob"))) as socket:
        answer = await said(socket, type="ack", occurrence_id=str(occurrence.id))
        assert (answer["type"], answer["code"]) == ("error", "occurrence_not_found")


async def test_several_sockets_of_one_name_take_turns(served: Served) -> None:
    event = await served.event()
    token = await served.token("ann")
    async with connect(served.url, **bearer(token)) as one, connect(served.url, **bearer(token)) as other:
        for socket in (one, other):
            await said(socket, type="client-hook", client_name="ann-laptop")
        sent = {str((await served.due(event)).id) for _ in range(2)}
        got = {(await heard(one))["occurrence_id"], (await heard(other))["occurrence_id"]}
        assert got == sent


# --- access, at each send ------------------------------------------------------------------------------


async def test_who_may_have_it_is_judged_at_each_send(served: Served) -> None:
    shared = await served.event()
    by_tag = await served.event(tags=["user:ann", "news"], action={"type": "inbox"})
    token = await served.token("bea", "write", "user:ann")
    async with connect(served.url, **bearer(token)) as socket:
        await said(socket, type="client-hook", client_name="ann-laptop")
        await said(socket, type="tag-listener", tags=["news"])
        for event in (shared, by_tag):
            occurrence = await served.due(event)
            assert (await heard(socket))["occurrence_id"] == str(occurrence.id)
            await served.core.events.update(event.id, {"tags": ["user:zoe", "news"]}, caller=ADMIN)
            await served.due(event)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await socket.recv()


async def test_of_a_deleted_event_a_listener_hears_nothing(served: Served) -> None:
    event = await served.event(tags=["user:ann", "news"])
    cursor = await served.core.journal.end()
    await served.due(event)
    await served.core.events.delete(event.id, caller=ADMIN)
    async with connect(served.url, **bearer(await served.token("ann"))) as socket:
        await said(socket, type="tag-listener", tags=["news"])
        served.sockets._cursor = cursor  # as if it had been slow to read
        await served.core.signals.announce(Stirred())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await socket.recv()


async def test_a_token_in_the_query_proves_nothing(served: Served) -> None:
    async with connect(f"{served.url}?token={await served.token('ann')}") as socket:
        await socket.send(json.dumps({"type": "client-hook", "client_name": "ann-laptop"}))
        assert await closed_with(socket) == 4401


# --- frames --------------------------------------------------------------------------------------------


async def test_without_a_first_frame_it_ends(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "FIRST_FRAME_WITHIN", 0.1)
    async with connect(served.url, **bearer(await served.token("ann"))) as socket:
        assert await closed_with(socket) == 4408


async def test_a_frame_of_64_kib_is_read_and_a_larger_one_ends_it(served: Served) -> None:
    async with connect(served.url, **bearer(await served.token("ann"))) as socket:
        frame = json.dumps({"type": "tag-listener", "tags": ["a"]})
        await socket.send(frame + " " * (64 * 1024 - len(frame)))
        assert (await heard(socket))["type"] == "ack"
        await socket.send(frame + " " * (64 * 1024 - len(frame) + 1))
        assert await closed_with(socket) == 4400


async def test_every_bad_frame_is_answered_the_last_one_too(served: Served) -> None:
    async with connect(served.url, **bearer(await served.token("ann"))) as socket:
        for frame in (b"bytes", "{", '{"type": "tag-listener", "tags": []}'):
            await socket.send(frame)
        assert [(await heard(socket))["type"] for _ in range(3)] == ["error"] * 3
        assert await closed_with(socket) == 4400
    async with connect(served.url) as stranger:
        await stranger.send("no JSON")
        assert (await heard(stranger))["code"] == "invalid_json"
        assert await closed_with(stranger) == 4401


async def test_an_acknowledgement_that_is_refused_is_no_bad_frame(served: Served) -> None:
    event = await served.event()
    async with connect(served.url, **bearer(await served.token("ann"))) as socket:
        await said(socket, type="client-hook", client_name="ann-laptop")
        occurrence = await served.due(event)
        await heard(socket)
        ack = {"type": "ack", "occurrence_id": str(occurrence.id)}
        wrong = await said(socket, **ack, event_id=str(occurrence.id))
        assert wrong["code"] == "invalid_argument"
        later = await said(socket, **ack, outcome="later", delay="1h", note="busy")
        assert later == {"type": "ack", "occurrence_id": str(occurrence.id), "status": "pending"}
        assert (await said(socket, **ack))["status"] == "completed"  # `done`, by default
        for _ in range(4):
            assert (await said(socket, **ack, outcome="failed"))["code"] == "already_settled"


async def test_frames_come_out_of_the_tokens_bucket_whatever_the_face(tmp_path: Path) -> None:
    """rest.md §5: one bucket per token. Over it a frame does nothing, and the socket goes on: frames may be sent again."""
    config = tmp_path / "config.yaml"
    config.write_text("rate_limits: {read_write: {per_minute: 1, burst: 3}}")
    async with serving(load(config, environ_in(tmp_path))) as served:
        event, token = await served.event(), await served.token("ann")
        async with connect(served.url, **bearer(token)) as socket:
            assert (await said(socket, type="client-hook", client_name="ann-laptop"))["type"] == "ack"
            occurrence = await served.due(event)
            assert (await heard(socket))["occurrence_id"] == str(occurrence.id)  # what is sent to it costs nothing
            other = {"type": "ack", "occurrence_id": str(event.id)}
            assert [(await said(socket, **other))["code"] for _ in range(2)] == ["occurrence_not_found"] * 2
            ack = {"type": "ack", "occurrence_id": str(occurrence.id)}
            for _ in range(sockets.BAD_FRAMES_MOST + 1):
                refused = await said(socket, **ack)
                assert (refused["type"], refused["code"]) == ("error", "rate_limited")
            await served.until(occurrence, "dispatched")
            async with httpx2.AsyncClient() as client:
                url = f"http://127.0.0.1:{served.port}/events"
                assert (await client.get(url, headers=bearer(token)["additional_headers"])).status_code == 429
            async with connect(served.url, **bearer(await served.token("ann"))) as another:
                assert (await said(another, **ack))["status"] == "completed"  # another token, another bucket


async def test_one_socket_listens_for_so_many_tags(served: Served) -> None:
    async with connect(served.url, **bearer(await served.token("ann"))) as socket:
        most = [f"tag-{n}" for n in range(sockets.TAGS_MOST)]
        assert (await said(socket, type="tag-listener", tags=most))["type"] == "ack"
        assert (await said(socket, type="tag-listener", tags=["one more"]))["code"] == "invalid_argument"
        assert (await said(socket, type="tag-listener", tags=most[:3]))["type"] == "ack"


async def test_an_address_that_proves_nothing_too_often_is_told_so(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "FAILED_AUTHENTICATIONS", RateLimit(per_minute=1, burst=2))
    codes = []
    for _ in range(3):
        async with connect(served.url, **bearer("nonsense")) as socket:
            codes.append(await closed_with(socket))
    assert codes == [4401, 4401, 4429]


async def test_one_token_has_so_many_sockets(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SOCKETS_MOST", 1)
    token = await served.token("ann")
    async with connect(served.url, **bearer(token)) as one, connect(served.url, **bearer(token)) as other:
        for socket in (one, other):
            await socket.send(json.dumps({"type": "tag-listener", "tags": ["a"]}))
        assert await closed_with(other) == 4429


async def test_with_the_store_away_a_client_is_told_to_come_again_and_not_that_its_token_is_bad(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError()

    monkeypatch.setattr(served.core.tokens, "authenticate", away)
    async with connect(served.url) as socket:
        await socket.send(json.dumps({"type": "client-hook", "client_name": "a", "token": "x"}))
        assert await closed_with(socket) == 1013


def test_a_client_is_asked_every_twenty_seconds(tmp_path: Path) -> None:
    app = Starlette()
    app.state.core = SimpleNamespace(clock=FakeClock(NOON))
    config = uvicorn_config(app, settings_in(tmp_path))
    assert (config.ws_ping_interval, config.ws_ping_timeout) == (20, 20)


async def test_two_missed_pings_in_a_row_close_and_one_does_not(served: Served) -> None:
    served.server.config.ws_ping_interval = served.server.config.ws_ping_timeout = 0.2
    async with by_hand(served, await served.token("ann"), "silent") as (reader, writer):
        _, asked = await short_frame(reader)
        assert (await short_frame(reader))[0] == PING  # the first is missed: one more chance
        writer.write(bytes([0x80 | PONG, 0x80 | len(asked)]) + bytes(4) + asked)  # late, yet a sign of life
        heard = [await short_frame(reader)]
        while heard[-1][0] == PING:
            heard.append(await short_frame(reader))
        assert [kind for kind, _ in heard] == [PING, CLOSE]
        assert int.from_bytes(heard[-1][1][:2]) == sockets.TOO_SLOW


# --- who is connected where ----------------------------------------------------------------------------


async def test_once_answered_every_node_may_know_of_a_client(served: Served) -> None:
    async with connect(served.url, **bearer(await served.token("ann"))) as socket:
        await said(socket, type="client-hook", client_name="ann-laptop")
        assert "ann-laptop" in await served.core.store.presence.elsewhere("another node")


async def test_what_another_node_has_the_client_for_is_left_to_it_and_is_no_attempt(served: Served) -> None:
    """Its presence is younger than what this node has last read."""
    presence = served.core.store.presence
    event = await served.event()
    await presence.hold("another node", ["ann-laptop"])
    served.core.clients.elsewhere = frozenset()
    occurrence = await served.due(event)
    async with asyncio.timeout(10):
        while "ann-laptop" not in served.core.clients.elsewhere:
            await asyncio.sleep(0.02)
    assert (await served.until(occurrence, "pending")).attempts_made == 0
    assert not await served.core.store.occurrences.attempts(occurrence.id)
    await presence.hold("another node", [])
    async with asyncio.timeout(10):
        while not (attempts := await served.core.store.occurrences.attempts(occurrence.id)):
            await asyncio.sleep(0.02)
    assert (attempts[0].outcome, attempts[0].error) == ("refused", "no_client")


async def test_who_listens_has_one_copy_of_what_was_left_to_another_node(served: Served) -> None:
    event = await served.event(tags=["user:ann", "news"])
    async with connect(served.url, **bearer(await served.token("bob", "read", "user:ann"))) as listener:
        await said(listener, type="tag-listener", tags=["news"])
        await served.core.store.presence.hold("another node", ["ann-laptop"])
        served.core.clients.elsewhere = frozenset()
        occurrence = await served.due(event)
        copy = await heard(listener)
        assert (copy["occurrence_id"], copy["attempt"]) == (str(occurrence.id), 1)
        await served.core.store.presence.hold("another node", [])
        async with asyncio.timeout(10):
            while not await served.core.store.occurrences.attempts(occurrence.id):
                await asyncio.sleep(0.02)
        other = await served.due(event)
        assert (await heard(listener))["occurrence_id"] == str(other.id)


async def test_a_stranger_under_the_same_name_here_does_not_refuse_what_another_node_may_deliver(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await served.event()
    async with connect(served.url, **bearer(await served.token("bob"))) as stranger:
        await said(stranger, type="client-hook", client_name="ann-laptop")
        await served.core.store.presence.hold("another node", ["ann-laptop"])
        occurrence = await served.due(event)
        async with asyncio.timeout(10):
            while not served.sockets._left:
                await asyncio.sleep(0.02)
        row = await served.until(occurrence, "pending")
        assert (row.attempts_made, row.reason) == (0, None)
        # If those who have the name there may not have it either, that is found out.
        monkeypatch.setattr(sockets, "PRESENT_FOR", timedelta(seconds=0))
        async with asyncio.timeout(10):
            while not (attempts := await served.core.store.occurrences.attempts(occurrence.id)):
                await asyncio.sleep(0.02)
        assert attempts[0].error == "no_client"


async def test_a_node_that_only_serves_lets_nobody_wait_for_what_it_will_not_deliver(tmp_path: Path) -> None:
    settings = load(settings_file(tmp_path), {**environ_in(tmp_path), "QHRONOS_SCHEDULER__ENABLED": "false"})
    async with serving(settings) as served, connect(served.url, **bearer(await served.token("ann"))) as socket:
        answer = await said(socket, type="client-hook", client_name="ann-laptop")
        assert (answer["type"], answer["code"]) == ("error", "conflict")
        assert "ann-laptop" not in await served.core.store.presence.elsewhere("another node")


# --- clients that go, and clients that stall -------------------------------------------------------------


async def test_a_client_that_goes_before_its_frame_is_on_record_gives_it_back_too(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await served.event(retry={"max_attempts": 3, "delays": ["1s"]})
    settle = served.core.store.settle

    async def slow(moves: Any) -> Any:
        await asyncio.sleep(0.3)
        return await settle(moves)

    monkeypatch.setattr(served.core.store, "settle", slow)
    token = await served.token("ann")
    async with connect(served.url, **bearer(token)) as socket:
        await said(socket, type="client-hook", client_name="ann-laptop")
        occurrence = await served.due(event)
        await heard(socket)
        assert (await served.core.store.occurrences.get(occurrence.id)).state == "dispatching"
    async with connect(served.url, **bearer(token)) as socket:
        await said(socket, type="client-hook", client_name="ann-laptop")
        assert (await heard(socket))["occurrence_id"] == str(occurrence.id)


async def test_what_was_handed_over_anew_is_not_given_back_by_the_one_before(served: Served) -> None:
    event = await served.event()
    async with connect(served.url, **bearer(await served.token("ann"))) as socket:
        await said(socket, type="client-hook", client_name="ann-laptop")
        occurrence = await served.due(event)
        await heard(socket)
        row = await served.until(occurrence, "dispatched")
        assert await served.core.occurrences.give_back({row.id: row.fence - 1}) == {}
        assert await served.core.store.occurrences.get(row.id) == row


async def test_a_client_that_reads_nothing_is_cut_off_and_others_have_theirs_meanwhile(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "WRITE_WITHIN", 0.5)
    monkeypatch.setattr(bounded_websocket, "GONE_WITHIN", 0.5)
    retry = {"max_attempts": 9, "delays": ["1s"]}
    stalled_event = await served.event(client="stalled", metadata={"x": "x" * 60_000}, retry=retry)
    event = await served.event(client="quick")
    token = await served.token("ann")
    async with connect(served.url, **bearer(token)) as quick:
        await said(quick, type="client-hook", client_name="quick")
        async with by_hand(served, token, "stalled"):
            due = [await served.due(stalled_event) for _ in range(150)]  # 9 MB: more than any buffer between us
            occurrence = await served.due(event)
            assert (await heard(quick))["occurrence_id"] == str(occurrence.id)
            async with asyncio.timeout(20):
                while len(served.sockets._open) > 1 or len(served.server.server_state.connections) > 1:
                    await asyncio.sleep(0.05)  # its connection is gone, and what waited in it, though nothing was read
        for each in due:
            await served.until(each, "pending", "dispatching", "failed")
        assert served.sockets._open
        occurrence = await served.due(event)
        assert (await heard(quick))["occurrence_id"] == str(occurrence.id)


async def test_connections_that_are_cut_leave_nothing_behind(served: Served) -> None:
    """F52."""
    token = await served.token("ann")
    event = await served.event(client="client-0", retry={"max_attempts": 3, "delays": ["1s"]})
    cut = []
    for number in range(40):
        socket = await connect(served.url, **bearer(token))
        await said(socket, type="client-hook", client_name=f"client-{number}")
        await said(socket, type="tag-listener", tags=["news"])
        cut.append(socket)
    occurrence = await served.due(event)
    await heard(cut[0])
    for socket in cut:
        socket.transport.abort()
    async with asyncio.timeout(20):
        while served.sockets.open or served.server.server_state.connections or served.server.server_state.tasks:
            await asyncio.sleep(0.05)
        while await served.core.store.presence.elsewhere("another node"):
            await asyncio.sleep(0.05)
    assert not served.sockets._clients
    assert not served.sockets._listeners
    assert not served.core.clients.here
    await served.until(occurrence, "pending", "dispatching")


@asynccontextmanager
async def by_hand(
    served: Served, token: str, name: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client by hand: it says who it is, takes nothing of what comes and answers no ping."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1_024)
    head = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    writer.write(head.encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    hook = json.dumps({"type": "client-hook", "client_name": name}).encode()
    writer.write(bytes([0x81, 0x80 | len(hook)]) + bytes(4) + hook)  # masked with zeros
    assert b"subscription registered" in await reader.readuntil(b"}")
    try:
        yield reader, writer
    finally:
        writer.close()


async def short_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next frame of a server: what it is and what it holds, under 126 bytes."""
    async with asyncio.timeout(10):
        first, size = await reader.readexactly(2)
        return first & 0x0F, await reader.readexactly(size)
