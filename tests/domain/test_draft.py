"""One reading of an event's fields: limits (S20), closed input (S15), fixes that are accepted, and what is no change."""

import copy
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qhronos_core.domain.draft import ANSWER_ONLY, UNSET, WRITABLE, Draft, changed_fields, read_fields
from qhronos_core.domain.errors import Fault, InvalidInputError
from qhronos_core.domain.event import Ack, Action, ActionType, CatchUp, Event, EventStatus, Overlap, Policies
from qhronos_core.domain.fields import MASK
from qhronos_core.domain.ids import EventId
from qhronos_core.domain.retry import RetryPolicy
from qhronos_mcp import views

Fields = dict[str, Any]

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
LEAST: Fields = {"name": "an event", "schedule": "0 9 * * *"}
HOOK = "https://receiver.example/hook"
WEBHOOK: Fields = {"type": "webhook", "params": {"url": HOOK}}
CANARY = "canary-7f3a"


def created(**fields: Any) -> Draft:
    return read_fields({**LEAST, **fields}, creating=True)


def faults(given: Mapping[str, object], *, creating: bool = True, event: Event | None = None) -> tuple[Fault, ...]:
    """Of a request that is refused; empty where it is accepted."""
    try:
        read_fields(given, creating=creating, event=event)
    except InvalidInputError as error:
        return error.faults
    return ()


def faulty(given: Mapping[str, object], **how: Any) -> list[str]:
    return [fault.field for fault in faults(given, **how)]


def event_of(draft: Draft, **fields: Any) -> Event:
    return Event(
        **{
            "schedule": None,
            **changed_fields(draft, None),
            "id": EventId(UUID(int=7)),
            "created_by": "someone",
            "anchor_at": NOON,
            "created_at": NOON,
            "updated_at": NOON,
            **fields,
        }
    )


def an_event(*, status: EventStatus = EventStatus.ACTIVE, paused_until: datetime | None = None, **fields: Any) -> Event:
    return event_of(created(**fields), status=status, paused_until=paused_until)


def changes(event: Event, **fields: Any) -> Mapping[str, Any]:
    return changed_fields(read_fields(fields, creating=False, event=event), event)


# --- limits: S20 --------------------------------------------------------------------------------------


def metadata_of(size: int) -> Fields:
    """An object whose shortest JSON has this many bytes."""
    return {"k": "x" * (size - len('{"k":""}'))}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"n": value}
    return value


def apicall(**params: Any) -> Fields:
    return {"type": "apicall", "params": {"url": HOOK, **params}}


Pairs = list[tuple[str, Any]]


def each(name: str, *values: Any) -> Pairs:
    return [(name, value) for value in values]


WITHIN: Pairs = [
    *each("name", "x", "x" * 200, "é" * 200, "日本語 🎉", " padded "),
    *each("description", "", "x" * 4_000, "two\nlines", "hidden\u200bcharacters", None),
    *each("timezone", "UTC", "Europe/Paris", None),
    *each("start_time", "2030-01-01T00:00:00Z", "2030-01-01 00:00:00+02:00", None),
    *each("end_time", "2199-12-31T23:59:59Z", None),
    *each("max_occurrences", 1, 100_000, None),
    *each("exclusions", [], ["2026-12-25"] * 100, ["2026-12-24/2027-01-02"], None),
    *each("tags", [], ["x"], ["x" * 128], [f"t{n}" for n in range(64)], ["a"] * 100, None),
    *each("metadata", {}, metadata_of(65_536), nested(31), {"": ""}, {"n": 10**308}, None),
    ("metadata", {"list": [1, 1.5, True, None, "text", {"deep": []}]}),
    *each("key", "k", "k" * 100, "A-Z.a_z:0/9", None),
    *each("catch_up", "one", "all", "none", None),
    *each("overlap", "allow", "skip", "queue", None),
    *each("expires_after", "1s", "90s", "1h30m", "2 hours", "PT15M", "P2W", None),
    *each("ack", "none", "required", None),
    *each("ack_timeout", "10s", "7d", "168h", "P1W", None),
    *each("retry", {}, {"max_attempts": 1}, {"max_attempts": 20}, {"delays": ["1s"] * 20}, None),
    ("retry", {"max_attempts": None, "delays": None}),
    *each("hmac_secret", "x", "x" * 256, "é" * 128, "whsec_c2VjcmV0", None),
    *each("status", None, "active", "paused", "inactive"),
    *each("paused_until", "2030-01-01T00:00:00Z", None),
    *each("webhook", HOOK, "q:worker", "q:" + "w" * 128, "https://x/" + "p" * 2_038, None),
    *each("action", WEBHOOK, {"type": "inbox"}, {"type": "inbox", "params": {}}, None),
    ("action", {"type": "inbox", "params": None}),
    *(("action", {"type": "webhook", "params": {"url": HOOK, "timeout": t}}) for t in ("1s", "30s", None)),
    *(("action", {"type": "websocket", "params": {"client_name": c}}) for c in ("c", "A.b_c-9", "x" * 128)),
    *(("action", apicall(method=m)) for m in ("GET", "POST", "PUT", "PATCH", "DELETE", None)),
    *(("action", apicall(body=b)) for b in ("text", {"a": 1}, [1], 5, True, None)),
    ("action", apicall(headers={"X-Key": "k", "Accept": "*/*"}, secret_headers=["x-key"])),
    ("action", apicall(headers={}, secret_headers=[])),
    *(pair for name in sorted(ANSWER_ONLY) for pair in each(name, None, 5, "anything", {"a": []})),
]

NO_PARAMS: list[Any] = [None, {}, [], "x", {"url": 5}, {"url": ""}]
NO_HEADERS: list[Any] = [[], "x", {"X": 5}, {"X": None}, {"X y": "z"}, {"X": "a\r\nb"}]
BEYOND: Pairs = [
    *each("name", None, 5, True, [], {}, "", " ", "\t", "\u3000", "x" * 201),
    *(("name", f"a{hidden}b") for hidden in "\x00\n\r\x1b\x7f\x85\u2028\u200b\u200d\u202e\u2066\ufeff\ud800\U000e0041"),
    *each("description", 5, [], {}, True, "x" * 4_001, "a\x00b", "a\ud800b"),
    *each("schedule", 5, True, [], ["@daily"], 1.5),
    *each("timezone", 5, "", "Paris", "EDT", "europe/paris", "UTC+2", "../etc/passwd", "x" * 65),
    *each("start_time", 5, 1_900_000_000, True, "", "2030-01-01", "2030-01-01T00:00", "tomorrow"),
    *each("end_time", 5, "2030-02-30T00:00:00Z", "2200-01-01T00:00:00Z", "2030-01-01T24:00:00Z"),
    *each("max_occurrences", 0, -1, 100_001, 1.5, 5.0, "5", True, [5]),
    *each("exclusions", "2026-12-25", [5], [None], {}, ["2026-12-25"] * 101, 5),
    *each("tags", "a", [5], [True], [None], [[]], [""], ["x" * 129], ["a,b"], {}, 5),
    ("tags", [f"t{n}" for n in range(65)]),
    *(("tags", [f"a{hidden}b"]) for hidden in "\x00\n\x1b\u200b\u202e\ufeff\ud800\U000e0041"),
    *each("metadata", "x", 5, [], True, metadata_of(65_537), nested(32), {"a": "\x00"}, {"\x00": 1}),
    *(("metadata", {"n": n}) for n in (float("nan"), float("inf"), 2**1024, -(10**400), "\udfff", b"", {1: 1})),
    *each("key", 5, "", "k" * 101, "a b", "é", "a\n", "k\u200b", "a,b", "a\x00"),
    *each("catch_up", "One", "", 1, True, ["one"], "latest"),
    *each("overlap", "Allow", "", 1, {}, "wait"),
    *each("expires_after", 5, 60, "5", "", "0s", "-5m", "1.5h", "P1M", "P1Y", True, ["5m"]),
    *each("ack", "Required", True, "", "yes"),
    *each("ack_timeout", "9s", "8d", "604801s", 15, "15", True),
    *each("retry", 3, "x", [], {"max_attempts": 0}, {"max_attempts": 21}, {"max_attempts": "3"}),
    *(("retry", {"delays": d}) for d in ([], ["5s"] * 21, ["0s"], ["5"], [5], "5s", [None], ["400d"])),
    ("retry", {"attempts": 3}),
    *each("hmac_secret", "", 5, True, [], "x" * 257, "é" * 129, "whsec_", "whsec_!!", "a\x00b"),
    *each("status", "deleted", "Active", "", 5, True, "stopped"),
    *each("paused_until", 5, "2h", "2030-01-01", "2030-01-01T00:00"),
    *each("webhook", 5, "", "ftp://x", "x.example", "q:", "q:a b", "q:" + "w" * 129, [HOOK]),
    ("webhook", "https://x/" + "p" * 2_039),
    *each("action", "inbox", HOOK, 5, [], True, {}, {"type": None}, {"type": "email"}, {"type": 5}),
    *each("action", *({"type": "webhook", "params": v} for v in NO_PARAMS)),
    ("action", {"type": "webhook"}),
    ("action", {**WEBHOOK, "extra": 1}),
    ("action", {"type": "webhook", "params": {"url": "https://x/" + "p" * 2_039}}),
    *(("action", {"type": "webhook", "params": {"url": HOOK, "timeout": t}}) for t in ("999", "0s", "31s", 15, True)),
    ("action", {"type": "webhook", "params": {"url": HOOK, "method": "GET"}}),
    ("action", {"type": "inbox", "params": {"url": HOOK}}),
    *(("action", {"type": "websocket", "params": {"client_name": c}}) for c in ("", "a b", "x" * 129, 5, "é", None)),
    *(("action", apicall(method=m)) for m in ("post", "HEAD", "TRACE", "", 5, "GET ")),
    *each("action", *(apicall(headers=h) for h in NO_HEADERS)),
    *(("action", apicall(headers={name: "x"})) for name in ("Host", "Cookie", "webhook-id", "Qhronos-X", "")),
    *(("action", apicall(headers={"X": "y"}, secret_headers=h)) for h in ("X", [5], ["Z"], {"X": "y"})),
]


@pytest.mark.parametrize(("name", "value"), WITHIN, ids=lambda value: repr(value)[:40])
def test_within_the_limits_it_is_accepted(name: str, value: object) -> None:
    assert faults({**LEAST, name: value}) == ()


@pytest.mark.parametrize(("name", "value"), BEYOND, ids=lambda value: ascii(value)[:40])
def test_beyond_them_it_is_refused_by_its_name(name: str, value: object) -> None:
    found = faults({**LEAST, name: value})
    assert found
    assert all(fault.field.split(".")[0] == name for fault in found)
    assert all(fault.why.endswith((".", "?")) for fault in found)


@pytest.mark.parametrize(("name", "value"), BEYOND, ids=lambda value: ascii(value)[:40])
def test_and_each_fix_merged_into_the_same_request_is_accepted(name: str, value: object) -> None:
    given = {**LEAST, name: value}
    for fault in faults(given):
        assert len(fault.fix) <= 3
        for fix in fault.fix:
            assert faults({**given, **fix}) == (), fix


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        ("5", 5),
        (5.0, 5),
        (0, 1),
        (100_001, 100_000),
        (-(10**400), None),
    ],
)
def test_a_number_s_fix_is_the_nearest_that_is_accepted(value: object, fix: int | None) -> None:
    (found,) = faults({**LEAST, "max_occurrences": value})
    assert found.fix == (({"max_occurrences": fix},) if fix is not None else ())


def test_a_schedule_is_passed_on_as_it_was_given() -> None:
    rule = {"frequency": "weekly", "by_day": ["MO"]}
    for schedule in ("  every   15m ", "nonsense", "", rule):
        assert created(schedule=schedule).schedule == schedule


# --- all at once --------------------------------------------------------------------------------------


def test_every_faulty_field_is_told_of_at_once_ten_at_most() -> None:
    given = {"name": "", "schedule": "15m", "timezone": "EDT", "tags": "a", "ack": 1, "retry": {"max_attempts": 0}}
    assert set(faulty(given)) == {"name", "schedule", "timezone", "tags", "ack", "retry.max_attempts"}
    assert len(faults({f"unknown{n}": n for n in range(1_000)})) == 10
    assert len(faults({**LEAST, "metadata": nested(100_000), **{f"unknown{n}": n for n in range(20)}})) == 10


@pytest.mark.parametrize(
    "schedule", ["15m", "0 0 30 2 *", "0 22-6 * * *", "at 9", {"frequency": "weekly", "by_day": ["XX"]}], ids=str
)
def test_a_faulty_schedule_is_told_of_beside_other_faults(schedule: object) -> None:
    found = {fault.field.split(".")[0]: fault for fault in faults({"name": "", "schedule": schedule})}
    assert set(found) == {"name", "schedule"}
    assert found["schedule"].fix
    assert faulty({**LEAST, "name": ""}) == ["name"]


def test_the_first_fixes_of_all_faults_together_are_accepted() -> None:
    given: Fields = {"name": 5, "schedule": "15m", "tags": "a,b", "max_occurrences": "7", "ack_timeout": "1s"}
    merged = dict(given)
    for fault in faults(given):
        merged |= fault.fix[0]
    assert faults(merged) == ()


def test_several_faults_within_one_object_are_mended_by_one_fix() -> None:
    given = {**LEAST, "retry": {"max_attempts": 99, "delays": ["5s", "0s", "x"]}}
    first, *others = faults(given)
    assert [fault.field for fault in (first, *others)] == ["retry.max_attempts", "retry.delays.1", "retry.delays.2"]
    assert all(not fault.fix for fault in others)
    assert faults({**given, **first.fix[0]}) == ()
    assert given["retry"] == {"max_attempts": 99, "delays": ["5s", "0s", "x"]}  # what was sent is left as it is


# --- closed: S15 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["owner", "fence", "attempts_made", "labels", "version", "created_jti", "", "N\x00", "é"]
)
def test_an_unknown_field_is_refused_and_the_nearest_known_one_is_named(name: str) -> None:
    (found,) = faults({**LEAST, name: 1})
    assert found.code == "unknown_field"
    assert found.field.isascii()
    assert found.field.isprintable()
    assert any(f"nearest is {known}." in found.why for known in WRITABLE)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        *(("shedule", "schedule"), ("Name", "name"), ("time_zone", "timezone"), ("tag", "tags"), ("cron", "schedule")),
        *(("labels", "tags"), ("title", "name"), ("url", "webhook"), ("payload", "metadata"), ("tz", "timezone")),
        *(("secret", "hmac_secret"), ("max_attempts", "retry"), ("start", "start_time"), ("endtime", "end_time")),
    ],
)
def test_the_nearest_field_is_the_one_that_was_meant(sent: str, meant: str) -> None:
    (found,) = faults({**LEAST, sent: "x"})
    assert f"nearest is {meant}." in found.why


def test_what_only_answers_carry_has_no_effect() -> None:
    sent = {**LEAST, **dict.fromkeys(ANSWER_ONLY, "changed")}
    assert read_fields(sent, creating=True) == created()


def test_whatever_an_answer_shows_may_be_sent_back() -> None:
    assert set(views.event(an_event(webhook=HOOK))) <= {*WRITABLE, *ANSWER_ONLY}


def test_unreadable_values_are_refused_whatever_their_field() -> None:
    for name in WRITABLE:
        for value in ("\ud800", "\x00", float("nan"), 2**2000, b"bytes", {1: 2}, {"a": {"b": "\x00"}}, nested(40)):
            assert name in [field.partition(".")[0] for field in faulty({**LEAST, name: value})]


def test_what_is_repeated_of_a_caller_s_own_input_can_be_written_as_json() -> None:
    for name, value in BEYOND:
        for fault in faults({**LEAST, name: value}):
            json.dumps([fault.got, fault.field, fault.why, fault.fix], ensure_ascii=False, allow_nan=False).encode()


# --- what it becomes ----------------------------------------------------------------------------------


def test_a_field_that_was_not_given_is_unset_and_null_is_its_default() -> None:
    assert created().description is UNSET
    assert not created().given("description")
    draft = created(
        **dict.fromkeys(
            (
                *(
                    "description",
                    "timezone",
                    "start_time",
                    "end_time",
                    "max_occurrences",
                    "exclusions",
                    "tags",
                    "metadata",
                ),
                *(
                    "action",
                    "key",
                    "catch_up",
                    "overlap",
                    "expires_after",
                    "ack",
                    "ack_timeout",
                    "retry",
                    "paused_until",
                ),
            )
        )
    )
    assert draft.given("description")
    event = event_of(draft)
    assert event == event_of(created())
    assert (draft.timezone, draft.tags, draft.metadata, draft.action) == ("UTC", (), {}, Action())
    assert draft.key is None


def test_values_are_kept_as_the_domain_keeps_them() -> None:
    event = an_event(
        timezone="Europe/Paris",
        start_time="2027-06-01T09:00",
        end_time="2027-12-01T00:00:00+01:00",
        tags=["b", "a", "b"],
        catch_up="all",
        overlap="queue",
        expires_after="2 hours",
        ack="required",
        ack_timeout="PT10M",
        retry={"max_attempts": 3, "delays": ["1s", "1h30m"]},
        max_occurrences=7,
        exclusions=["2026-12-25"],
        key="k",
    )
    assert event.start_time == datetime(2027, 6, 1, 7, tzinfo=UTC)
    assert event.end_time == datetime(2027, 11, 30, 23, tzinfo=UTC)
    assert (event.tags, event.key, event.max_occurrences) == (("b", "a"), "k", 7)
    assert event.policies == Policies(
        catch_up=CatchUp.ALL,
        overlap=Overlap.QUEUE,
        expires_after=timedelta(hours=2),
        ack=Ack.REQUIRED,
        ack_timeout=timedelta(minutes=10),
        retry=RetryPolicy(3, (timedelta(seconds=1), timedelta(minutes=90))),
    )


def test_part_of_a_retry_leaves_the_rest_at_its_default() -> None:
    assert created(retry={"max_attempts": 3}).retry == RetryPolicy(max_attempts=3)
    assert created(retry={"delays": ["9s"]}).retry == RetryPolicy(delays=(timedelta(seconds=9),))


@pytest.mark.parametrize("name", ["start_time", "end_time", "paused_until"])
def test_wall_time_needs_a_zone_in_the_same_request(name: str) -> None:
    (found,) = faults({**LEAST, name: "2030-06-01T09:00"})
    assert {"timezone"} in [set(fix) - {name} for fix in found.fix]
    assert created(timezone="Europe/Paris", **{name: "2030-06-01T09:00"}).get(name).hour == 7
    elsewhere = an_event(timezone="Asia/Tokyo")
    (found,) = faults({name: "2030-06-01T09:00"}, creating=False, event=elsewhere)
    assert "Asia/Tokyo" in [fix.get("timezone") for fix in found.fix]


def test_name_and_schedule_are_required_and_an_example_is_offered() -> None:
    assert faulty({}) == ["name", "schedule"]
    merged: Fields = {}
    for fault in faults({"description": "Call mum\nat nine"}):
        merged |= fault.fix[0]
    assert merged["name"] == "Call mum"
    assert faults(merged) == ()
    for absent in ({"schedule": None}, {"schedule": None, "start_time": None}):
        assert faulty({"name": "x", **absent}) == ["schedule"]


# --- the later dialect: rest.md §7 ---------------------------------------------------------------------


def test_a_start_time_without_a_schedule_is_once_then() -> None:
    draft = read_fields({"name": "x", "start_time": "2030-01-01T00:00:00Z"}, creating=True)
    assert draft.schedule is None
    assert draft.given("schedule")
    assert event_of(draft).start_time == datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("webhook", "action"),
    [
        (HOOK, Action(ActionType.WEBHOOK, {"url": HOOK})),
        ("http://receiver.example", Action(ActionType.WEBHOOK, {"url": "http://receiver.example"})),
        ("q:worker-1", Action(ActionType.WEBSOCKET, {"client_name": "worker-1"})),
    ],
)
def test_webhook_is_read_as_an_action(webhook: str, action: Action) -> None:
    assert created(webhook=webhook).action == action
    shown = {"type": action.type.value, "params": dict(action.params)}
    assert created(webhook=webhook, action=shown).action == action


@pytest.mark.parametrize("action", [{"type": "inbox"}, apicall(), {"type": "webhook", "params": {"url": HOOK + "2"}}])
def test_webhook_and_action_must_agree(action: Fields) -> None:
    given = {**LEAST, "webhook": HOOK, "action": action}
    (found,) = faults(given)
    assert found.field == "webhook"
    assert len(found.fix) == 2
    for fix in found.fix:
        assert faults({**given, **fix}) == ()


def test_inactive_asks_for_a_pause_and_deleted_is_sent_elsewhere() -> None:
    event = an_event()
    assert read_fields({"status": "inactive"}, creating=False, event=event).status is EventStatus.PAUSED
    (found,) = faults({"status": "deleted"}, creating=False, event=event)
    assert "DELETE" in found.why


def test_an_event_that_resumes_by_itself_is_not_active_meanwhile() -> None:
    given = {**LEAST, "status": "active", "paused_until": "2030-01-01T00:00:00Z"}
    (found,) = faults(given)
    assert found.field == "paused_until"
    for fix in found.fix:
        assert faults({**given, **fix}) == ()


# --- verbs --------------------------------------------------------------------------------------------


def test_verbs_are_for_an_event_that_exists() -> None:
    assert faulty({**LEAST, "skip_next": True, "snooze": "1h"}) == ["skip_next", "snooze"]
    event = an_event()
    draft = read_fields({"skip_next": True, "snooze": "1h30m"}, creating=False, event=event)
    assert (draft.skip_next, draft.snooze) == (True, timedelta(minutes=90))
    until = read_fields({"snooze": "2030-01-01T00:00:00Z"}, creating=False, event=event).snooze
    assert until == datetime(2030, 1, 1, tzinfo=UTC)
    for name, value in (("skip_next", 1), ("skip_next", None), ("snooze", 5), ("snooze", "x"), ("snooze", None)):
        found = faults({name: value}, creating=False, event=event)
        assert [fault.field for fault in found] == [name]
        assert all(faults({name: value, **fix}, creating=False, event=event) == () for fix in found[0].fix)


# --- secrets ------------------------------------------------------------------------------------------


def secret_request() -> Fields:
    headers = {"Authorization": f"Bearer {CANARY}", "X-Api-Key": CANARY, "Accept": "*/*"}
    return {
        **LEAST,
        "hmac_secret": CANARY,
        "action": apicall(headers=headers, secret_headers=["x-api-key"]),
    }


def test_secrets_are_kept_apart_and_seen_nowhere() -> None:
    draft = read_fields(secret_request(), creating=True)
    assert draft.secrets.hmac_secret == CANARY
    assert draft.secrets.headers == {"Authorization": f"Bearer {CANARY}", "X-Api-Key": CANARY}
    assert isinstance(draft.action, Action)
    assert draft.action.params["headers"] == {"Authorization": MASK, "X-Api-Key": MASK, "Accept": "*/*"}
    for seen in (repr(draft), str(draft), repr(changed_fields(draft, None)), repr(event_of(draft))):
        assert CANARY not in seen


@pytest.mark.parametrize(
    "spoiled",
    [
        {"hmac_secret": CANARY * 100},
        {"hmac_secret": f"{CANARY}\x00"},
        {"hmac_secret": {"of": CANARY}},
        {"hmac_secret": f"whsec_{CANARY}!"},
        {"action": apicall(headers={"Authorization": CANARY, "Host": CANARY}, method="post", timeout="99s")},
        {"action": apicall(headers={"Authorization": f"{CANARY}\n"})},
        {"action": apicall(headers={"Authorization": CANARY}, secret_headers=["Absent"])},
        {"action": {"type": "apicall", "params": {"headers": {"Authorization": CANARY}, "url": 5}}},
        {"action": {"type": "http", "params": {"headers": {"Authorization": CANARY}}}},
        {"webhook": f"ftp://user:{CANARY}@x.example"},
    ],
)
def test_a_refusal_repeats_no_secret(spoiled: Fields) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_fields({**LEAST, **spoiled}, creating=True)
    assert CANARY not in repr(refused.value.faults) + str(refused.value)


def test_a_mask_stands_for_the_stored_value_and_for_none_other() -> None:
    stored = {"Authorization": "Bearer old", "X-Api-Key": "old"}
    action = apicall(headers={"authorization": MASK, "X-Api-Key": "new"}, secret_headers=["X-Api-Key"])
    secrets = created(action=action).secrets
    assert secrets.headers_over(stored) == {"authorization": "Bearer old", "X-Api-Key": "new"}
    with pytest.raises(InvalidInputError) as refused:
        secrets.headers_over({"X-Api-Key": "old"})
    assert refused.value.faults[0].field == "action.params.headers.authorization"
    assert created().secrets.headers_over(stored) == stored
    assert created(action=WEBHOOK).secrets.headers_over(stored) == {}


# --- notices: rest.md §4, S46 ---------------------------------------------------------------------------


def notices(**fields: Any) -> list[str]:
    return [notice.code for notice in created(**fields).notices]


def test_an_ordinary_request_has_nothing_to_be_noticed() -> None:
    assert (
        notices(tags=["user:a", "plain"], hmac_secret="x" * 24, description="two\nlines", metadata={"é": "日本"}) == []
    )


@pytest.mark.parametrize("tag", ["User:a", "user:", "a:b:c", "user:a b", ":"])
def test_a_tag_that_looks_like_a_label_is_noticed_and_not_repeated(tag: str) -> None:
    (notice,) = created(tags=["plain", tag]).notices
    assert notice.code == "no_label"
    assert "tags[1]" in notice.says
    assert len(tag) < 3 or tag not in notice.says.replace("user:rizqme", "")


def test_a_short_signing_secret_is_noticed() -> None:
    assert notices(hmac_secret="x" * 23) == ["short_secret"]
    assert notices(hmac_secret="whsec_" + "AAAA" * 5) == ["short_secret"]  # fifteen bytes, decoded
    assert notices(hmac_secret=None) == []


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\U000e0041", "\u2060"])
def test_hidden_characters_in_long_texts_are_noticed(hidden: str) -> None:
    assert notices(description=f"a{hidden}b") == ["hidden_text"]
    assert notices(metadata={"a": [{"b": hidden}]}) == ["hidden_text"]
    assert notices(metadata={f"a{hidden}": 1}) == ["hidden_text"]


# --- what is no change ----------------------------------------------------------------------------------

KINDS: dict[str, Fields] = {
    "least": {},
    "once": {"schedule": None, "start_time": "2030-01-01T00:00:00.25Z"},
    "relative": {"schedule": "in 2 hours"},
    "webhook": {"webhook": HOOK},
    "webhook with a timeout": {"action": {"type": "webhook", "params": {"url": HOOK, "timeout": "5s"}}},
    "websocket": {"webhook": "q:worker"},
    "apicall": {"action": apicall(headers={"Authorization": "x", "A": "b"}, body={"n": 1}, method="PUT")},
    "everything": {
        "description": "d",
        "timezone": "America/New_York",
        "start_time": "2027-06-01T00:00:00Z",
        "end_time": "2028-06-01T00:00:00Z",
        "max_occurrences": 9,
        "exclusions": ["2027-12-25"],
        "tags": ["user:a", "x"],
        "metadata": {"a": [1, 2.5, None, {"b": True}]},
        "key": "k",
        "catch_up": "none",
        "overlap": "skip",
        "expires_after": "90s",
        "ack": "required",
        "ack_timeout": "1d",
        "retry": {"max_attempts": 2, "delays": ["1m", "1h1s"]},
    },
}


@pytest.mark.parametrize("status", [EventStatus.ACTIVE, EventStatus.PAUSED, EventStatus.INACTIVE])
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_sent_back_changes_nothing(kind: str, status: EventStatus) -> None:
    until = NOON + timedelta(days=2) if status is EventStatus.PAUSED else None
    event = an_event(**KINDS[kind], status=status, paused_until=until)
    draft = read_fields(views.event(event), creating=False, event=event)
    assert changed_fields(draft, event) == {}
    assert not any(draft.given(name) for name in ("status", "skip_next", "snooze"))
    assert draft.get("paused_until") is None
    stored = {"Authorization": "kept"}
    assert draft.secrets.hmac_secret is UNSET
    assert set(draft.secrets.headers_over(stored).values()) <= {"kept"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_edited_in_one_place_changes_that_place(kind: str) -> None:
    event = an_event(**KINDS[kind])
    shown = views.event(event)
    edits: list[tuple[Fields, set[str]]] = [
        ({"name": "another"}, {"name"}),
        ({"description": "new"}, {"description"}),
        ({"schedule": "every 3h"}, {"schedule"}),
        ({"timezone": "Asia/Tokyo"}, {"timezone"}),
        ({"tags": ["new"]}, {"tags"}),
        ({"metadata": {"new": 1}}, {"metadata"}),
        ({"max_occurrences": 3}, {"max_occurrences"}),
        ({"overlap": "queue"}, {"policies"}),
        ({"ack_timeout": "11s"}, {"policies"}),
        ({"webhook": HOOK + "/other"}, {"action"}),
        ({"webhook": "q:other"}, {"action"}),
        ({"action": {"type": "webhook", "params": {"url": HOOK + "/other"}}}, {"action"}),
        ({"action": apicall(method="DELETE")}, {"action"}),
        ({"end_time": "2029-01-01T00:00:00Z"}, {"end_time"}),
    ]
    for edit, names in edits:
        draft = read_fields({**shown, **edit}, creating=False, event=event)
        assert set(changed_fields(draft, event)) == names, edit


def test_the_destination_is_what_was_edited_whichever_way_it_was_said() -> None:
    event = an_event(action={"type": "webhook", "params": {"url": HOOK, "timeout": "5s"}})
    shown = views.event(event)
    by_line = changes(event, **{**shown, "webhook": HOOK + "/2"})["action"]
    assert by_line == Action(ActionType.WEBHOOK, {"url": HOOK + "/2", "timeout": "5s"})
    by_action = changes(event, **{**shown, "action": {"type": "inbox"}})["action"]
    assert by_action == Action()
    assert changes(event, webhook=None)["action"] == Action()
    assert changes(an_event(), webhook=None) == {}
    assert faulty({**shown, "webhook": HOOK + "/2", "action": apicall()}, creating=False, event=event) == ["webhook"]


def test_a_new_value_of_a_secret_header_is_no_change_of_the_action() -> None:
    event = an_event(action=apicall(headers={"Authorization": "old"}))
    draft = read_fields({"action": apicall(headers={"Authorization": "new"})}, creating=False, event=event)
    assert changed_fields(draft, event) == {}
    assert draft.secrets.headers_over({"Authorization": "old"}) == {"Authorization": "new"}


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ({"n": 1}, {"n": 1.0}, True),
        ({"n": 1}, {"n": True}, False),
        ({"n": 0}, {"n": False}, False),
        ({"n": 0}, {"n": None}, False),
        ({"n": "1"}, {"n": 1}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": {}}, {"a": []}, False),
        ({"a": 1}, {"a": 1, "b": None}, False),
    ],
)
def test_metadata_is_compared_as_json(before: Fields, after: Fields, same: bool) -> None:
    assert (changes(an_event(metadata=before), metadata=after) == {}) is same


@pytest.mark.parametrize("schedule", ["in 2 hours", "tomorrow 09:00", "On Friday at noon", "today at 5pm"])
def test_a_relative_instant_compares_by_its_text_while_it_is_pending(schedule: str) -> None:
    """Asked for by its key once more after it ran, it is asked for anew; sent back as shown, it is not."""
    again = read_fields({**LEAST, "schedule": schedule, "key": "k"}, creating=True)
    pending = an_event(schedule=schedule, key="k")
    assert changed_fields(again, pending) == {}
    ran = an_event(schedule=schedule, key="k", status=EventStatus.INACTIVE)
    assert changed_fields(again, ran) == {"schedule": schedule}
    assert changes(ran, schedule=schedule) == {}


def test_an_ended_rule_asked_for_again_is_no_other_rule() -> None:
    ended = an_event(schedule="every 15m", max_occurrences=2, key="k", status=EventStatus.INACTIVE)
    again = created(schedule="every 15m", max_occurrences=2, key="k")
    assert changed_fields(again, ended) == {}


def test_asked_for_by_key_as_once_a_recurring_event_is_once() -> None:
    recurring = an_event(key="k")
    once = read_fields({"name": "an event", "start_time": "2030-01-01T00:00:00Z", "key": "k"}, creating=True)
    assert changed_fields(once, recurring) == {"schedule": None, "start_time": datetime(2030, 1, 1, tzinfo=UTC)}


def test_a_key_is_fixed() -> None:
    event = an_event(key="k")
    (found,) = faults({"key": "other"}, creating=False, event=event)
    assert found.fix == ({"key": "k"},)
    for value in ("other", None):
        assert faulty({"key": value}, creating=False, event=event) == ["key"]
    assert changes(event, key="k") == {}
    assert changes(an_event(), key=None) == {}
    assert faulty({"key": "not a key"}, creating=False, event=event) == ["key"]


def test_the_last_word_about_when_cannot_be_taken_away() -> None:
    by_rule, once = an_event(), an_event(**KINDS["once"])
    for event, cleared in ((by_rule, {"schedule": None}), (once, {"start_time": None})):
        (found,) = faults(cleared, creating=False, event=event)
        assert found.field == "schedule"
        assert all(faults({**cleared, **fix}, creating=False, event=event) == () for fix in found.fix)
    both = an_event(start_time="2030-01-01T00:00:00Z")
    assert changes(both, schedule=None) == {"schedule": None}
    assert changes(both, start_time=None) == {"start_time": None}


@pytest.mark.parametrize(
    ("status", "asked", "read"),
    [
        (EventStatus.ACTIVE, "active", UNSET),
        (EventStatus.ACTIVE, "paused", EventStatus.PAUSED),
        (EventStatus.ACTIVE, "inactive", EventStatus.PAUSED),
        (EventStatus.PAUSED, "paused", UNSET),
        (EventStatus.PAUSED, "active", EventStatus.ACTIVE),
        (EventStatus.INACTIVE, "inactive", UNSET),
        (EventStatus.INACTIVE, "active", EventStatus.ACTIVE),
    ],
)
def test_a_status_as_shown_asks_for_nothing(status: EventStatus, asked: str, read: object) -> None:
    event = an_event(status=status)
    assert read_fields({"status": asked}, creating=False, event=event).status is read


def test_of_an_edit_only_the_named_fields_are_read() -> None:
    assert changes(an_event(description="kept", tags=["kept"])) == {}
    assert changes(an_event(description="kept"), name="new") == {"name": "new"}
    policies = changes(an_event(overlap="skip", ack_timeout="1h"), overlap="queue")["policies"]
    assert (policies.overlap, policies.ack_timeout) == (Overlap.QUEUE, timedelta(hours=1))


# --- anything at all ------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from([HOOK, "5m", "@daily"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "params", "url", "delays", "max_attempts", "headers", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
NAMES = st.sampled_from([*WRITABLE, *sorted(ANSWER_ONLY)]) | st.text(max_size=12)
PLAUSIBLE = st.sampled_from([*WITHIN, *BEYOND])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=8), st.booleans())
def test_any_object_is_a_draft_or_is_refused(given: Fields, creating: bool) -> None:
    event = None if creating else an_event()
    before = copy.deepcopy(given)
    for fault in faults(given, creating=creating, event=event):
        assert fault.why
        assert fault.code
    assert repr(given) == repr(before)


@settings(max_examples=300, deadline=None)
@given(st.lists(PLAUSIBLE, max_size=6), st.booleans())
def test_all_that_can_be_mended_is_mended_by_the_first_fixes(pairs: list[tuple[str, Any]], creating: bool) -> None:
    """Merged into the request, they leave no fault but those that have no fix."""
    event = None if creating else an_event()
    given = {**(LEAST if creating else {}), **dict(pairs)}
    found = faults(given, creating=creating, event=event)
    merged = dict(given)
    for fault in found:
        merged |= fault.fix[0] if fault.fix else {}
    mended = {fault.field.split(".")[0] for fault in found if fault.fix}
    hopeless = {fault.field.split(".")[0] for fault in found if not fault.fix} - mended
    if len(found) < 10:
        assert {name.split(".")[0] for name in faulty(merged, creating=creating, event=event)} <= hopeless
