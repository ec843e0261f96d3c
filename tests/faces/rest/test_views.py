"""rest.md §2: the shapes of an answer."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from qhronos_core.domain.event import Action, ActionType, Event
from qhronos_core.domain.ids import EventId, OccurrenceId
from qhronos_core.domain.lifecycle import State
from qhronos_core.domain.occurrence import Attempt, AttemptOutcome, Occurrence
from qhronos_mcp import views

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
EVENT = EventId(UUID(int=1))


def an_event(action: Action) -> Event:
    return Event(EVENT, "alice", "stand-up", "0 9 * * *", NOON, NOON, NOON, action=action)


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (NOON, "2026-11-23T12:00:00Z"),
        (NOON.replace(microsecond=120), "2026-11-23T12:00:00.00012Z"),
        (datetime(2026, 11, 23, 13, tzinfo=timezone(timedelta(hours=1))), "2026-11-23T12:00:00Z"),
    ],
)
def test_an_instant_is_utc_with_z_and_no_zero_fraction(at: datetime, shown: str) -> None:
    assert views.instant(at) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(10, "10s"), (90, "1m30s"), (900, "15m"), (86_400, "1d"), (93_784, "1d2h3m4s"), (3600, "1h"), (604_800, "1w")],
)
def test_a_duration_is_the_shortest_text_of_its_length(seconds: int, shown: str) -> None:
    assert views.duration(timedelta(seconds=seconds)) == shown


def test_the_values_of_secret_headers_are_hidden_whatever_their_case() -> None:
    action = Action(
        ActionType.APICALL,
        {
            "url": "https://api.example.com/",
            "headers": {"authorization": "Bearer canary", "X-Api-Key": "canary", "X-Plain": "seen"},
            "secret_headers": ["x-api-key"],
        },
    )
    shown = views.event(an_event(action))["action"]
    assert shown["params"]["headers"] == {"authorization": "***", "X-Api-Key": "***", "X-Plain": "seen"}
    assert "canary" not in str(shown)


@pytest.mark.parametrize(
    ("action", "webhook"),
    [
        (Action(ActionType.WEBHOOK, {"url": "https://a.example/x"}), "https://a.example/x"),
        (Action(ActionType.WEBSOCKET, {"client_name": "laptop"}), "q:laptop"),
    ],
)
def test_webhook_is_echoed_where_the_action_has_that_form(action: Action, webhook: str) -> None:
    assert views.event(an_event(action))["webhook"] == webhook


def test_an_inbox_event_has_no_webhook() -> None:
    assert "webhook" not in views.event(an_event(Action()))


def test_the_sealed_secrets_and_what_is_ours_alone_are_in_no_view() -> None:
    shown = views.event(an_event(Action()))
    assert not {"secrets", "labels", "version", "anchor_at", "created_jti", "chain_depth"} & shown.keys()


def test_an_occurrence_shows_the_seeds_six_names() -> None:
    row = Occurrence(OccurrenceId(UUID(int=2)), EVENT, NOON, NOON, NOON, NOON, NOON)
    shown = views.occurrence(row)
    assert {"id", "event_id", "scheduled_at", "status", "created_at", "updated_at"} <= shown.keys()
    assert shown["due_at"] == "2026-11-23T12:00:00Z"
    assert "caught_up" not in shown


def test_only_a_pending_occurrence_has_a_next_attempt() -> None:
    row = Occurrence(OccurrenceId(UUID(int=2)), EVENT, NOON, NOON, NOON, NOON, NOON, state=State.DISPATCHED)
    assert views.occurrence(row)["due_at"] is None


def test_the_receivers_answer_is_shown_only_when_asked_for_and_as_text() -> None:
    made = Attempt(OccurrenceId(UUID(int=2)), 1, NOON, NOON, AttemptOutcome.REFUSED, 500, response=b"caf\xe9" * 20_000)
    assert "response" not in views.attempt(made)
    assert len(views.attempt(made, with_response=True)["response"].encode()) <= 3 * views.RESPONSE_LIMIT
    assert views.attempt(made, with_response=True)["response"].startswith("caf\ufffd")
