"""What a receiver gets, and what becomes of its answer (rest.md §6; lessons L15, L16; F31, F56)."""

import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from qhronos_core.adapters.http.answers import timeout_of
from qhronos_core.adapters.http.apicall import ApicallCourier
from qhronos_core.adapters.http.egress import Egress
from qhronos_core.adapters.http.webhook import WebhookCourier
from qhronos_core.domain.destination import EgressPolicy
from qhronos_core.domain.event import Action, ActionType, Event
from qhronos_core.domain.ids import EventId, occurrence_id
from qhronos_core.domain.occurrence import AttemptOutcome, Occurrence
from qhronos_core.domain.signature import new_secret
from qhronos_core.ports import Delivery, EventSecrets, Outcome

from .receivers import OK, Receiver, Request, answering, receiving, silence

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
EVENT_ID = EventId(UUID("01936b5c-0000-7000-8000-000000000001"))
SECRET = new_secret()


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    async with Egress(EgressPolicy(allow_loopback=True), tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as door:
        yield door


def webhook(url: str, **fields: Any) -> Event:
    return Event(
        id=EVENT_ID,
        created_by="someone",
        name="Grüße",
        description="{{x.__class__}} ${HOME} {0}",
        schedule="0 12 * * *",
        anchor_at=NOON,
        created_at=NOON,
        updated_at=NOON,
        metadata={"z": 1, "a": [1.5, None, True], "big": 2**70},
        tags=("ops", "team:a"),
        action=Action(ActionType.WEBHOOK, {"url": url}),
        **fields,
    )


def apicall(url: str, **params: Any) -> Event:
    return replace(webhook(url), action=Action(ActionType.APICALL, {"url": url, **params}))


def delivery(event: Event, *, attempt: int = 1, now: datetime | None = None, **secrets: Any) -> Delivery:
    scheduled_at = NOON - timedelta(days=1)
    occurrence = Occurrence(
        id=occurrence_id(event.id, scheduled_at),
        event_id=event.id,
        scheduled_at=scheduled_at,
        created_at=NOON,
        updated_at=NOON,
        round_began_at=NOON,
        due_at=NOON,
        attempts_made=attempt,
    )
    opened = EventSecrets(**{"hmac_secret": SECRET, **secrets})
    return Delivery(event, occurrence, opened, now or datetime.now(UTC))


async def outcome_of(egress: Egress, reply: bytes, *, now: datetime = NOON) -> Outcome:
    async with receiving(answering(reply, close=True)) as receiver:
        return await WebhookCourier(egress).deliver(delivery(webhook(receiver.url()), now=now))


def reply(status: int, **headers: str) -> bytes:
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} x\r\n{fields}Content-Length: 0\r\n\r\n".encode()


def verified(request: Request, secret: str = SECRET) -> Any:
    return Webhook(secret).verify(request.body, request.headers)


# --- webhooks: what is sent ---------------------------------------------------------------------------


async def test_a_webhook_is_as_published_and_the_reference_library_accepts_it(egress: Egress) -> None:
    async with receiving(answering(OK)) as receiver:
        sent = delivery(webhook(receiver.url("/hook?token=s3cret")), attempt=3)
        outcome = await WebhookCourier(egress).deliver(sent)
    (request,) = receiver.requests
    headers = request.headers
    assert request.line == "POST /hook?token=s3cret HTTP/1.1"
    assert list(verified(request)) == [
        *("event_id", "occurrence_id", "name", "description", "scheduled_at", "metadata", "tags"),
    ]
    assert json.loads(request.body) == {
        "event_id": str(EVENT_ID),
        "occurrence_id": str(sent.occurrence.id),
        "name": "Grüße",
        "description": "{{x.__class__}} ${HOME} {0}",
        "scheduled_at": "2026-11-23T12:00:00Z",
        "metadata": {"z": 1, "a": [1.5, None, True], "big": 2**70},
        "tags": ["ops", "team:a"],
    }
    assert headers["webhook-id"] == headers["idempotency-key"] == str(sent.occurrence.id)
    assert headers["qhronos-attempt"] == "3"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == "Qhronos"
    assert headers["x-qhronos-signature"] == signed_as_the_original_did(request.body)
    assert outcome.outcome is AttemptOutcome.ACCEPTED
    assert (outcome.status_code, outcome.error, outcome.response) == (200, None, b"ok")
    assert outcome.destination == receiver.url("/hook?token=")
    assert timedelta(0) < outcome.duration < timedelta(seconds=2)


def signed_as_the_original_did(body: bytes) -> str:
    import base64

    return hmac.new(base64.b64decode(SECRET.removeprefix("whsec_")), body, hashlib.sha256).hexdigest()


async def test_every_attempt_has_the_same_id_and_bytes_and_its_own_time_number_and_signature(egress: Egress) -> None:
    now = datetime.now(UTC)
    async with receiving(answering(OK)) as receiver:
        event = webhook(receiver.url())
        for attempt in (1, 2):
            sent = delivery(event, attempt=attempt, now=now + timedelta(seconds=attempt))
            await WebhookCourier(egress).deliver(sent)
    first, second = receiver.requests
    assert first.body == second.body
    for same in ("webhook-id", "idempotency-key", "x-qhronos-signature"):
        assert first.headers[same] == second.headers[same]
    for own in ("webhook-timestamp", "webhook-signature", "qhronos-attempt"):
        assert first.headers[own] != second.headers[own]
    verified(first)
    verified(second)


async def test_a_catch_up_says_how_many_it_stands_for_and_since_when(egress: Egress) -> None:
    async with receiving(answering(OK)) as receiver:
        sent = delivery(webhook(receiver.url()))
        late = replace(sent.occurrence, missed=7, missed_since=NOON - timedelta(days=2, microseconds=-5))
        await WebhookCourier(egress).deliver(replace(sent, occurrence=late))
    told = json.loads(receiver.requests[0].body)
    assert list(told)[-1] == "catch_up"
    assert told["catch_up"] == {"missed": 7, "since": "2026-11-22T12:00:00.000005Z"}


async def test_for_a_while_after_a_change_the_old_secret_signs_too_and_then_no_more(egress: Egress) -> None:
    old, older, now = new_secret(), new_secret(), datetime.now(UTC)
    retired = ((older, now - timedelta(seconds=1)), (old, now + timedelta(hours=24)))
    async with receiving(answering(OK)) as receiver:
        await WebhookCourier(egress).deliver(delivery(webhook(receiver.url()), now=now, retired=retired))
    (request,) = receiver.requests
    assert request.headers["webhook-signature"].count("v1,") == 2
    verified(request, SECRET)
    verified(request, old)
    with pytest.raises(WebhookVerificationError):
        verified(request, older)


async def test_a_plain_secret_signs_with_its_utf8_bytes(egress: Egress) -> None:
    async with receiving(answering(OK)) as receiver:
        await WebhookCourier(egress).deliver(delivery(webhook(receiver.url()), hmac_secret="pä55word"))
    (request,) = receiver.requests
    Webhook("pä55word".encode()).verify(request.body, request.headers)
    assert request.headers["x-qhronos-signature"] == hmac.new("pä55word".encode(), request.body, "sha256").hexdigest()


@pytest.mark.parametrize("secret", [None, "", "whsec_"])
async def test_without_a_secret_nothing_is_sent_least_of_all_signed_with_an_empty_key(
    egress: Egress, secret: str | None
) -> None:
    async with receiving(answering(OK)) as receiver:
        outcome = await WebhookCourier(egress).deliver(delivery(webhook(receiver.url()), hmac_secret=secret))
    assert (outcome.outcome, outcome.error) == (AttemptOutcome.NO_ANSWER, "no_signing_secret")
    assert receiver.connections == 0


# --- what an answer means -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226, 299])
async def test_a_2xx_accepts(egress: Egress, status: int) -> None:
    outcome = await outcome_of(egress, reply(status, Retry_After="60"))
    assert (outcome.outcome, outcome.status_code, outcome.error) == (AttemptOutcome.ACCEPTED, status, None)
    assert not outcome.gone
    assert outcome.retry_after is None


@pytest.mark.parametrize(
    "status", [300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 409, 429, 500, 502, 503, 504, 599]
)
async def test_anything_else_is_a_refusal_3xx_included(egress: Egress, status: int) -> None:
    async with receiving(answering(OK)) as canary:
        outcome = await outcome_of(egress, reply(status, Location=canary.url()))
    assert (outcome.outcome, outcome.status_code) == (AttemptOutcome.REFUSED, status)
    assert outcome.error == f"http_{status}"
    assert not outcome.gone
    assert canary.connections == 0


async def test_a_410_is_gone(egress: Egress) -> None:
    outcome = await outcome_of(egress, reply(410))
    assert (outcome.outcome, outcome.gone, outcome.error) == (AttemptOutcome.REFUSED, True, "http_410")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("120", timedelta(minutes=2)),
        ("0", timedelta(seconds=1)),
        ("1", timedelta(seconds=1)),
        ("31536000", timedelta(hours=24)),
        ("999999999999999999", timedelta(hours=24)),
        (format_datetime(NOON + timedelta(minutes=5), usegmt=True), timedelta(minutes=5)),
        (format_datetime(NOON + timedelta(days=365), usegmt=True), timedelta(hours=24)),
        ("Tuesday, 24-Nov-26 12:00:30 GMT", timedelta(seconds=30)),
        ("Tue Nov 24 12:00:30 2026", timedelta(seconds=30)),
        (format_datetime(NOON - timedelta(minutes=5), usegmt=True), None),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("1.5", None),
        ("1e3", None),
        ("+5", None),
        ("5, 6", None),
        ("٥", None),
        ("9" * 5_000, timedelta(hours=24)),
        ("Tue, 99 Nov 2026 12:00:00 GMT", None),
        ("Tue, 24 Nov 99999999 12:00:00 GMT", None),
        ("Tue, 24 Nov 2026 12:00:00 +9999999999", None),
    ],
)
async def test_retry_after_is_heard_within_bounds_and_rubbish_is_not(
    egress: Egress, status: int, said: str, heard: timedelta | None
) -> None:
    assert (await outcome_of(egress, reply(status, Retry_After=said))).retry_after == heard


@pytest.mark.parametrize("status", [301, 400, 404, 413, 500])
async def test_retry_after_of_other_answers_is_not_heard(egress: Egress, status: int) -> None:
    assert (await outcome_of(egress, reply(status, Retry_After="60"))).retry_after is None


async def test_no_answer_is_recorded_with_its_class_and_where_it_was_sent(egress: Egress) -> None:
    async with receiving(silence) as receiver:
        event = webhook(receiver.url("/x?key=s3cret"))
        courier = WebhookCourier(egress)
        # The least timeout is a second; the courier's own lower bound is tested below.
        event = replace(event, action=Action(ActionType.WEBHOOK, {**event.action.params, "timeout": "1s"}))
        outcome = await courier.deliver(delivery(event))
    assert (outcome.outcome, outcome.status_code, outcome.error) == (AttemptOutcome.NO_ANSWER, None, "timeout")
    assert outcome.destination == receiver.url("/x?key=")
    assert timedelta(seconds=0.9) < outcome.duration < timedelta(seconds=1.5)


@pytest.mark.parametrize("courier", [WebhookCourier, ApicallCourier])
async def test_a_destination_that_is_no_longer_allowed_is_recorded_and_not_called(
    courier: type[WebhookCourier],
) -> None:
    async with receiving(answering(OK)) as receiver, Egress(EgressPolicy()) as strict:
        event = webhook(receiver.url("/x?key=s3cret"))
        outcome = await courier(strict).deliver(delivery(event))
        assert courier(strict).host_of(event) is None
    assert (outcome.outcome, outcome.error) == (AttemptOutcome.NO_ANSWER, "destination_not_allowed")
    assert outcome.destination == receiver.url("/x")
    assert receiver.connections == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, 15), ("1s", 1), ("20s", 20), ("30s", 30), ("5m", 30), ("rubbish", 15), (7, 15)]
)
def test_the_deadline_of_an_attempt_is_the_actions_own_within_1_and_30_seconds(text: object, seconds: int) -> None:
    assert timeout_of(text, timedelta(seconds=15)) == timedelta(seconds=seconds)


async def test_sends_are_counted_by_host_and_port(egress: Egress) -> None:
    courier = WebhookCourier(egress)
    assert courier.host_of(webhook("http://LOCALHOST:9000/a?b")) == "localhost:9000"
    assert courier.host_of(webhook("http://localhost/a?b")) == "localhost"


# --- apicall ----------------------------------------------------------------------------------------------


async def called(egress: Egress, secrets: Mapping[str, str] | None = None, **params: Any) -> Request:
    async with receiving(answering(OK)) as receiver:
        event = apicall(receiver.url("/api?x={{y}}"), **params)
        outcome = await ApicallCourier(egress).deliver(delivery(event, attempt=2, headers=dict(secrets or {})))
    assert outcome.outcome is AttemptOutcome.ACCEPTED
    return receiver.requests[0]


async def test_an_apicall_carries_its_id_and_attempt_and_is_not_signed(egress: Egress) -> None:
    request = await called(egress)
    expected = {"idempotency-key", "qhronos-attempt", "host", "user-agent", "accept-encoding", "content-length"}
    assert set(request.headers) == expected
    assert request.headers["qhronos-attempt"] == "2"
    assert request.headers["idempotency-key"] == str(delivery(apicall("")).occurrence.id)
    assert request.line == "POST /api?x=%7B%7By%7D%7D HTTP/1.1"
    assert request.body == b""


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_the_method_is_the_one_asked_for(egress: Egress, method: str) -> None:
    assert (await called(egress, method=method)).line.startswith(f"{method} /api")


@pytest.mark.parametrize(
    ("body", "sent", "content_type"),
    [
        ("text {{as}} it is ü", "text {{as}} it is ü".encode(), "text/plain; charset=utf-8"),
        ("", b"", "text/plain; charset=utf-8"),
        ({"b": 1, "a": "ü"}, '{"b":1,"a":"ü"}'.encode(), "application/json"),
        ([1, 2.5, None, False], b"[1,2.5,null,false]", "application/json"),
        ({"big": 2**70}, b'{"big":1180591620717411303424}', "application/json"),
        (0, b"0", "application/json"),
    ],
)
async def test_text_is_sent_as_it_is_and_the_rest_as_json(
    egress: Egress, body: Any, sent: bytes, content_type: str
) -> None:
    request = await called(egress, body=body)
    assert (request.body, request.headers["content-type"]) == (sent, content_type)


async def test_the_callers_headers_are_sent_and_win_over_our_defaults(egress: Egress) -> None:
    request = await called(
        egress,
        body={"a": 1},
        headers={"content-type": "application/vnd.x+json", "USER-AGENT": "mine", "X-Trace": "1"},
    )
    assert request.headers["content-type"] == "application/vnd.x+json"
    assert request.headers["user-agent"] == "mine"
    assert request.headers["x-trace"] == "1"
    assert request.head.lower().count(b"content-type") == request.head.lower().count(b"user-agent") == 1


async def test_secret_header_values_take_the_place_of_what_stands_for_them(egress: Egress) -> None:
    request = await called(
        egress,
        {"Authorization": "Bearer s3cret", "x-api-key": "k3y"},
        headers={"X-API-Key": "***", "X-Open": "o"},
        secret_headers=["X-API-Key"],
    )
    assert request.headers["authorization"] == "Bearer s3cret"
    assert request.headers["x-api-key"] == "k3y"
    assert request.headers["x-open"] == "o"
    assert b"***" not in request.head


async def test_a_secret_that_a_receiver_echoes_is_not_kept(egress: Egress) -> None:
    """S28, S34: the answer is kept and shown, and what was secret on the way out is so on the way back."""
    echo = b'{"authorization": "Bearer s3cret-token", "split": "s3cret-token", "x-api-key": "k3y-of-mine", "open": "o"}'
    head = b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n" % len(echo)
    secrets = {"Authorization": "Bearer s3cret-token", "X-Api-Key": "k3y-of-mine", "X-Short": "o"}
    async with receiving(answering(head + echo)) as receiver:
        event = apicall(receiver.url(), headers={"X-Open": "open"})
        outcome = await ApicallCourier(egress).deliver(delivery(event, headers=secrets))
    assert outcome.response == b'{"authorization": "***", "split": "***", "x-api-key": "***", "open": "o"}'


async def test_a_slot_is_used_for_each_of_many_at_once(egress: Egress) -> None:
    import asyncio

    async def one(receiver: Receiver, number: int) -> Outcome:
        return await WebhookCourier(egress).deliver(delivery(webhook(receiver.url(f"/{number}"))))

    async with receiving(answering(OK)) as receiver:
        outcomes = await asyncio.gather(*(one(receiver, number) for number in range(200)))
    assert {outcome.outcome for outcome in outcomes} == {AttemptOutcome.ACCEPTED}
    assert len({request.line for request in receiver.requests}) == 200
    for request in receiver.requests:
        verified(request)
