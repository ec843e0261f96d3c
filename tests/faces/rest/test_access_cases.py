"""access.md §6, a test each, over REST; and R8: what is out of reach reads as what never was."""

import statistics
import time
from typing import Any
from uuid import uuid4

import pytest

from qhronos_mcp.rest import resource
from qhronos_mcp.rest.resource import ABSENT_AFTER
from tests.faces.rest.house import DAILY, House


async def labels(house: House, event: dict[str, Any]) -> frozenset[str]:
    from uuid import UUID

    from qhronos_core.domain.ids import EventId

    return (await house.world.store.events.get(EventId(UUID(event["id"])))).labels


async def count(house: House) -> int:
    return len((await house.master.get("/events")).json())


async def test_a_writers_event_without_labels_takes_all_of_its_scopes(house: House) -> None:
    one = await house.as_("write", "user:a")
    assert await labels(house, await house.event(one, tags=["test"])) == {"user:a"}
    both = await house.as_("write", "user:a", "system:t")
    event = await house.event(both, tags=["test"])
    assert await labels(house, event) == {"user:a", "system:t"}
    for scope in ("user:a", "system:t"):
        assert (await (await house.as_("read", scope)).get(f"/events/{event['id']}")).status_code == 200
        half = await house.as_("write", scope)
        assert (await half.put(f"/events/{event['id']}", json={"name": "x"})).status_code == 403
    assert (await both.put(f"/events/{event['id']}", json={"name": "x"})).status_code == 200


async def test_a_writers_own_label_narrows_it(house: House) -> None:
    both = await house.as_("write", "user:a", "system:t")
    assert await labels(house, await house.event(both, tags=["user:a", "test"])) == {"user:a"}


@pytest.mark.parametrize("tags", [["user:b"], ["user:a", "user:b"]])
async def test_a_writer_plants_nothing_beyond_its_scope(house: House, tags: list[str]) -> None:
    writer = await house.as_("write", "user:a")
    answer = await writer.post("/events", json={**DAILY, "tags": tags})
    assert answer.status_code == 403
    assert await count(house) == 0


async def test_an_update_without_labels_keeps_the_old_ones(house: House) -> None:
    writer = await house.as_("write", "user:a")
    event = await house.event(writer, tags=["user:a"])
    assert (await writer.put(f"/events/{event['id']}", json={"tags": ["x"]})).status_code == 200
    assert await labels(house, event) == {"user:a"}
    assert (await writer.put(f"/events/{event['id']}", json={"tags": ["user:b"]})).status_code == 403


async def test_any_shared_label_reads_and_only_all_of_them_write(house: House) -> None:
    event = await house.event(tags=["user:a", "user:b"])
    writer = await house.as_("write", "user:a")
    assert (await writer.get(f"/events/{event['id']}")).status_code == 200
    assert (await writer.put(f"/events/{event['id']}", json={"name": "x"})).status_code == 403


async def test_a_reader_creates_nothing_and_changes_nothing(house: House) -> None:
    reader = await house.as_("read", "user:a")
    mine, other = await house.event(tags=["user:a"]), await house.event(tags=["user:b"])
    assert (await reader.post("/events", json=dict(DAILY))).status_code == 403
    assert (await reader.put(f"/events/{mine['id']}", json={"name": "x"})).status_code == 403
    assert (await reader.put(f"/events/{other['id']}", json={"name": "x"})).status_code == 404
    assert (await reader.delete(f"/events/{mine['id']}")).status_code == 403
    assert (await reader.delete(f"/events/{other['id']}")).status_code == 404


async def test_an_admin_reads_back_what_it_tagged_for_another(house: House) -> None:
    admin = await house.as_("admin", "user:your-username", sub="your-user-id")
    event = await house.event(admin, tags=["system:backup"])
    assert (await admin.get(f"/events/{event['id']}")).status_code == 200


async def test_an_admins_plain_event_is_its_own_users(house: House) -> None:
    admin = await house.as_("admin", sub="a")
    assert await labels(house, await house.event(admin, tags=["test"])) == {"user:a"}
    other = await house.event(tags=["user:b"])
    assert (await admin.get(f"/events/{other['id']}")).status_code == 200


async def test_the_masters_plain_event_is_for_admins_and_master_alone(house: House) -> None:
    event = await house.event(tags=["test"])
    assert await labels(house, event) == frozenset()
    assert (await (await house.as_("admin")).get(f"/events/{event['id']}")).status_code == 200
    for access in ("read", "write"):
        client = await house.as_(access, "user:a", "test:test")
        assert (await client.get(f"/events/{event['id']}")).status_code == 404
        assert (await client.get("/events?tags=test")).json() == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"access": "read", "scope": []}, 400),
        ({"access": "write", "scope": []}, 400),
        ({"access": "read"}, 400),
        ({"access": "admin", "scope": []}, 201),
        ({"access": "admin"}, 201),
        ({"access": "read", "scope": ["user:*"]}, 400),
        ({"access": "read", "scope": ["user:%"]}, 400),
        ({"access": "read", "scope": ["User:a"]}, 400),
        ({"access": "read", "scope": ["user"]}, 400),
        ({"access": "read", "scope": ["user:a b"]}, 400),
        ({"access": "read", "scope": ["user:a:b"]}, 400),
        ({"access": "read", "scope": ["user:a\n"]}, 400),
        ({"access": "read", "scope": "user:a"}, 400),
        ({"access": "read", "scope": [f"user:{n}" for n in range(100)]}, 201),
        ({"access": "read", "scope": [f"user:{n}" for n in range(101)]}, 400),
        ({"access": "root", "scope": ["user:a"]}, 400),
        ({"scope": ["user:a"]}, 400),
        ({"access": "read_write", "scope": ["user:a"]}, 201),
        ({"access": "read", "scope": ["user:a"], "type": "opaque"}, 400),
        ({"access": "read", "scope": ["user:a"], "expires_at": "2020-01-01T00:00:00Z"}, 400),
        ({"access": "read", "scope": ["user:a"], "expires_at": "2190-01-01T00:00:00Z"}, 400),
        ({"access": "read", "scope": ["user:a"], "expires_at": 5}, 400),
        ({"access": "read", "scope": ["user:a"], "sub": ""}, 400),
        ({"access": "read", "scope": ["user:a"], "sub": "master"}, 400),
        ({"access": "read", "scope": ["user:a"], "sub": "local"}, 400),
        ({"access": "read", "scope": ["user:a"], "sub": "x" * 129}, 400),
        ({"access": "read", "scope": ["user:a"], "sub": "a\nb"}, 400),
        ({"access": "read", "scope": ["user:a"], "sub": 5}, 400),
        ({"access": "read", "scope": ["user:a"], "nbf": 1}, 400),
    ],
)
async def test_what_may_be_minted(house: House, fields: dict[str, Any], status: int) -> None:
    answer = await house.master.post("/tokens", json={"sub": "someone", **fields})
    assert answer.status_code == status, answer.text


async def test_duplicate_scopes_are_dropped_and_read_write_is_write(house: House) -> None:
    answer = await house.master.post(
        "/tokens", json={"sub": "a", "access": "read_write", "scope": ["user:a", "user:b", "user:a"]}
    )
    assert (answer.json()["access"], answer.json()["scope"]) == ("write", ["user:a", "user:b"])


@pytest.mark.parametrize("tag", ["User:a", "user:", "a:b:c", "user:a b"])
async def test_a_tag_that_only_looks_like_a_label_is_plain_and_warned_of(house: House, tag: str) -> None:
    writer = await house.as_("write", "user:a")
    event = await house.event(writer, tags=[tag])
    assert await labels(house, event) == {"user:a"}
    assert event["warnings"]


async def test_a_filter_narrows_and_never_widens(house: House) -> None:
    await house.event(tags=["user:b"])
    shared = await house.event(tags=["user:a", "user:b"])
    reader = await house.as_("read", "user:a")
    assert [event["id"] for event in (await reader.get("/events?tags=user:b")).json()] == [shared["id"]]
    paged = (await reader.get("/events?tags=user:b&page=1")).json()
    assert paged["pagination"]["total"] == 1


async def test_a_put_of_the_same_tags_by_one_who_holds_them_no_more_is_refused(house: House) -> None:
    event = await house.event(tags=["user:a", "user:b"])
    writer = await house.as_("write", "user:a")
    answer = await writer.put(f"/events/{event['id']}", json={"tags": ["user:a", "user:b"]})
    assert answer.status_code == 403


async def test_one_sub_with_two_tokens_is_two_reaches(house: House) -> None:
    first, second = await house.as_("write", "user:a"), await house.as_("write", "user:b")
    event = await house.event(first)
    assert (await second.get(f"/events/{event['id']}")).status_code == 404
    assert (await second.get("/events")).json() == []


async def test_a_warning_names_no_event_out_of_reach(house: House) -> None:
    """Another active event with the same schedule and destination, of one `sub` but other scopes."""
    first, second = await house.as_("write", "user:a"), await house.as_("write", "user:b")
    hidden = await house.event(first, tags=["user:a"])
    assert (await house.event(second, tags=["user:b"]))["warnings"] == []
    assert hidden["id"] in (await house.event(first))["warnings"][0]


async def test_a_sub_grants_nothing(house: House) -> None:
    event = await house.event(tags=["user:alice"])
    impostor = await house.as_("write", "team:x", sub="user:alice")
    assert (await impostor.get(f"/events/{event['id']}")).status_code == 404


async def test_a_key_is_its_creators_alone(house: House) -> None:
    """Readable, not writable: 403. Not readable: 409, and nothing told but that it is taken."""
    both = await house.as_("write", "user:a", "user:b", sub="a")
    await house.event(both, key="k", tags=["user:a", "user:b"], name="canary")
    half = await house.as_("write", "user:a", sub="a")
    assert (await half.post("/events", json={**DAILY, "key": "k"})).status_code == 403
    stranger = await house.as_("write", "user:c", sub="a")
    taken = await stranger.post("/events", json={**DAILY, "key": "k"})
    assert (taken.status_code, taken.json()["code"]) == (409, "key_taken")
    assert "canary" not in taken.text
    another_sub = await house.as_("write", "user:c", sub="c")
    assert (await another_sub.post("/events", json={**DAILY, "key": "k"})).status_code == 201


async def test_a_retired_scope_leaves_the_event_to_admins(house: House) -> None:
    event = await house.event(await house.as_("write", "user:gone"))
    assert (await (await house.as_("read", "user:new")).get(f"/events/{event['id']}")).status_code == 404
    assert (await (await house.as_("admin")).get(f"/events/{event['id']}")).status_code == 200


async def test_a_deleted_event_is_gone_for_all_and_its_occurrences_for_all_but_admins(house: House) -> None:
    writer = await house.as_("write", "user:a")
    row = await house.inbox_occurrence(writer)
    assert (await writer.delete(f"/events/{row['event_id']}")).status_code == 200
    for client in (writer, house.master):
        assert (await client.get(f"/events/{row['event_id']}")).status_code == 404
    assert (await writer.get(f"/occurrences/{row['id']}")).status_code == 404
    assert (await writer.get("/occurrences")).json() == []
    assert (await house.master.get(f"/occurrences/{row['id']}")).status_code == 200


async def test_out_of_reach_is_byte_for_byte_as_absent(house: House) -> None:
    """Every call that names an id: the same answer, but for the id, for what is another's and for what never was."""
    row = await house.failed_occurrence(tags=["user:b"])
    strangers = [await house.as_(access, "user:a") for access in ("read", "write")]
    for client in strangers:
        for method, path, its_id in (
            ("GET", "/events/{}", row["event_id"]),
            ("PUT", "/events/{}", row["event_id"]),
            ("DELETE", "/events/{}", row["event_id"]),
            ("POST", "/events/{}/trigger", row["event_id"]),
            ("GET", "/events/{}/occurrences", row["event_id"]),
            ("GET", "/events/{}/preview", row["event_id"]),
            ("GET", "/occurrences?event_id={}", row["event_id"]),
            ("POST", "/occurrences/retry?event_id={}", row["event_id"]),
            ("GET", "/occurrences/{}", row["id"]),
            ("GET", "/occurrences/{}/attempts", row["id"]),
            ("POST", "/occurrences/{}/ack", row["id"]),
            ("POST", "/occurrences/{}/retry", row["id"]),
        ):
            absent = str(uuid4())
            body = {"outcome": "done"} if path.endswith("/ack") else {}
            theirs = await client.request(method, path.format(its_id), json=body)
            nobodys = await client.request(method, path.format(absent), json=body)
            assert theirs.status_code == nobodys.status_code, (method, path)
            assert theirs.text.replace(its_id, "*") == nobodys.text.replace(absent, "*"), (method, path)
            if theirs.status_code != 403:
                assert theirs.status_code == 404, (method, path)
            without = {"x-request-id", "content-length"}
            shown = [{n: v for n, v in each.headers.items() if n not in without} for each in (theirs, nobodys)]
            assert shown[0] == shown[1]


@pytest.mark.alone
async def test_out_of_reach_takes_as_long_as_absent(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """S17. What another's event costs to read, however large, cannot be seen in the time of its 404."""
    monkeypatch.setattr(resource, "ABSENT_AFTER", ABSENT_AFTER)
    row = await house.inbox_occurrence(tags=["user:b"], description="x" * 4000, metadata={"x": "y" * 50_000})
    stranger = await house.as_("write", "user:a")

    async def took(path: str) -> float:
        began = time.perf_counter()
        assert (await stranger.get(path)).status_code == 404
        return time.perf_counter() - began

    for kind, its_id in (("events", row["event_id"]), ("occurrences", row["id"])):
        pairs = [(await took(f"/{kind}/{its_id}"), await took(f"/{kind}/{uuid4()}")) for _ in range(60)]
        theirs, nobodys = ([pair[side] for pair in pairs] for side in (0, 1))
        assert min(*theirs, *nobodys) >= ABSENT_AFTER
        assert abs(statistics.median(theirs) - statistics.median(nobodys)) < 0.002


async def test_revoking_with_cascade_pauses_what_the_token_made(house: House) -> None:
    minted = (await house.master.post("/tokens", json={"sub": "a", "access": "write", "scope": ["user:a"]})).json()
    writer = house.client(minted["token"])
    event = await house.event(writer)
    revoked = await house.master.delete(f"/tokens/{minted['jti']}?cascade=true")
    assert (revoked.status_code, revoked.json()["jti"]) == (200, minted["jti"])
    house.world.clock.advance(seconds=6)
    assert (await writer.get("/events")).status_code == 401
    assert (await house.master.get(f"/events/{event['id']}")).json()["status"] == "paused"
    shown = (await house.master.get("/tokens")).json()
    assert next(each for each in shown if each["jti"] == minted["jti"])["revoked_at"] == revoked.json()["revoked_at"]
    assert minted["token"] not in str(shown)


async def test_revoking_what_was_never_minted_is_404_and_a_bad_id_400(house: House) -> None:
    assert (await house.master.delete(f"/tokens/{uuid4()}")).status_code == 404
    assert (await house.master.delete("/tokens/nothing")).status_code == 400


async def test_the_audit_tells_who_did_what_allowed_or_refused(house: House) -> None:
    writer = await house.as_("write", "user:a", sub="walter")
    reader = await house.as_("read", "user:a", sub="rita")
    event = await house.event(writer)
    await reader.delete(f"/events/{event['id']}")
    await writer.put(f"/events/{event['id']}", json={"name": "x"})
    await writer.delete(f"/events/{event['id']}")
    told = [(row["actor"], row["what"], row["allowed"]) for row in (await house.master.get("/audit")).json()]
    for expected in (
        ("walter", "event.created", True),
        ("rita", "access.refused", False),
        ("walter", "event.updated", True),
        ("walter", "event.deleted", True),
    ):
        assert expected in told
    assert told.index(("walter", "event.deleted", True)) < told.index(("walter", "event.created", True))
