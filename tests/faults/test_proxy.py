"""The proxy does what it says: a rig that is not tried proves nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.rig.proxy import Cut, Proxy, a_proxy


class Echo:
    """A server that says back each line it is sent, and keeps what came and how it ended."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.ended = asyncio.Event()
        self.torn = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.came.append(line)
                writer.write(line)
                await writer.drain()
            self.ended.set()
            writer.write(b"bye\n")
            await writer.drain()
        except ConnectionError:
            self.torn = True
            self.ended.set()
        finally:
            writer.close()


@asynccontextmanager
async def an_echo() -> AsyncIterator[tuple[Echo, Proxy]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0, limit=1_000_000)
    try:
        async with a_proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
            yield echo, proxy
    finally:
        server.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, proxy: Proxy) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port, limit=1_000_000))

    def say(self, line: bytes) -> None:
        self.writer.write(line)

    async def hear(self, within: float = 5) -> bytes:
        async with asyncio.timeout(within):
            return await self.reader.readline()


async def ended(client: Client) -> bool:
    try:
        return await client.hear() == b""
    except ConnectionResetError:
        return True


@pytest.fixture
async def wired() -> AsyncIterator[tuple[Echo, Proxy, Client]]:
    async with an_echo() as (echo, proxy):
        client = await Client.of(proxy)
        yield echo, proxy, client
        client.writer.transport.abort()


Wired = tuple[Echo, Proxy, Client]


async def test_bytes_pass_as_they_come(wired: Wired) -> None:
    _, proxy, client = wired
    text = b"x" * 300_000 + b"\n"
    client.say(text)
    assert await client.hear() == text
    assert proxy.to_server.passed == proxy.to_client.passed == len(text)


async def test_latency_delays_each_piece_and_keeps_them_in_order(wired: Wired) -> None:
    _, proxy, client = wired
    loop = asyncio.get_running_loop()
    proxy.to_server.latency, proxy.to_client.jitter = 0.2, 0.05
    began = loop.time()
    for n in range(20):
        client.say(b"%d\n" % n)
        await asyncio.sleep(0)
    heard = [await client.hear() for _ in range(20)]
    assert heard == [b"%d\n" % n for n in range(20)]
    assert loop.time() - began >= 0.2


async def test_bandwidth_is_bytes_in_a_second(wired: Wired) -> None:
    _, proxy, client = wired
    loop = asyncio.get_running_loop()
    proxy.to_client.bandwidth = 10_000
    began = loop.time()
    client.say(b"x" * 1_999 + b"\n")
    assert len(await client.hear()) == 2_000
    assert loop.time() - began >= 0.2


async def test_slices_are_passed_on_one_after_the_other(wired: Wired) -> None:
    echo, proxy, client = wired
    proxy.to_server.slices = 1
    client.say(b"sliced\n")
    assert await client.hear() == b"sliced\n"
    assert echo.came == [b"sliced\n"]


async def test_a_reset_is_seen_by_both_ends(wired: Wired) -> None:
    echo, proxy, client = wired
    client.say(b"one\n")
    await client.hear()
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await client.hear()
    await asyncio.wait_for(echo.ended.wait(), 5)
    assert echo.torn


async def test_a_black_hole_keeps_everything_until_it_ends(wired: Wired) -> None:
    echo, proxy, client = wired
    client.say(b"one\n")
    await client.hear()
    proxy.blackhole()
    client.say(b"two\n")
    late = await Client.of(proxy)
    late.say(b"three\n")
    with pytest.raises(TimeoutError):
        await client.hear(within=0.1)
    assert echo.came == [b"one\n"]
    proxy.heal()
    assert await client.hear() == b"two\n"
    assert await late.hear() == b"three\n"
    late.writer.close()


async def test_a_black_hole_of_one_direction_lets_requests_through(wired: Wired) -> None:
    echo, proxy, client = wired
    proxy.to_client.blackhole()
    client.say(b"one\n")
    with pytest.raises(TimeoutError):
        await client.hear(within=0.1)
    assert echo.came == [b"one\n"]


async def test_a_half_close_ends_one_direction_and_the_other_goes_on(wired: Wired) -> None:
    echo, proxy, client = wired
    client.say(b"one\n")
    await client.hear()
    (connection,) = proxy.connections
    connection.half_close(to_client=False)
    await asyncio.wait_for(echo.ended.wait(), 5)
    assert await client.hear() == b"bye\n"


async def test_refused_is_nobody_listening_and_what_is_connected_stays(wired: Wired) -> None:
    _, proxy, client = wired
    client.say(b"one\n")
    await client.hear()
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await Client.of(proxy)
    client.say(b"two\n")
    assert await client.hear() == b"two\n"
    await proxy.listen()
    again = await Client.of(proxy)
    again.say(b"three\n")
    assert await again.hear() == b"three\n"
    again.writer.close()


@pytest.mark.parametrize(("where", "arrives"), [(Cut.BEFORE, False), (Cut.BEHIND, True), (Cut.AFTER, True)])
async def test_a_cut_is_where_it_was_asked_for_and_once(wired: Wired, where: Cut, arrives: bool) -> None:
    echo, proxy, client = wired
    client.say(b"one\n")
    await client.hear()
    proxy.cut(b"COMMIT", where)
    client.say(b"BEGIN\n")
    await client.hear()
    client.say(b"COMMIT\n")
    assert await ended(client)
    await asyncio.wait_for(echo.ended.wait(), 5)
    assert (b"COMMIT\n" in echo.came) is arrives
    assert proxy.cuts == 1

    again = await Client.of(proxy)
    again.say(b"COMMIT\n")
    assert await again.hear() == b"COMMIT\n"
    again.writer.close()


async def test_drop_after_request_passes_the_request_whole_and_swallows_the_reply(wired: Wired) -> None:
    echo, proxy, client = wired
    proxy.drop_after_request()
    client.say(b"one\n")
    assert await ended(client)
    assert echo.came == [b"one\n"]


async def test_what_is_not_there_behind_it_is_a_connection_that_ends() -> None:
    async with a_proxy("127.0.0.1", 1) as proxy:
        client = await Client.of(proxy)
        assert await ended(client)
        client.writer.close()
