"""One request, kept open: told at once, alive when quiet, and over when it should be."""

import asyncio
import time
from pathlib import Path

import pytest

from qhronos_core.config import Settings
from qhronos_core.domain.access import Principal
from qhronos_core.domain.event import EventStatus
from qhronos_mcp.mcp_server import event_feed
from qhronos_mcp.mcp_server.push import INBOX, STREAMS
from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN
from tests.faces.mcp_events.asking import Frames, ask, post, refusal, streaming

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


async def soon(frames: Frames, kind: str) -> dict[str, object]:
    async with asyncio.timeout(10):
        return await frames.notified(kind)


@pytest.mark.parametrize("request_id", [7, "seven"])
async def test_a_stream_says_that_it_is_active_and_tells_each_event_under_its_request_id(
    house: House, request_id: int | str
) -> None:
    async with streaming(house, request_id=request_id, name="occurrence.due") as frames:
        active = await soon(frames, "active")
        assert active["truncated"] is False
        event = await house.event()
        await house.comes_due()
        told = await soon(frames, "event")
        for params in (active, told):
            assert params["_meta"] == {SUBSCRIPTION: request_id}
        assert told["data"]["event_id"] == str(event.id)  # type: ignore[index]
        house.face.hub.close()
        ended = await frames.next()
        assert ended["id"] == request_id
        assert ended["result"]["_meta"][SUBSCRIPTION] == request_id
        assert ended["result"]["resultType"] == "complete"


async def test_a_stream_begins_again_after_the_last_cursor_and_poll_tells_the_same(house: House) -> None:
    async with streaming(house, name="occurrence.due") as frames:
        begin = (await soon(frames, "active"))["cursor"]
        await house.event()
        await house.comes_due()
        first = await soon(frames, "event")
    await house.event()
    await house.comes_due()
    async with streaming(house, name="occurrence.due", cursor=first["cursor"]) as frames:
        await soon(frames, "active")
        second = await soon(frames, "event")
    async with house.speaker(MODERN) as alice:
        polled = (await ask(alice, "poll", name="occurrence.due", cursor=begin))["events"]
    shown = [{k: v for k, v in told.items() if k not in ("cursor", "_meta")} for told in (first, second)]
    assert shown == polled


async def test_a_quiet_stream_sends_heartbeats_whose_cursor_moves(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert event_feed.HEARTBEAT <= 30
    monkeypatch.setattr(event_feed, "HEARTBEAT", 0.05)
    async with streaming(house, name="occurrence.due") as frames:
        begin = (await soon(frames, "active"))["cursor"]
        await soon(frames, "heartbeat")
        await house.event("bob")
        await house.comes_due()
        async with asyncio.timeout(10):
            while (await frames.notified("heartbeat"))["cursor"] == begin:
                pass


async def test_a_cursor_of_nobody_is_told_as_a_gap(house: House) -> None:
    async with streaming(house, name="occurrence.due", cursor="nonsense") as frames:
        assert (await soon(frames, "active"))["truncated"] is True


async def test_what_is_too_old_is_skipped_and_said_at_first(house: House) -> None:
    async with house.speaker(MODERN) as alice:
        cursor = (await ask(alice, "poll", name="occurrence.due"))["cursor"]
    await house.event()
    await house.comes_due()
    late = await house.event()
    await house.comes_due()
    async with streaming(house, name="occurrence.due", cursor=cursor, maxAgeMs=1_000) as frames:
        assert (await soon(frames, "active"))["truncated"] is True
        assert (await soon(frames, "event"))["data"]["event_id"] == str(late.id)  # type: ignore[index]


async def test_nobody_is_streamed_what_another_token_owns(house: House) -> None:
    async with streaming(house, name="occurrence.due") as mine, streaming(house, "bob", name="occurrence.due") as bobs:
        await soon(mine, "active")
        await soon(bobs, "active")
        theirs = await house.event("bob")
        await house.comes_due()
        own = await house.event()
        await house.comes_due()
        assert (await soon(bobs, "event"))["data"]["event_id"] == str(theirs.id)  # type: ignore[index]
        assert (await soon(mine, "event"))["data"]["event_id"] == str(own.id)  # type: ignore[index]


async def test_a_revoked_token_s_stream_is_terminated(house: House) -> None:
    async with streaming(house, name="occurrence.due") as frames:
        await soon(frames, "active")
        began = time.monotonic()
        await house.core.tokens.revoke(sub="alice", caller=Principal.of_master())
        told = await soon(frames, "terminated")
        assert told["error"]["message"] == "Forbidden"  # type: ignore[index]
        assert time.monotonic() - began < 2


async def test_a_stream_of_one_event_is_terminated_when_the_event_is_out_of_reach(house: House) -> None:
    event = await house.event()
    async with streaming(house, name="occurrence.due", arguments={"event_id": str(event.id)}) as frames:
        await soon(frames, "active")
        deleted = await house.core.events.delete(event.id, caller=await house.principal())
        assert deleted.event.status is EventStatus.DELETED
        await soon(frames, "terminated")


async def test_a_mistake_is_a_plain_error_and_no_stream(house: House) -> None:
    told = await post(house, "events/stream", name="no.such")
    assert (told["error"]["code"], told["error"]["message"]) == (-32023, "NotFound")


async def test_streaming_is_refused_where_a_client_that_left_is_not_noticed(house: House) -> None:
    async with house.speaker("2025-11-25") as old:
        error = await refusal(old, "stream", name="occurrence.due")
    assert error.error.message == "Unsupported"
    assert error.error.data["feature"] == "deliveryMode"


async def test_many_streams_may_be_open_beside_listen_streams_up_to_the_limit_of_subscriptions(
    house: House, tmp_path: Path
) -> None:
    most = STREAMS + 3
    house.core.settings = Settings.model_validate({"data_dir": tmp_path, "events": {"max_subscriptions": most}})
    opened = asyncio.Semaphore(0)
    done = asyncio.Event()

    async def stream() -> None:
        async with streaming(house, name="occurrence.due") as frames:
            await frames.notified("active")
            opened.release()
            await done.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(most):
            group.create_task(stream())
        for _ in range(most):
            await opened.acquire()
        told = (await post(house, "events/stream", name="occurrence.due"))["error"]
        assert (told["code"], told["message"]) == (-32025, "ResourceExhausted")
        assert told["data"] == {"limit": "subscriptions", "max": most}
        async with house.speaker(MODERN) as alice, alice.watching(INBOX):
            pass  # there is room for those still
        done.set()
    async with asyncio.timeout(10):
        while house.face.hub.watching:
            await asyncio.sleep(0.01)
