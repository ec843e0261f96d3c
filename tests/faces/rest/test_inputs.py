"""rest.md §4 and S20: each limit, at it and one beyond; each refused with its field and never with a 500."""

import json
from typing import Any, Final

import pytest

from qhronos_mcp.views import RESPONSE_LIMIT
from tests.faces.rest.house import DAILY, House

HOOK: Final = "https://receiver.example/hook"
BIDI, ZERO_WIDTH, TAG_CHARACTER = "\u202e", "\u200b", "\U000e0041"


def webhook(**params: Any) -> dict[str, Any]:
    return {"type": "webhook", "params": {"url": HOOK, **params}}


def apicall(**params: Any) -> dict[str, Any]:
    return {"type": "apicall", "params": {"url": HOOK, **params}}


ACCEPTED: Final[list[dict[str, Any]]] = [
    {"name": "x"},
    {"name": "x" * 200},
    {"name": "é" * 200},
    {"description": ""},
    {"description": "x" * 4000},
    {"schedule": "*/5 * * * *"},
    {"schedule": "every 15m"},
    {"schedule": "PT15M"},
    {"schedule": "in 2 hours"},
    {"schedule": "2199-01-01T00:00:00Z"},
    {"schedule": "RRULE:FREQ=MONTHLY;BYDAY=-1FR"},
    {"schedule": "every weekday at 9am"},
    {"schedule": {"frequency": "weekly", "by_day": ["MO"]}},
    {"timezone": "Europe/Paris"},
    {"timezone": None},
    {"start_time": "2070-01-01T00:00:00Z"},
    {"start_time": "2070-01-01T00:00:00+02:00"},
    {"end_time": "2100-01-01T00:00:00Z"},
    {"max_occurrences": 1},
    {"max_occurrences": 100_000},
    {"exclusions": [f"{year}-12-25" for year in range(2030, 2130)]},
    {"tags": []},
    {"tags": [f"t{n}" for n in range(64)]},
    {"tags": ["x" * 128]},
    {"tags": ["same", "same"]},
    {"metadata": {}},
    {"metadata": {"x": "y" * (65_536 - 8)}},
    {"metadata": {"id": 9_007_199_254_740_993, "big": 10**300, "tiny": 1e-320}},
    {"metadata": {"note": "{{x.__class__}} ${HOME} {0} %s"}},
    {"action": {"type": "inbox"}},
    {"action": {"type": "inbox", "params": {}}},
    {"action": webhook()},
    {"action": webhook(timeout="1s")},
    {"action": webhook(timeout="30s")},
    {"action": apicall(method="GET")},
    {"action": apicall(headers={"X-Api-Key": "k"}, secret_headers=["X-Api-Key"])},
    {"action": apicall(body={"a": [1]})},
    {"action": {"type": "websocket", "params": {"client_name": "laptop"}}},
    {"webhook": HOOK},
    {"webhook": "q:laptop"},
    {"webhook": HOOK, "action": webhook()},
    {"hmac_secret": "x", "webhook": HOOK},
    {"hmac_secret": "x" * 256, "webhook": HOOK},
    {"key": "k"},
    {"key": "A" * 100},
    {"key": "a.b_c:d/e-f"},
    {"catch_up": "all"},
    {"overlap": "queue"},
    {"expires_after": "1h30m"},
    {"ack": "required"},
    {"ack_timeout": "10s"},
    {"ack_timeout": "7d"},
    {"retry": {"max_attempts": 1}},
    {"retry": {"max_attempts": 20, "delays": ["5s", "PT5M"]}},
    {"status": "paused"},
    {"paused_until": "2100-01-01T00:00:00Z"},
    {"id": "whatever", "created_at": "x", "meaning": 5, "next_runs": None, "created_by": "mallory"},
]

REFUSED: Final[list[tuple[str, dict[str, Any]]]] = [
    ("name", {"name": None}),
    ("name", {"name": ""}),
    ("name", {"name": "   "}),
    ("name", {"name": "x" * 201}),
    ("name", {"name": 5}),
    ("name", {"name": ["x"]}),
    ("name", {"name": "a\nb"}),
    ("name", {"name": "a\x1bb"}),
    ("name", {"name": f"a{BIDI}b"}),
    ("name", {"name": f"a{ZERO_WIDTH}b"}),
    ("name", {"name": f"a{TAG_CHARACTER}b"}),
    ("description", {"description": "x" * 4001}),
    ("description", {"description": 1}),
    ("schedule", {"schedule": None}),
    ("schedule", {"schedule": ""}),
    ("schedule", {"schedule": "x" * 513}),
    ("schedule", {"schedule": 5}),
    ("schedule", {"schedule": True}),
    ("schedule", {"schedule": []}),
    ("schedule", {"schedule": "0 0 30 2 *"}),
    ("schedule", {"schedule": "* * * * * *"}),
    ("schedule", {"schedule": "15m"}),
    ("schedule", {"schedule": "soon"}),
    ("schedule", {"schedule": "60 * * * *"}),
    ("schedule", {"schedule": "2020-01-01T00:00:00Z"}),
    ("timezone", {"timezone": "Paris"}),
    ("timezone", {"timezone": "../../etc/passwd"}),
    ("timezone", {"timezone": 1}),
    ("start_time", {"start_time": "tomorrowish"}),
    ("start_time", {"start_time": 1_700_000_000}),
    ("start_time", {"start_time": "2200-01-01T00:00:00Z"}),
    ("end_time", {"end_time": "2027-13-01T00:00:00Z"}),
    ("end_time", {"end_time": "2200-01-01T00:00:00Z"}),
    ("max_occurrences", {"max_occurrences": 0}),
    ("max_occurrences", {"max_occurrences": 100_001}),
    ("max_occurrences", {"max_occurrences": "5"}),
    ("max_occurrences", {"max_occurrences": True}),
    ("max_occurrences", {"max_occurrences": 1.5}),
    ("exclusions", {"exclusions": [f"{year}-12-25" for year in range(2030, 2131)]}),
    ("exclusions", {"exclusions": ["christmas"]}),
    ("exclusions", {"exclusions": "2030-12-25"}),
    ("exclusions", {"exclusions": "christmas"}),
    ("tags", {"tags": [f"t{n}" for n in range(65)]}),
    ("tags", {"tags": ["x" * 129]}),
    ("tags", {"tags": [""]}),
    ("tags", {"tags": ["a,b"]}),
    ("tags", {"tags": "a"}),
    ("tags", {"tags": [1]}),
    ("tags", {"tags": ["a\tb"]}),
    ("tags", {"tags": [f"a{BIDI}"]}),
    ("metadata", {"metadata": {"x": "y" * (65_536 - 7)}}),
    ("metadata", {"metadata": []}),
    ("metadata", {"metadata": "x"}),
    ("action", {"action": "inbox!"}),
    ("action", {"action": {}}),
    ("action", {"action": {"type": "email"}}),
    ("action", {"action": {"type": "webhook"}}),
    ("action", {"action": webhook(url="ftp://x.example/")}),
    ("action", {"action": webhook(url="https://user:pw@x.example/")}),
    ("action", {"action": webhook(url=5)}),
    ("action", {"action": webhook(timeout="0s")}),
    ("action", {"action": webhook(timeout="31s")}),
    ("action", {"action": webhook(timeout=5)}),
    ("action", {"action": webhook(more=1)}),
    ("action", {"action": apicall(method="TRACE")}),
    ("action", {"action": apicall(headers={"Host": "x"})}),
    ("action", {"action": apicall(headers={"X-A": "a\r\nb"})}),
    ("action", {"action": apicall(headers={"bad name": "a"})}),
    ("action", {"action": apicall(headers={"webhook-id": "a"})}),
    ("action", {"action": {"type": "websocket", "params": {"client_name": "a b"}}}),
    ("action", {"action": {"type": "websocket", "params": {"client_name": "x" * 129}}}),
    ("webhook", {"webhook": "q:"}),
    ("webhook", {"webhook": "not a url"}),
    ("webhook", {"webhook": HOOK, "action": webhook(url="https://other.example/")}),
    ("hmac_secret", {"hmac_secret": "", "webhook": HOOK}),
    ("hmac_secret", {"hmac_secret": "x" * 257, "webhook": HOOK}),
    ("hmac_secret", {"hmac_secret": 5, "webhook": HOOK}),
    ("key", {"key": ""}),
    ("key", {"key": "x" * 101}),
    ("key", {"key": "a b"}),
    ("key", {"key": "é"}),
    ("catch_up", {"catch_up": "some"}),
    ("overlap", {"overlap": "maybe"}),
    ("expires_after", {"expires_after": "P1M"}),
    ("expires_after", {"expires_after": 90}),
    ("expires_after", {"expires_after": "-5m"}),
    ("ack", {"ack": True}),
    ("ack_timeout", {"ack_timeout": "9s"}),
    ("ack_timeout", {"ack_timeout": "8d"}),
    ("retry", {"retry": {"max_attempts": 0}}),
    ("retry", {"retry": {"max_attempts": 21}}),
    ("retry", {"retry": {"delays": []}}),
    ("retry", {"retry": {"delays": [5]}}),
    ("retry", {"retry": {"more": 1}}),
    ("retry", {"retry": []}),
    ("status", {"status": "deleted"}),
    ("status", {"status": "done"}),
    ("paused_until", {"paused_until": "2020-01-01T00:00:00Z"}),
    ("owner", {"owner": "mallory"}),
    ("fence", {"fence": 7}),
    ("attempts_made", {"attempts_made": 0}),
    ("labels", {"labels": ["user:b"]}),
    ("nmae", {"nmae": "x"}),
]


@pytest.mark.parametrize("fields", ACCEPTED, ids=lambda fields: json.dumps(fields)[:60])
async def test_accepted(house: House, fields: dict[str, Any]) -> None:
    answer = await house.master.post("/events", json={**DAILY, **fields})
    assert answer.status_code == 201, answer.text
    shown = (await house.master.get(f"/events/{answer.json()['id']}")).json()
    for name in fields.keys() & {"name", "description", "schedule", "metadata", "key", "catch_up", "overlap", "ack"}:
        assert shown[name] == fields[name]


@pytest.mark.parametrize(("field", "fields"), REFUSED, ids=lambda case: json.dumps(case)[:60])
async def test_refused_with_its_field_and_each_correction_is_accepted(
    house: House, field: str, fields: dict[str, Any]
) -> None:
    asked = {**DAILY, **fields}
    answer = await house.master.post("/events", json=asked)
    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert any(fault["field"].split(".")[0] == field for fault in told["errors"]), told
    assert len(told["errors"]) <= 10
    for fault in told["errors"]:
        assert fault["why"]
        assert len(str(fault.get("got", ""))) <= 200
    assert (await house.master.get("/events")).json() == []
    assert "pydantic" not in answer.text
    if len(told["errors"]) > 1:
        return  # each correction mends one of them
    for fix in told["errors"][0]["fix"]:
        mended = await house.master.post("/events?dry_run=true", json={**asked, **fix})
        assert mended.status_code == 200, (fix, mended.text)


WHEN = [
    {"schedule": "0 9 * * *\x00"},
    {"schedule": "\x00"},
    {"schedule": "every day at 9am\ud800"},
    {"schedule": ["0 9 * * *"]},
    {"schedule": {"frequency": "dai\x00ly"}},
    {"schedule": {"FREQUENCY": "daily"}},
    {"schedule": None},
    {"timezone": "Europe/Paris\x00"},
    {"timezone": "\ud800"},
    {"timezone": 7},
    {"start_time": "2028-01-01T09:00:00Z\x00"},
    {"start_time": "2200-01-01T00:00:00Z"},
    {"start_time": "1969-01-01T00:00:00Z"},
    {"end_time": "2020-01-01"},
    {"end_time": "2020-01-01T00:00:00"},
    {"end_time": "1969-01-01T00:00:00Z"},
    {"exclusions": "x"},
    {"exclusions": ["2027-12-25\x00"]},
    {"exclusions": [7]},
    {"exclusions": "2020-13-01"},
    {"paused_until": "2020-01-01"},
    {"paused_until": "2020-01-01T00:00:00Z"},
    {"paused_until": "\x00"},
]


@pytest.mark.parametrize("fields", WHEN, ids=lambda fields: json.dumps(fields)[:60])
async def test_a_field_that_says_when_is_never_refused_without_a_correction(
    house: House, fields: dict[str, Any]
) -> None:
    asked = {**DAILY, **fields}
    answer = await house.master.post("/events", content=json.dumps(asked).encode())
    assert answer.status_code == 400, answer.text
    (fault,) = answer.json()["errors"]
    assert fault.keys() == {"field", "code", "got", "why", "fix"}
    assert fault["field"].split(".")[0] in fields
    assert 1 <= len(fault["fix"]) <= 3
    for fix in fault["fix"]:
        mended = await house.master.post("/events?dry_run=true", json={**asked, **fix})
        assert mended.status_code == 200, (fix, mended.text)


async def test_of_bad_text_the_place_is_told_and_no_secret_is_repeated(house: House) -> None:
    action = {"type": "apicall", "params": {"url": "https://x.example/", "headers": {"Authorization": "hidden\x00"}}}
    asked = {**DAILY, "metadata": {"notes": ["ok", "\x00"]}, "action": action}
    answer = await house.master.post("/events", content=json.dumps(asked).encode())
    faults = {fault["field"]: fault for fault in answer.json()["errors"]}
    assert faults["metadata.notes.1"]["code"] == "bad_text"
    assert faults["metadata.notes.1"]["fix"] == [{"metadata": {"notes": ["ok", ""]}}]
    assert "hidden" not in answer.text


async def test_all_faulty_fields_are_listed_at_once_ten_at_most(house: House) -> None:
    answer = await house.master.post("/events", json={"name": "", "schedule": "soon", "tags": 5, "overlap": "x"})
    assert {fault["field"] for fault in answer.json()["errors"]} >= {"name", "schedule", "tags", "overlap"}
    many = await house.master.post("/events", json={**DAILY, **{f"stranger_{n}": 1 for n in range(30)}})
    assert len(many.json()["errors"]) == 10


async def test_an_unknown_field_names_the_nearest_known_one(house: House) -> None:
    answer = await house.master.post("/events", json={**DAILY, "descripton": "x"})
    assert "description" in answer.json()["errors"][0]["why"] + str(answer.json()["errors"][0]["fix"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"null", 400),
        (b"[]", 400),
        (b'"x"', 400),
        (b"{", 400),
        (b'{"name": "a", "name": "b", "schedule": "0 9 * * *"}', 400),
        (b'{"name": "a", "schedule": "0 9 * * *", "metadata": {"x": NaN}}', 400),
        (b'{"name": "a", "schedule": "0 9 * * *", "metadata": {"x": 1e999}}', 400),
        (b'{"name": "a", "schedule": "0 9 * * *", "metadata": {"x": "\\u0000"}}', 400),
        (b'{"name": "a", "schedule": "0 9 * * *", "metadata": {"x": "\\ud800"}}', 400),
        (b'{"name": "a\\u0000", "schedule": "0 9 * * *"}', 400),
        (b'{"name": "\xff", "schedule": "0 9 * * *"}', 400),
        (b'{"name": "a", "schedule": "0 9 * * *", "metadata": {"x": ' + b"[" * 31 + b"]" * 31 + b"}}", 400),
        (b'{"name": "a", "schedule": "0 9 * * *", "metadata": {"x": ' + b"[" * 30 + b"]" * 30 + b"}}", 201),
        (b'{"name": "a", "schedule": "0 9 * * *"}' + b" " * (1_048_576 - 38), 201),
        (b'{"name": "a", "schedule": "0 9 * * *"}' + b" " * (1_048_577 - 38), 413),
        (b"x" * 5_000_000, 413),
    ],
    ids=lambda case: repr(case)[:50],
)
async def test_bodies(house: House, body: bytes, status: int) -> None:
    answer = await house.master.post("/events", content=body)
    assert answer.status_code == status, answer.text[:300]
    if status == 400:
        assert answer.json()["errors"]


async def test_a_body_without_a_length_is_cut_off_at_the_limit(house: House) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        for _ in range(1000):
            sent += 65_536
            yield b"x" * 65_536

    answer = await house.master.post("/events", content=endless())
    assert answer.status_code == 413


@pytest.mark.parametrize("bad", ["x", "1", "G" * 36, "0" * 32, "00000000-0000-0000-0000-00000000000", "%00", "a%2Fb"])
async def test_an_id_that_is_not_a_uuid_is_400(house: House, bad: str) -> None:
    for path in (f"/events/{bad}", f"/occurrences/{bad}"):
        assert (await house.master.get(path)).status_code in ((400, 404) if "%2F" in bad else (400,))


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-1",
        "page=x",
        "page=1.5",
        "page=",
        "page=99999999999",
        "page=%D9%A1",
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=1&limit=2",
        "cursor=garbage",
        "cursor=&page=1",
        "cursor=" + "A" * 600,
        "match=some",
        "status=unknown",
        "tags=" + "x" * 129,
        "tags=" + ",".join(f"t{n}" for n in range(65)),
        "tags=%00",
        "after=garbage",
    ],
)
async def test_a_bad_parameter_is_400_and_never_reset(house: House, query: str) -> None:
    for path in ("/events", "/occurrences"):
        answer = await house.master.get(f"{path}?{query}")
        assert answer.status_code == 400, (path, query, answer.text)
        assert answer.json()["errors"]


@pytest.mark.parametrize("query", ["from=x", "to=2027-02-30T00:00:00Z", "from=2027-01-01", "event_id=x", "from=5"])
async def test_a_bad_filter_of_occurrences_is_400(house: House, query: str) -> None:
    assert (await house.master.get(f"/occurrences?{query}")).status_code == 400


@pytest.mark.parametrize("query", ["key=a b", "q=" + "x" * 201, "q=%00", "status=deleted"])
async def test_a_bad_filter_of_events_is_400(house: House, query: str) -> None:
    assert (await house.master.get("/events?" + query.replace(" ", "%20"))).status_code == 400


async def test_unknown_parameters_are_ignored(house: House) -> None:
    await house.event()
    assert len((await house.master.get("/events?utm_source=x&foo[]=1&=&&")).json()) == 1


async def test_hostile_text_in_a_filter_is_a_plain_value(house: House) -> None:
    await house.event(name="100% sure", tags=["it's"])
    for text in ("%", "_", "'", '"', "\\", "{}", "'; DROP TABLE events;--", "100%"):
        found = (await house.master.get("/events", params={"q": text})).json()
        assert [event["name"] for event in found] == (["100% sure"] if text in "100% sure" else [])
        assert (await house.master.get("/events", params={"tags": text})).status_code == 200
    assert len((await house.master.get("/events", params={"tags": "it's"})).json()) == 1


@pytest.mark.parametrize("count", ["0", "101", "x", "-5"])
async def test_a_preview_counts_from_1_to_100(house: House, count: str) -> None:
    event = await house.event()
    assert (await house.master.get(f"/events/{event['id']}/preview?count={count}")).status_code == 400
    for good in (1, 100):
        answer = await house.master.get(f"/events/{event['id']}/preview?count={good}")
        assert len(answer.json()["next"]) == good


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"outcome": None},
        {"outcome": 5},
        {"outcome": "perhaps"},
        {"outcome": "done", "delay": 5},
        {"outcome": "later", "delay": "8d"},
        {"outcome": "later", "delay": "0s"},
        {"outcome": "done", "note": "x" * 501},
        {"outcome": "done", "note": 1},
        {"outcome": "done", "more": 1},
        {"outcome": "done", "state": "completed"},
    ],
)
async def test_a_bad_acknowledgement_is_400_and_changes_nothing(house: House, body: dict[str, Any]) -> None:
    row = await house.inbox_occurrence()
    assert (await house.master.post(f"/occurrences/{row['id']}/ack", json=body)).status_code == 400
    assert (await house.master.get(f"/occurrences/{row['id']}")).json()["status"] == "dispatched"


async def test_calls_without_fields_take_none(house: House) -> None:
    row = await house.failed_occurrence()
    for path in (f"/events/{row['event_id']}/trigger", f"/occurrences/{row['id']}/retry", "/occurrences/retry"):
        assert (await house.master.post(path, json={"force": True})).status_code == 400
        assert (await house.master.post(path, content=b"[]")).status_code == 400
    assert (await house.master.post(f"/events/{row['event_id']}/trigger")).status_code == 201
    assert (await house.master.post(f"/events/{row['event_id']}/trigger", content=b"{}")).status_code == 201


@pytest.mark.parametrize("query", ["dryrun=true", "tag=user:b", "event=x", "limit=1", "status=failed&since=x"])
async def test_a_filter_that_is_not_known_sends_nothing_again(house: House, query: str) -> None:
    row = await house.failed_occurrence()
    refused = await house.master.post(f"/occurrences/retry?{query}")
    assert (refused.status_code, refused.json()["code"]) == (400, "unknown_parameter")
    assert (await house.master.get(f"/occurrences/{row['id']}")).json()["status"] == "failed"


def test_an_attempts_answer_is_shown_up_to_64_kib() -> None:
    assert RESPONSE_LIMIT == 65_536
