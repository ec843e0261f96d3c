"""A client that subscribed is told when something changed: old and new protocol, and nobody is told of another's."""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import timedelta

import anyio
import pytest
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from qhronos_core.domain.access import Principal
from qhronos_core.domain.journal import Cursor
from qhronos_mcp.mcp_server.push import INBOX, STREAMS, URIS, Dirty, Hub
from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN, Speaker
from tests.faces.mcp_events.asking import Frames, headers, request


async def test_a_client_is_told_when_an_inbox_occurrence_falls_due(alice: Speaker, house: House) -> None:
    event = await house.event()
    async with alice.watching(INBOX) as ear:
        await house.comes_due()
        await ear.until(INBOX)
    assert (await alice.read_json(INBOX))["occurrences"][0]["event"] == str(event.id)


async def test_a_watched_event_and_occurrence_tell_each_change(alice: Speaker, house: House) -> None:
    event = await house.event(key="k")
    [run] = (await alice.call("list_occurrences", upcoming=True))["occurrences"]
    event_uri, by_key = f"qhronos://events/{event.id}", "qhronos://events/k"
    occurrence_uri = f"qhronos://occurrences/{run['id']}"
    async with alice.watching(event_uri, by_key, occurrence_uri) as ear:
        await alice.call("update_event", event_id="k", changes={"description": "x"})
        await ear.until(event_uri)
        await ear.until(by_key)
        assert occurrence_uri not in ear.heard
        await house.comes_due()
        await ear.until(occurrence_uri)
        ear.heard.clear()
        await alice.call("wait_for_occurrences")
        await alice.call("acknowledge_occurrence", occurrence_id=run["id"], outcome="done")
        await ear.until(occurrence_uri)
    assert INBOX not in ear.heard


async def test_an_event_is_watched_at_the_address_it_is_read_at_whatever_its_key(alice: Speaker, house: House) -> None:
    await house.event(key="team/a:b")
    addresses = ("qhronos://events/team%2Fa%3Ab", "qhronos://events/team%2Fa:b")
    for address in addresses:
        assert (await alice.read_json(address))["event"]["key"] == "team/a:b"
    async with alice.watching(*addresses) as ear:
        await alice.call("update_event", event_id="team/a:b", changes={"description": "x"})
        for address in addresses:
            await ear.until(address)


async def test_a_hint_holds_ids_and_no_text_of_anybody(house: House) -> None:
    await house.event(name="MARKER", description="MARKER")
    async with house.speaker("2025-11-25") as alice, alice.watching(INBOX) as ear:
        await house.comes_due()
        await ear.until(INBOX)
        meta = ear.metas[-1]
        assert meta is not None
        hint = meta["dev.qhronos/hint"]
        assert set(hint) == {"what", "event_id", "occurrence_id", "cursor"}
        assert hint["what"] == "occurrence.due"
        assert "MARKER" not in str(meta)


async def test_nobody_is_told_of_what_another_token_owns(house: House) -> None:
    theirs = await house.event("bob")
    uri = f"qhronos://events/{theirs.id}"
    async with (
        house.speaker(MODERN) as alice,
        house.speaker("2025-11-25") as old,
        house.speaker(MODERN, "bob") as bob,
        house.speaker(MODERN, "admin") as admin,
        alice.watching(INBOX, uri) as alice_ear,
        old.watching(INBOX, uri) as old_ear,
        bob.watching(INBOX, uri) as bob_ear,
        admin.watching(INBOX, uri) as admin_ear,
    ):
        await house.comes_due()
        for ear in (bob_ear, admin_ear):
            await ear.until(INBOX)
            await ear.until(uri)
        mine = await house.event()  # whatever was to be told before this has been told once it arrives
        await house.comes_due()
        for ear in (alice_ear, old_ear):
            await ear.until(INBOX)
            assert ear.heard == [INBOX]
        assert (await alice.read_json(INBOX))["occurrences"][0]["event"] == str(mine.id)


async def test_an_unknown_uri_is_accepted_and_stays_silent(alice: Speaker, house: House) -> None:
    theirs = await house.event("bob")
    async with alice.watching("qhronos://nothing", f"qhronos://events/{theirs.id}", INBOX) as ear:
        await house.event()
        await house.comes_due()
        await ear.until(INBOX)
        assert set(ear.heard) == {INBOX}


async def test_after_unsubscribing_nothing_more_is_told(house: House) -> None:
    async with house.speaker("2025-06-18") as alice, alice.watching(INBOX, "qhronos://events/k") as ear:
        with pytest.warns(MCPDeprecationWarning):
            await alice.client.unsubscribe_resource(INBOX)
        await house.event(key="k")
        await house.comes_due()
        await ear.until("qhronos://events/k")
        assert INBOX not in ear.heard


async def test_list_changes_are_not_promised(house: House) -> None:
    async with (
        house.speaker(MODERN) as alice,
        alice.client.listen(tools_list_changed=True, resource_subscriptions=[INBOX]) as stream,
    ):
        assert stream.honored.tools_list_changed is None
        assert stream.honored.resource_subscriptions == [INBOX]


async def test_one_principal_has_so_many_streams_and_uris_and_is_told_the_limit(house: House) -> None:
    async with house.speaker(MODERN) as alice, anyio.create_task_group() as group:
        opened = asyncio.Semaphore(0)

        async def listen() -> None:
            async with alice.client.listen(resource_subscriptions=[INBOX]):
                opened.release()
                await anyio.sleep_forever()

        for _ in range(STREAMS):
            group.start_soon(listen)
        for _ in range(STREAMS):
            await opened.acquire()
        with pytest.raises(MCPError, match=str(STREAMS)):
            async with alice.client.listen(resource_subscriptions=[INBOX]):
                pass
        group.cancel_scope.cancel()
    async with house.speaker(MODERN, "bob") as bob:
        with pytest.raises(MCPError, match=str(URIS)):
            async with bob.client.listen(resource_subscriptions=[f"qhronos://events/{n}" for n in range(URIS + 1)]):
                pass
        async with bob.client.listen(resource_subscriptions=[f"qhronos://events/{n}" for n in range(URIS)]):
            pass


async def test_a_revoked_token_s_streams_end(house: House) -> None:
    async with (
        house.speaker(MODERN) as alice,
        house.speaker(MODERN, "bob") as bob,
        alice.watching(INBOX) as alice_ear,
        bob.watching(INBOX) as bob_ear,
    ):
        began = time.monotonic()
        await house.core.tokens.revoke(sub="alice", caller=Principal.of_master())
        async with asyncio.timeout(10):
            await alice_ear.ended.wait()
        assert time.monotonic() - began < 1
        assert not bob_ear.ended.is_set()


async def test_streams_that_are_cut_are_forgotten_and_make_room(house: House) -> None:
    """F52: the inbox still has what they were not told."""
    for _ in range(2):
        frames: list[Frames] = []
        async with house.http() as http, AsyncExitStack() as streams:
            for number in range(STREAMS):
                body = request("subscriptions/listen", number, notifications={"resourceSubscriptions": [INBOX]})
                cut = http.stream("POST", house.url, json=body, headers=headers("subscriptions/listen"))
                frames.append(Frames(await streams.enter_async_context(cut)))
                assert (await frames[-1].next())["method"] == "notifications/subscriptions/acknowledged"
            assert len(house.face.hub.watching) == STREAMS
        async with asyncio.timeout(10):
            while house.face.hub.watching:
                await asyncio.sleep(0.01)
    await house.event()
    await house.comes_due()
    async with house.speaker(MODERN) as alice:
        assert (await alice.read_json(INBOX))["due"] == 1


async def test_open_streams_and_waits_end_when_the_node_stops(house: House) -> None:
    async with (
        house.speaker(MODERN) as alice,
        house.speaker("2025-11-25") as old,
        alice.watching(INBOX) as ear,
        old.watching(INBOX),
    ):
        waits = [asyncio.create_task(speaker.call("wait_for_occurrences", seconds=50)) for speaker in (alice, old)]
        while len(house.face.hub.watching) < 4:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        house.face.hub.close()
        for wait in waits:
            assert (await wait)["occurrences"] == []
        await ear.ended.wait()
        assert time.monotonic() - began < 1


# --- in a slow reader ------------------------------------------------------------------------------------


async def test_a_slow_reader_sees_the_latest_hint_of_each_uri_once() -> None:
    dirty = Dirty(frozenset({"a", "b"}))
    for number in range(1_000):
        dirty.mark("a", {"n": number})
    dirty.mark("b", {"n": 0})
    dirty.mark("not watched", {})
    assert await dirty.changed() == {"a": {"n": 999}, "b": {"n": 0}}
    with anyio.move_on_after(0.01) as waited:
        await dirty.changed()
    assert waited.cancelled_caught
    dirty.mark("b", {"n": 1})
    dirty.close()
    assert await dirty.changed() == {"b": {"n": 1}}
    assert await dirty.changed() == {}


async def test_of_many_changes_at_once_a_watcher_is_told_the_last_it_may_hear_of(house: House) -> None:
    begin = await house.core.journal.end()
    mine = [await house.event() for _ in range(3)]
    await house.event("bob")
    await house.comes_due()
    page = await house.core.journal.after(begin, limit=100)
    due = [line for line in page.lines if line.entry.kind == "occurrence.due"]
    last = [line for line in due if line.entry.event_id in {event.id for event in mine}][-1]
    hub = Hub(house.face.hub._face)  # told by hand
    async with hub.waiting(frozenset({INBOX}), await house.principal()) as dirty:
        hub._tell(page)
        heard = await dirty.changed()
    assert len(due) == 4
    assert heard[INBOX]["occurrence_id"] == str(last.entry.occurrence_id)
    assert Cursor.read(heard[INBOX]["cursor"]).position == last.position
    assert not hub._wanting


async def test_the_hub_reads_only_while_somebody_watches(house: House) -> None:
    hub = house.face.hub
    alice = await house.principal()
    assert not hub.watching
    async with hub.waiting(frozenset({INBOX}), alice) as dirty:
        await house.event()
        await house.comes_due()
        assert INBOX in await dirty.changed()
    await house.event()
    await house.comes_due(timedelta(hours=2))
    async with hub.waiting(frozenset({INBOX}), alice) as dirty:
        with anyio.move_on_after(0.05) as nothing_of_before:
            await dirty.changed()
        assert nothing_of_before.cancelled_caught
