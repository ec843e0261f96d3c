"""The finer rules of webhook subscriptions: what a key is, what an endpoint must prove, gaps, ends and what is remembered."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from qhronos_core.config import EventsSettings, Settings
from qhronos_core.domain.access import Principal
from qhronos_core.domain.announcement import ERROR_NUMBERS
from qhronos_core.usecases import subscriptions
from tests.faces.mcp.house import House, a_house
from tests.faces.mcp.speakers import MODERN
from tests.faces.mcp_events.asking import ask, refusal
from tests.faces.mcp_events.calling import Caller, a_secret, forgotten, origin_of, verified, wired
from tests.faces.mcp_events.receiver import Receiver, a_receiver
from tests.world import World

# --- the key ---------------------------------------------------------------------------------------------


async def test_the_url_is_called_byte_for_byte(house: House, receiver: Receiver) -> None:
    caller = wired(house, origin_of(receiver))
    target = "/a//b/./%7Etilde/caf%c3%a9;v=1?b=2&a=1&&empty=&plus=a+b%20c%2F/&mcp_event_subscription=0d1c"
    receiver.url = origin_of(receiver) + target
    await caller.subscribe(receiver)
    await house.event()
    await house.comes_due()
    await caller.look()
    assert receiver.targets == [target, target]


async def test_a_key_is_of_url_type_and_arguments_however_they_are_written(caller: Caller, receiver: Receiver) -> None:
    async def id_of(**given: Any) -> str:
        made: str = (await caller.subscribe(receiver, **given))["id"]
        return made

    plain = await id_of()
    assert await id_of(arguments=None) == plain
    assert await id_of(arguments={"tags": None}) == plain
    assert await id_of(ttlMs=400_000, secret=a_secret()) == plain
    both = await id_of(arguments={"name": "x", "tags": ["a", "b"]})
    assert await id_of(arguments={"tags": ["a", "b"], "name": "x"}) == both
    assert len({plain, both, await id_of(arguments={"tags": ["a"]}), await id_of(name="occurrence.failed")}) == 4
    receiver.url += "&other"
    assert await id_of() != plain


async def test_a_subscription_is_its_principals_and_nobody_elses(caller: Caller, receiver: Receiver) -> None:
    """Bob cannot see, rotate or end what alice holds, though he names the same type, arguments and URL."""
    house = caller.house
    hers = await caller.subscribe(receiver)
    async with house.speaker(MODERN, "bob") as bob:
        delivery = {"url": receiver.url}
        error = (await refusal(bob, "unsubscribe", name="occurrence.due", arguments={}, delivery=delivery)).error
    assert error.data["kind"] == "subscription"
    his_secret = a_secret()
    his = await caller.subscribe(receiver, "bob", secret=his_secret)
    assert his["id"] != hers["id"]
    event = await house.event()
    await house.comes_due()
    await caller.look()
    assert [told["data"]["event_id"] for told in receiver.events] == [str(event.id)]
    verified(receiver.got[-1], caller.secret, house.now)
    assert receiver.got[-1][0]["webhook-signature"].count("v1,") == 1
    await caller.unsubscribe(receiver, "bob")
    await house.event()
    await house.comes_due()
    await caller.look()
    assert len(receiver.events) == 2


async def test_a_renewed_token_of_the_same_rights_holds_the_same_subscriptions(
    caller: Caller, receiver: Receiver
) -> None:
    house = caller.house

    async def minted(**other: Any) -> str:
        fields = {"sub": "alice", "access": "write", "scope": ["user:alice"], "expires_at": "2027-06-01T00:00:00Z"}
        return (await house.core.tokens.mint({**fields, **other}, caller=Principal.of_master())).token

    house.tokens |= {"renewed": await minted(), "wider": await minted(scope=["user:alice", "team:x"])}
    first = await caller.subscribe(receiver)
    assert (await caller.subscribe(receiver, "renewed"))["id"] == first["id"]
    assert (await caller.subscribe(receiver, "wider"))["id"] != first["id"]


# --- proof -----------------------------------------------------------------------------------------------


PROOFS: dict[str, tuple[int, Callable[[str], object]]] = {
    "a failure": (500, lambda nonce: {"challenge": nonce}),
    "forbidden": (403, lambda nonce: {"challenge": nonce}),
    "a redirect": (302, lambda nonce: {"challenge": nonce}),
    "a text": (200, lambda nonce: nonce),
    "a list": (200, lambda nonce: [nonce]),
    "null": (200, lambda _: {"challenge": None}),
    "nothing": (200, lambda _: {}),
    "more": (200, lambda nonce: {"challenge": nonce + "x"}),
}


@pytest.mark.parametrize("proof", PROOFS)
async def test_only_an_echo_in_an_answer_of_success_is_a_proof(caller: Caller, receiver: Receiver, proof: str) -> None:
    receiver.proves = PROOFS[proof]
    error = await caller.refused(receiver.url)
    assert (error.message, error.data) == ("CallbackEndpointError", {"reason": "challenge_failed"})


async def test_each_challenge_is_another_and_signed(caller: Caller, receiver: Receiver) -> None:
    await caller.subscribe(receiver)
    await caller.subscribe(receiver, "bob")
    one, other = receiver.of("verification")
    assert one["challenge"] != other["challenge"]
    assert min(len(one["challenge"]), len(other["challenge"])) >= 32
    for headers, body in receiver.got:
        verified((headers, body), caller.secret, caller.house.now)
        assert headers["webhook-id"].startswith("msg_verification_")
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 2


async def test_a_proof_lasts_a_day(caller: Caller, receiver: Receiver) -> None:
    await caller.subscribe(receiver, ttlMs=7 * 86_400_000)
    caller.house.world.clock.advance(seconds=86_399)
    await caller.subscribe(receiver, ttlMs=7 * 86_400_000)
    assert len(receiver.of("verification")) == 1
    caller.house.world.clock.advance(seconds=2)
    await caller.subscribe(receiver, ttlMs=7 * 86_400_000)
    assert len(receiver.of("verification")) == 2


async def test_an_endpoint_that_says_nothing_speaks_no_tls_or_is_not_there_is_told_so(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "CHALLENGE_WITHIN", 0.3)
    async with a_receiver() as dead:
        gone = dead.url

    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"I speak no TLS\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        insecure = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        urls = [receiver.url, insecure, gone]
        caller = wired(house, *(url.partition("/hook")[0] for url in urls))
        receiver.silent = True
        reasons = [(await caller.refused(url)).data["reason"] for url in urls]
    assert reasons == ["timeout", "tls_error", "connection_refused"]


async def test_nobody_is_made_to_challenge_one_host_without_end(house: House, receiver: Receiver) -> None:
    caller = wired(house, origin_of(receiver))
    receiver.proves = (404, lambda _: {})
    errors = []
    for number in range(25):
        receiver.url = f"{origin_of(receiver)}/hook?{number}"
        errors.append((await caller.refused(receiver.url)).message)
    assert errors == ["CallbackEndpointError"] * 20 + ["ResourceExhausted"] * 5
    assert len(receiver.got) == 20


# --- delivery --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 404, 425, 429, 503])
async def test_a_receiver_still_storing_its_subscription_is_asked_again_after_a_second(
    caller: Caller, receiver: Receiver, status: int
) -> None:
    await caller.subscribe(receiver)
    await caller.house.event()
    receiver.statuses = [status]
    await caller.house.comes_due()
    await caller.look()
    caller.house.world.clock.advance(seconds=1)
    await caller.look()
    assert len(receiver.events) == 2


async def test_a_refresh_asks_a_failing_endpoint_again_at_once(caller: Caller, receiver: Receiver) -> None:
    await caller.subscribe(receiver)
    await caller.house.event()
    receiver.statuses = [503, 503, 503]
    await caller.house.comes_due()
    for wait in (0, 1, 20):
        caller.house.world.clock.advance(seconds=wait)
        await caller.look()
    await caller.look()
    assert len(receiver.events) == 3  # the next would come after two minutes
    told = await caller.subscribe(receiver)
    assert told["deliveryStatus"]["lastError"] == "http_5xx"
    assert told["deliveryStatus"]["failedSince"]
    await caller.look()
    assert len(receiver.events) == 4
    assert (await caller.subscribe(receiver))["deliveryStatus"]["lastError"] is None


async def test_the_cursor_of_a_delivery_is_never_past_one_that_was_not_accepted(
    caller: Caller, receiver: Receiver
) -> None:
    granted = await caller.subscribe(receiver)
    await caller.house.event()
    await caller.house.event()
    receiver.statuses = [500]
    await caller.house.comes_due()
    await caller.look()
    again = await caller.subscribe(receiver)
    async with caller.house.speaker(MODERN) as alice:
        since = (await ask(alice, "poll", name="occurrence.due", cursor=again["cursor"]))["events"]
    assert len(since) == 2
    caller.house.world.clock.advance(seconds=1)
    await caller.look()
    first, _, second = receiver.events
    assert [one["eventId"] for one in since] == [first["eventId"], second["eventId"]]
    assert granted["cursor"] != second["cursor"]
    after = (await caller.subscribe(receiver))["cursor"]
    async with caller.house.speaker(MODERN) as alice:
        assert (await ask(alice, "poll", name="occurrence.due", cursor=after))["events"] == []


async def test_what_retention_took_is_told_as_a_gap_and_then_it_goes_on(caller: Caller, receiver: Receiver) -> None:
    house = caller.house
    await caller.subscribe(receiver)
    await house.event()
    await house.comes_due()
    await forgotten(house)
    await caller.look()
    [gap] = receiver.of("gap")
    assert isinstance(gap["cursor"], str)
    assert set(gap) == {"type", "cursor"}
    headers, _ = receiver.got[-1]
    verified(receiver.got[-1], caller.secret, house.now)
    assert headers["webhook-id"].startswith("msg_gap_")
    assert receiver.events == []
    kept = await house.event()
    await house.comes_due()
    await caller.look()
    assert [told["data"]["event_id"] for told in receiver.events] == [str(kept.id)]
    assert len(receiver.of("gap")) == 1


async def test_a_lapsed_subscription_begins_where_its_client_stood_and_says_if_that_is_gone(
    caller: Caller, receiver: Receiver
) -> None:
    house = caller.house
    for swept in (False, True):
        receiver.got.clear()
        granted = await caller.subscribe(receiver, ttlMs=300_000)
        missed = await house.event(schedule="in 10 minutes")
        await house.comes_due(timedelta(minutes=10))
        if swept:
            await caller.look()
        assert receiver.events == []
        again = await caller.subscribe(receiver, cursor=granted["cursor"])
        assert (again["id"], again["truncated"]) == (granted["id"], False)
        assert "deliveryStatus" not in again
        await caller.look()
        assert [told["data"]["event_id"] for told in receiver.events] == [str(missed.id)]
        await caller.unsubscribe(receiver)
    await forgotten(house)
    late = await caller.subscribe(receiver, cursor=granted["cursor"])
    assert late["truncated"] is True
    assert late["cursor"] != granted["cursor"]


async def test_what_is_older_than_was_asked_for_is_left_out_at_a_new_start(caller: Caller, receiver: Receiver) -> None:
    house = caller.house
    granted = await caller.subscribe(receiver)
    await caller.unsubscribe(receiver)
    await house.event()
    await house.comes_due()
    late = await house.event()
    await house.comes_due()
    again = await caller.subscribe(receiver, cursor=granted["cursor"], maxAgeMs=60_000)
    assert again["truncated"] is True
    await caller.look()
    assert [told["data"]["event_id"] for told in receiver.events] == [str(late.id)]


# --- the end ---------------------------------------------------------------------------------------------


async def test_a_terminated_envelope_is_signed_named_and_said_once(caller: Caller, receiver: Receiver) -> None:
    house = caller.house
    granted = await caller.subscribe(receiver)
    await house.core.tokens.revoke(sub="alice", caller=Principal.of_master())
    receiver.statuses = [500]
    await caller.look()
    caller.house.world.clock.advance(seconds=120)
    await caller.look()
    [told] = receiver.of("terminated")
    assert told == {
        "type": "terminated",
        "error": {"code": -32024, "message": "Forbidden", "data": {"reason": "token_revoked"}},
    }
    headers, _ = receiver.got[-1]
    assert headers["webhook-id"].startswith("msg_terminated_")
    assert headers["x-mcp-subscription-id"] == granted["id"]
    row = await house.world.store.subscriptions.get(granted["id"])
    assert row is not None
    assert (row.url, row.secrets) == ("", b"")


async def test_a_key_is_remembered_for_a_day_after_its_end_and_then_unknown(caller: Caller, receiver: Receiver) -> None:
    house = caller.house
    await caller.subscribe(receiver)
    await caller.unsubscribe(receiver)
    await caller.subscribe(receiver, arguments={"name": "lapses"}, ttlMs=300_000)
    house.world.clock.advance(seconds=600)
    await caller.look()
    for arguments in ({}, {"name": "lapses"}):
        await caller.unsubscribe(receiver, arguments=arguments)
    house.world.clock.advance(seconds=86_400)
    await caller.look()
    async with house.speaker(MODERN) as alice:
        for arguments in ({}, {"name": "lapses"}):
            asked = {"name": "occurrence.due", "arguments": arguments, "delivery": {"url": receiver.url}}
            error = (await refusal(alice, "unsubscribe", **asked)).error
            assert (error.code, error.message, error.data["kind"]) == (-32023, "NotFound", "subscription")


@pytest.mark.parametrize("mode", ["webhook", "email", None, 5])
async def test_unsubscribing_ignores_the_mode(caller: Caller, receiver: Receiver, mode: object) -> None:
    await caller.subscribe(receiver)
    await caller.unsubscribe(receiver, delivery={"mode": mode, "url": receiver.url})
    await caller.house.event()
    await caller.house.comes_due()
    await caller.look()
    assert receiver.events == []


async def test_a_subscription_without_a_mode_is_a_webhook(caller: Caller, receiver: Receiver) -> None:
    for delivery in ({"url": receiver.url}, {"url": receiver.url, "mode": None}):
        granted = await caller.subscribe(receiver, delivery={**delivery, "secret": caller.secret})
        assert granted["id"]


async def test_unsubscribing_from_an_event_that_was_deleted_meanwhile_is_no_mistake(
    caller: Caller, receiver: Receiver
) -> None:
    event = await caller.house.event()
    arguments = {"event_id": str(event.id)}
    await caller.subscribe(receiver, arguments=arguments)
    await caller.house.core.events.delete(event.id, caller=await caller.house.principal())
    await caller.unsubscribe(receiver, arguments=arguments)


# --- numbers, and what is never told ---------------------------------------------------------------------


@pytest.mark.parametrize("numbering", ["sep", "sketch"])
async def test_every_error_has_its_number_in_each_numbering(
    world: World, receiver: Receiver, tmp_path: Path, numbering: Literal["sep", "sketch"]
) -> None:
    events = EventsSettings(error_codes=numbering)
    async with a_house(world, tmp_path, settings=Settings(data_dir=tmp_path, events=events)) as house:
        await every_error_is_numbered(house, receiver, ERROR_NUMBERS[numbering])


async def every_error_is_numbered(house: House, receiver: Receiver, numbers: Mapping[str, int]) -> None:
    caller = wired(house, origin_of(receiver), most=0)
    full = await caller.refused(receiver.url)
    open_ = wired(house, origin_of(receiver))
    receiver.echoes = False
    unproven = await open_.refused(receiver.url)
    unsupported = await open_.refused(receiver.url, delivery={"mode": "email", "url": receiver.url})
    unknown = await open_.refused(receiver.url, name="no.such")
    wrong = await open_.refused(receiver.url, secret="x")
    heard = {error.message: error.code for error in (full, unproven, unsupported, unknown, wrong)}
    assert heard == {
        "ResourceExhausted": numbers["ResourceExhausted"],
        "CallbackEndpointError": numbers["CallbackEndpointError"],
        "Unsupported": numbers["Unsupported"],
        "NotFound": numbers["NotFound"],
        "InvalidParams": -32602,
    }
    assert unknown.data["kind"] == "event"
    assert "says" in wrong.data


async def test_neither_secret_nor_path_is_logged(
    caller: Caller, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.url += "&canary=path"
    await caller.subscribe(receiver)
    await caller.house.event()
    receiver.statuses = [410]
    await caller.house.comes_due()
    await caller.look()
    assert len(receiver.events) == 1
    logged = "".join(capsys.readouterr())
    assert "announcement_given_up" in logged
    assert "canary" not in logged
    assert caller.secret.removeprefix("whsec_") not in logged


async def test_two_refreshes_at_once_are_two_refreshes_of_one(caller: Caller, receiver: Receiver) -> None:
    first = await caller.subscribe(receiver)
    answers = await asyncio.gather(*(caller.subscribe(receiver, secret=a_secret()) for _ in range(4)))
    assert {answer["id"] for answer in answers} == {first["id"]}
    await caller.house.event()
    await caller.house.comes_due()
    await caller.look()
    assert len(receiver.events) == 1
