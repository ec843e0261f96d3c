"""Webhook subscriptions, against a real receiver on this machine: proof, signing, retries, rotation, and their end."""

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from qhronos_core.adapters.http.callbacks import hardened, lifted
from qhronos_core.domain.access import Principal
from qhronos_core.domain.destination import EgressPolicy
from qhronos_core.domain.errors import StartRefusedError
from qhronos_core.domain.subscription import Subscription, SubscriptionSecrets
from qhronos_core.ports import KeyMissingError
from qhronos_core.scheduler import subscriptions
from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN
from tests.faces.mcp_events.asking import ask, refusal
from tests.faces.mcp_events.calling import Caller, a_secret, origin_of, verified, wired
from tests.faces.mcp_events.receiver import Receiver, a_receiver


async def test_an_endpoint_proves_itself_and_is_then_told_signed(
    house: House, caller: Caller, receiver: Receiver
) -> None:
    granted = await caller.subscribe(receiver)
    assert granted["truncated"] is False
    assert datetime.fromisoformat(granted["refreshBefore"]) == house.now + timedelta(hours=24)
    [challenge] = receiver.got
    assert challenge[0]["x-mcp-subscription-id"] == granted["id"]
    verified(challenge, caller.secret, house.now)

    event = await house.event(name="wake up")
    await house.comes_due()
    await caller.look()

    [told] = receiver.events
    headers = receiver.got[-1][0]
    verified(receiver.got[-1], caller.secret, house.now)
    assert headers["webhook-id"] == told["eventId"] == told["data"]["occurrence_id"]
    assert headers["x-mcp-subscription-id"] == granted["id"]
    assert headers["content-type"] == "application/json"
    assert told["data"]["event_id"] == str(event.id)
    assert "type" not in told
    async with house.speaker(MODERN) as alice:
        polled = (await ask(alice, "poll", name="occurrence.due", cursor=granted["cursor"]))["events"]
    assert polled == [{name: value for name, value in told.items() if name != "cursor"}]


async def test_the_legacy_protocol_subscribes_and_unsubscribes_too(caller: Caller, receiver: Receiver) -> None:
    async with caller.house.speaker("2025-11-25") as old:
        listed = (await ask(old, "list"))["events"]
        assert all(one["delivery"] == ["poll", "webhook"] for one in listed)
        granted = await ask(old, "subscribe", **caller.asked(receiver.url))
        assert granted["id"]
        await ask(old, "unsubscribe", name="occurrence.due", arguments={}, delivery={"url": receiver.url})


async def test_an_endpoint_that_does_not_echo_gets_nothing(caller: Caller, receiver: Receiver) -> None:
    receiver.echoes = False
    error = await caller.refused(receiver.url)
    assert (error.code, error.message, error.data) == (-32027, "CallbackEndpointError", {"reason": "challenge_failed"})
    await caller.house.event()
    await caller.house.comes_due()
    await caller.look()
    assert receiver.events == []


async def test_a_refresh_challenges_nobody_again_and_keeps_id_and_position(caller: Caller, receiver: Receiver) -> None:
    first = await caller.subscribe(receiver)
    await caller.house.event("bob")
    await caller.house.comes_due()
    again = await caller.subscribe(receiver, cursor="nonsense", ttlMs=3_600_000)
    assert again["id"] == first["id"]
    assert again["truncated"] is False
    assert again["cursor"] != first["cursor"]
    assert datetime.fromisoformat(again["refreshBefore"]) == caller.house.now + timedelta(hours=1)
    assert again["deliveryStatus"]["active"] is True
    assert len(receiver.of("verification")) == 1
    other = await caller.subscribe(receiver, arguments={"name": "x"})
    assert other["id"] != first["id"]
    assert len(receiver.of("verification")) == 1
    await caller.subscribe(receiver, "bob")
    assert len(receiver.of("verification")) == 2


@pytest.mark.parametrize(
    ("ttl", "hours"),
    [(None, 24), (1, 5 / 60), (0, 5 / 60), (-1, 5 / 60), (3_600_000.0, 1), (10**10, 7 * 24), (10**30, 7 * 24)],
)
async def test_a_grant_is_clamped_never_refused(
    caller: Caller, receiver: Receiver, ttl: float | None, hours: float
) -> None:
    granted = await caller.subscribe(receiver, ttlMs=ttl)
    assert datetime.fromisoformat(granted["refreshBefore"]) - caller.house.now == timedelta(hours=hours)


async def test_a_grant_ends_with_the_token_that_asked(caller: Caller, receiver: Receiver) -> None:
    house = caller.house
    until = house.now + timedelta(hours=2)
    fields = {"sub": "alice", "access": "write", "scope": ["user:alice"], "expires_at": until.isoformat()}
    house.tokens["brief"] = (await house.core.tokens.mint(fields, caller=Principal.of_master())).token
    granted = await caller.subscribe(receiver, "brief")
    assert datetime.fromisoformat(granted["refreshBefore"]) == until


async def test_a_refused_delivery_is_tried_again_soon_with_the_same_id_and_in_order(
    caller: Caller, receiver: Receiver
) -> None:
    await caller.subscribe(receiver)
    for _ in range(2):
        await caller.house.event()
    receiver.statuses = [503]
    await caller.house.comes_due()
    await caller.look()
    assert len(receiver.events) == 1
    await caller.look()
    assert len(receiver.events) == 1
    caller.house.world.clock.advance(seconds=1)
    await caller.look()
    first, again, second = receiver.events
    assert first == again
    assert first["eventId"] != second["eventId"]
    stamps = [headers["webhook-timestamp"] for headers, _ in receiver.got[1:3]]
    assert int(stamps[1]) - int(stamps[0]) == 1


async def test_what_is_never_accepted_is_given_up_within_a_quarter_of_an_hour_and_the_next_is_told(
    caller: Caller, receiver: Receiver
) -> None:
    await caller.subscribe(receiver)
    await caller.house.event()
    receiver.statuses = [500] * 5
    await caller.house.comes_due()
    began = caller.house.now
    for _ in range(20):
        await caller.look()
        caller.house.world.clock.advance(seconds=60)
    assert len(receiver.events) == 5
    assert int(receiver.got[-1][0]["webhook-timestamp"]) - began.timestamp() <= 900
    await caller.house.event()
    await caller.house.comes_due()
    await caller.look()
    assert len(receiver.events) == 6


@pytest.mark.parametrize("status", [410, 413])
async def test_gone_ends_one_delivery_and_not_the_subscription(caller: Caller, receiver: Receiver, status: int) -> None:
    await caller.subscribe(receiver)
    await caller.house.event()
    await caller.house.event()
    receiver.statuses = [status]
    await caller.house.comes_due()
    await caller.look()
    first, second = receiver.events
    assert first["eventId"] != second["eventId"]
    status_told = (await caller.subscribe(receiver))["deliveryStatus"]
    assert status_told["lastDeliveryAt"] is not None


async def test_a_redirect_is_a_failed_attempt(caller: Caller, receiver: Receiver) -> None:
    await caller.subscribe(receiver)
    await caller.house.event()
    receiver.statuses = [302]
    await caller.house.comes_due()
    await caller.look()
    assert (await caller.subscribe(receiver))["deliveryStatus"]["lastError"] == "http_4xx"


async def test_while_a_secret_rotates_both_sign(caller: Caller, receiver: Receiver) -> None:
    old, new = caller.secret, a_secret(64)
    await caller.subscribe(receiver)
    await caller.subscribe(receiver, secret=new)
    await caller.house.event()
    caller.house.world.clock.advance(seconds=1)
    await caller.house.event(schedule="in 1 minute")
    await caller.house.comes_due(timedelta(minutes=1))
    await caller.look()
    for secret in (old, new):
        verified(receiver.got[-1], secret, caller.house.now)
    await caller.house.comes_due()
    await caller.look()
    verified(receiver.got[-1], new, caller.house.now)
    assert " " not in receiver.got[-1][0]["webhook-signature"]


async def test_unsubscribing_ends_it_may_be_said_again_and_is_an_error_for_what_was_never_held(
    caller: Caller, receiver: Receiver
) -> None:
    await caller.subscribe(receiver)
    assert set(await caller.unsubscribe(receiver)) <= {"resultType"}
    await caller.unsubscribe(receiver, delivery={"mode": "webhook", "url": receiver.url})
    async with caller.house.speaker(MODERN, "bob") as bob:
        error = (
            await refusal(bob, "unsubscribe", name="occurrence.due", arguments={}, delivery={"url": receiver.url})
        ).error
    assert (error.message, error.data["kind"]) == ("NotFound", "subscription")
    await caller.house.event()
    await caller.house.comes_due()
    await caller.look()
    assert receiver.events == []


async def test_at_its_end_delivery_stops_and_url_and_secret_go(caller: Caller, receiver: Receiver) -> None:
    granted = await caller.subscribe(receiver)
    await caller.house.event(schedule="in 25 hours")
    await caller.house.comes_due(timedelta(hours=25))
    await caller.look()
    assert receiver.events == []
    row = await caller.house.world.store.subscriptions.get(granted["id"])
    assert row is not None
    assert (row.url, row.secrets) == ("", b"")
    again = await caller.subscribe(receiver, cursor=granted["cursor"])
    await caller.look()
    assert (again["id"], len(receiver.events)) == (granted["id"], 1)


async def test_nobody_is_told_of_another_s_event(house: House, caller: Caller, receiver: Receiver) -> None:
    async with a_receiver() as bobs:
        both = wired(house, origin_of(receiver), origin_of(bobs))
        await both.subscribe(receiver)
        await both.subscribe(bobs, "bob")
        theirs = await house.event("bob")
        await house.comes_due()
        await both.look()
        assert receiver.events == []
        assert [told["data"]["event_id"] for told in bobs.events] == [str(theirs.id)]


async def test_a_revoked_token_s_subscription_is_terminated(caller: Caller, receiver: Receiver) -> None:
    granted = await caller.subscribe(receiver)
    await caller.house.core.tokens.revoke(sub="alice", caller=Principal.of_master())
    await caller.house.event("bob", tags=["user:bob"])
    await caller.look()
    [told] = receiver.of("terminated")
    assert told["error"]["message"] == "Forbidden"
    row = await caller.house.world.store.subscriptions.get(granted["id"])
    assert row is not None
    assert row.ended_at is not None


async def test_losing_the_one_event_asked_for_ends_the_subscription(caller: Caller, receiver: Receiver) -> None:
    event = await caller.house.event()
    await caller.subscribe(receiver, arguments={"event_id": str(event.id)})
    await caller.house.core.events.update(
        event.id, {"tags": ["user:bob"]}, caller=await caller.house.principal("admin")
    )
    await caller.house.comes_due()
    await caller.look()
    assert receiver.events == []
    assert len(receiver.of("terminated")) == 1


async def test_a_quota_is_told_before_anybody_is_called(house: House, receiver: Receiver) -> None:
    async with a_receiver() as other:
        caller = wired(house, origin_of(receiver), origin_of(other), most=1)
        await caller.subscribe(receiver)
        await caller.subscribe(receiver)
        error = await caller.refused(other.url)
        assert (error.code, error.message) == (-32025, "ResourceExhausted")
        assert error.data == {"limit": "subscriptions", "max": 1}
        assert other.connections == 0


async def test_two_nodes_deliver_once(house: House, caller: Caller, receiver: Receiver) -> None:
    other = wired(house, origin_of(receiver))
    await caller.subscribe(receiver)
    # the other node's vault is the same
    for _ in range(5):
        await house.event()
    await house.comes_due()
    await asyncio.gather(caller.look(), other.look())
    assert len(receiver.events) == 5


async def test_a_node_that_died_costs_a_repetition_at_most(house: House, caller: Caller, receiver: Receiver) -> None:
    await caller.subscribe(receiver)
    await house.event()
    await house.comes_due()
    [row] = await house.world.store.subscriptions.due(10)
    assert await house.world.store.subscriptions.claim(row, timedelta(seconds=60))
    restarted = wired(house, origin_of(receiver))
    await restarted.look()
    assert receiver.events == []
    house.world.clock.advance(seconds=60)
    await restarted.look()
    assert len(receiver.events) == 1


async def test_an_id_per_message_stays_the_same_on_every_attempt(house: House, receiver: Receiver) -> None:
    caller = wired(house, origin_of(receiver), per_message=True)
    await caller.subscribe(receiver)
    await house.event()
    receiver.statuses = [503]
    await house.comes_due()
    await caller.look()
    house.world.clock.advance(seconds=1)
    await caller.look()
    first, again = [headers["webhook-id"] for headers, _ in receiver.got[1:]]
    assert first == again
    assert first.startswith("msg_")
    assert first != receiver.events[0]["eventId"]


@pytest.mark.parametrize(
    "secret",
    [None, "", "plain", "whsec_", "whsec_!!", a_secret(23), a_secret(65), a_secret(32).removeprefix("whsec_")],
    ids=["absent", "empty", "plain", "nothing", "no base64", "short", "long", "no prefix"],  # alike in every process
)
async def test_a_secret_that_is_none_is_refused_before_anybody_is_called(
    caller: Caller, receiver: Receiver, secret: str | None
) -> None:
    error = await caller.refused(receiver.url, secret=secret)
    assert (error.code, error.message) == (-32602, "InvalidParams")
    assert receiver.connections == 0


async def test_an_unpadded_secret_is_as_good(caller: Caller, receiver: Receiver) -> None:
    secret = a_secret(32).rstrip("=")
    await caller.subscribe(receiver, secret=secret)


async def test_other_modes_are_unsupported(caller: Caller, receiver: Receiver) -> None:
    error = await caller.refused(receiver.url, delivery={"mode": "email", "url": receiver.url})
    assert (error.message, error.data) == ("Unsupported", {"feature": "deliveryMode", "value": "email"})


async def test_private_addresses_get_not_a_byte_and_look_dead(house: House, receiver: Receiver) -> None:
    """A listener on this very machine, which nobody allowed: spelled in every way, over https."""
    caller = wired(house)
    port = origin_of(receiver).rpartition(":")[2]
    for url in ("http://127.0.0.1", f"http://127.0.0.1:{port}/", f"https://127.0.0.1:{port}/", "ftp://x.example/"):
        assert (await caller.refused(url)).code == -32602
    reasons = set()
    for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "localhost", "10.0.0.1", "169.254.169.254"):
        error = await caller.refused(f"https://{host}/hook")
        assert error.message == "CallbackEndpointError"
        reasons.add(error.data["reason"])
    assert reasons == {"connection_refused"}
    assert receiver.connections == 0


async def test_a_development_origin_lifts_nothing_but_itself(house: House, receiver: Receiver) -> None:
    async with a_receiver() as other:
        caller = wired(house, origin_of(receiver))
        await caller.subscribe(receiver)
        assert (await caller.refused(other.url)).code == -32602
        assert other.connections == 0


async def test_no_secret_is_at_rest_in_the_open_or_told(
    house: House, caller: Caller, receiver: Receiver, tmp_path: Path
) -> None:
    granted = await caller.subscribe(receiver)
    assert caller.secret not in json.dumps(granted)
    row = await house.world.store.subscriptions.get(granted["id"])
    assert row is not None
    assert caller.secret not in repr(row)
    plain = caller.secret.removeprefix("whsec_").encode()
    files = await asyncio.to_thread(lambda: [path.read_bytes() for path in tmp_path.rglob("qhronos.db*")])
    assert row.secrets
    assert not any(plain in content for content in (row.secrets, *files))


@pytest.mark.parametrize("origin", ["localhost:3000", "http://a.example/path", "", "http://u@a.example"])
def test_a_development_origin_that_is_none_stops_the_start_with_one_line(origin: str) -> None:
    with pytest.raises(StartRefusedError, match=r"events\.dev_origins"):
        lifted(hardened(EgressPolicy()), [origin])


async def test_the_position_of_a_quiet_subscription_is_written_now_and_then(
    caller: Caller, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "WRITTEN_EVERY", 2)
    granted = await caller.subscribe(receiver)
    for _ in range(3):
        await caller.house.event("bob")
    await caller.look()
    row = await caller.house.world.store.subscriptions.get(granted["id"])
    assert row is not None
    assert str(row.cursor) != granted["cursor"]
    await caller.house.event()
    await caller.house.comes_due()
    await caller.look()
    assert len(receiver.events) == 1


async def test_a_node_without_the_key_leaves_a_subscription_to_another_a_little_later(
    caller: Caller, receiver: Receiver, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted = await caller.subscribe(receiver)
    event = await house.event()
    await house.comes_due()

    def unknown(_: Subscription) -> SubscriptionSecrets:
        raise KeyMissingError

    with monkeypatch.context() as patch:
        patch.setattr(caller.deliveries, "_open", unknown)
        await caller.look()
    row = await house.world.store.subscriptions.get(granted["id"])
    assert row is not None
    assert (row.attempts, row.lease_until) == (0, None)
    await caller.look()
    assert receiver.events == []
    house.world.clock.advance(seconds=10)
    await caller.look()
    assert [told["data"]["event_id"] for told in receiver.events] == [str(event.id)]
