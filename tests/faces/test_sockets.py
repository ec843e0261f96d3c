"""`/ws` over a real server and a client that is not ours (rest.md §8)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from qhronos_core.config import Settings, load
from qhronos_core.domain.access import Access, Principal
from qhronos_core.wiring import Core, open_core
from qhronos_mcp.app import build_app

MASTER = Principal.of_master()


class Served:
    def __init__(self, core: Core, port: int) -> None:
        self.core = core
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
        caller = Principal("root", Access.ADMIN, frozenset(), holder="root")
        return (await self.core.events.trigger(event.id, caller=caller)).occurrence

    async def until(self, occurrence: Any, *states: str) -> Any:
        async with asyncio.timeout(10):
            while True:
                row = await self.core.store.occurrences.get(occurrence.id)
                if row.state in states:
                    return row
                await asyncio.sleep(0.02)


def settings_in(directory: Path) -> Settings:
    config = directory / "config.yaml"
    config.write_text("server: {}\n")
    return load(config, {"QHRONOS_DATA_DIR": str(directory / "data"), "HOME": str(directory)})


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Served]:
    async with open_core(settings) as core:
        app = build_app(core, settings)
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, ws="websockets-sansio")
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.create_task(server.serve())
        async with asyncio.timeout(20):
            while not server.started:
                await asyncio.sleep(0.01)
        try:
            yield Served(core, server.servers[0].sockets[0].getsockname()[1])
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
        await asyncio.sleep(0.2)
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
