"""S36: the audit has a row for every action and every refusal: who (`sub` and `jti`), what, allowed or refused."""

from typing import Any

import jwt
import pytest

from tests.faces.rest.house import DAILY, House


def jti_of(token: str) -> str:
    jti: str = jwt.decode(token, options={"verify_signature": False})["jti"]
    return jti


async def rows(house: House) -> list[dict[str, Any]]:
    """Oldest first."""
    told: list[dict[str, Any]] = (await house.master.get("/audit")).json()
    return list(reversed(told))


async def test_what_was_done_is_told_with_the_credential(house: House) -> None:
    token = await house.token("write", ["user:a"], sub="walter")
    walter = house.client(token)
    failed = await house.failed_occurrence(walter)
    event = await house.event(walter)
    path = f"/events/{event['id']}"
    item = await house.inbox_occurrence(walter)
    other = await house.inbox_occurrence(walter)
    before = len(await rows(house))
    done = [
        ("event.paused", await walter.put(path, json={"status": "paused"})),
        ("event.resumed", await walter.put(path, json={"status": "active"})),
        ("event.updated", await walter.put(path, json={"name": "y"})),
        ("event.updated", await walter.put(path, json={"snooze": "1h"})),
        ("occurrence.triggered", await walter.post(f"{path}/trigger")),
        ("occurrence.later", await walter.post(f"/occurrences/{item['id']}/ack", json={"outcome": "later"})),
        ("occurrence.completed", await walter.post(f"/occurrences/{other['id']}/ack", json={"outcome": "done"})),
        ("occurrence.retried", await walter.post(f"/occurrences/{failed['id']}/retry")),
        ("event.deleted", await walter.delete(path)),
    ]
    assert [answer.status_code for _, answer in done if answer.status_code >= 300] == []
    told = [row for row in (await rows(house))[before:] if row["what"] != "occurrence.cancelled"]  # of the deletion
    assert [row["what"] for row in told] == [what for what, _ in done]
    assert {(row["actor"], row["allowed"], row["detail"]["jti"]) for row in told} == {("walter", True, jti_of(token))}


async def test_a_change_names_what_was_changed_and_no_value(house: House) -> None:
    event = await house.event(action={"type": "webhook", "params": {"url": "https://receiver.example/"}})
    for change in (
        {"hmac_secret": "a new secret of the event's own"},
        {"snooze": "1h"},
        {"name": "canary", "tags": []},
    ):
        assert (await house.master.put(f"/events/{event['id']}", json=change)).status_code == 200
    told = [row["detail"]["fields"] for row in await rows(house) if row["what"] == "event.updated"]
    assert told == [["secrets"], ["snooze"], ["name"]]
    assert "canary" not in repr(await rows(house))


async def test_claiming_and_minting_and_revoking_are_told_too(house: House) -> None:
    token = await house.token("write", ["user:a"], sub="walter")
    walter = house.client(token)
    await house.inbox_occurrence(walter)
    caller = await house.core.tokens.authenticate(token)
    from qhronos_core.ports import InboxQuery

    assert len(await house.core.occurrences.claim_inbox(InboxQuery(), caller=caller)) == 1
    assert (await house.master.delete(f"/tokens/{jti_of(token)}")).status_code == 200
    told = {row["what"]: row for row in await rows(house)}
    assert told["occurrence.claimed"]["detail"]["jti"] == jti_of(token)
    assert told["token.minted"]["actor"] == told["token.revoked"]["actor"] == "master"
    assert told["token.minted"]["detail"]["minted"] == jti_of(token)


@pytest.mark.parametrize("dry_run", ["", "?dry_run=true"])
async def test_what_was_refused_is_told_with_what_was_wanted(house: House, dry_run: str) -> None:
    token = await house.token("read", ["user:a"], sub="rita")
    rita, writer = house.client(token), await house.as_("write", "user:a", sub="walter")
    failed = await house.failed_occurrence(writer)
    item = await house.inbox_occurrence(writer)
    event = f"/events/{failed['event_id']}"
    before = len(await rows(house))
    refused = [
        ("create", await rita.post(f"/events{dry_run}", json=DAILY)),
        ("update", await rita.put(event, json={"name": "x"})),
        ("trigger", await rita.post(f"{event}/trigger")),
        ("delete", await rita.delete(event)),
        ("acknowledge", await rita.post(f"/occurrences/{item['id']}/ack", json={"outcome": "done"})),
        ("retry", await rita.post(f"/occurrences/{failed['id']}/retry")),
        ("retry", await rita.post("/occurrences/retry")),
        ("retry", await rita.post(f"/occurrences/retry?event_id={failed['event_id']}")),
        ("mint", await rita.post("/tokens", json={})),
        ("list_tokens", await rita.get("/tokens")),
        ("revoke", await rita.delete(f"/tokens/{jti_of(token)}")),
        ("read_audit", await rita.get("/audit")),
    ]
    assert [answer.status_code for _, answer in refused] == [403] * len(refused)
    told = (await rows(house))[before:]
    assert [row["detail"]["what"] for row in told] == [what for what, _ in refused]
    assert {(row["actor"], row["what"], row["allowed"]) for row in told} == {("rita", "access.refused", False)}
    assert {row["detail"]["jti"] for row in told} == {jti_of(token)}


async def test_an_attempt_to_plant_text_in_anothers_list_is_told(house: House) -> None:
    walter = await house.as_("write", "user:a", sub="walter")
    event = await house.event(walter)
    for answer in (
        await walter.post("/events", json={**DAILY, "tags": ["user:b"]}),
        await walter.put(f"/events/{event['id']}", json={"tags": ["user:b"]}),
    ):
        assert answer.status_code == 403
    told = [row["detail"]["what"] for row in await rows(house) if row["what"] == "access.refused"]
    assert told == ["create", "update"]
