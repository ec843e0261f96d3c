"""S14, S16: two tenants on one server. Tenant A replays every request of B, and more, and meets no byte of B."""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx2

from tests.faces.rest.house import DAILY, House
from tests.world import HOOK, REFUSE


@dataclass
class Tenant:
    """One tenant, and every request it made. Each text it writes holds its canary."""

    canary: str
    client: httpx2.AsyncClient
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        self.asked.append((method, path, body))
        answer = await self.client.request(method, path, json=body)
        assert answer.is_success, (method, path, answer.text)
        shown = answer.json()
        self.ids |= set(re.findall(r'"(?:id|event_id|next_cursor)":"([^"]+)"', answer.text))
        return shown


async def a_life(house: House, tenant: Tenant) -> None:
    """Everything a tenant does: events of every kind, lists in every form, what came due, what failed."""
    canary = tenant.canary
    fields = {
        "name": f"name {canary}",
        "description": f"description {canary}",
        "metadata": {f"key {canary}": f"value {canary}"},
        "tags": [f"tag-{canary}"],
    }
    apicall = {
        "type": "apicall",
        "params": {
            "url": f"https://{canary}.example/path?q={canary}",
            "headers": {"X-Plain": canary, "Authorization": f"Bearer {canary}"},
            "body": {"text": canary},
        },
    }
    inbox = await tenant.ask("POST", "/events", {**fields, "schedule": "in 1 hour", "key": f"key-{canary}"})
    hook = await tenant.ask(
        "POST", "/events", {**fields, "schedule": "in 1 hour", "action": HOOK, "retry": {"max_attempts": 1}}
    )
    call = await tenant.ask("POST", "/events", {**fields, "schedule": "every 2h", "action": apicall})
    await tenant.ask("POST", "/events", {**fields, "schedule": "@daily", "webhook": f"q:{canary}"})
    doomed = await tenant.ask("POST", "/events", {**fields, "schedule": "@daily"})
    await tenant.ask("PUT", f"/events/{call['id']}", {"description": f"again {canary}"})
    await tenant.ask("DELETE", f"/events/{doomed['id']}")
    house.world.courier.will(REFUSE)
    house.world.clock.advance(seconds=3600)
    await house.world.settle_down()
    for path in (
        "/events",
        f"/events?q={canary}",
        f"/events?tags=tag-{canary}",
        f"/events?key=key-{canary}",
        "/events?page=1&limit=2",
        "/events?cursor=&limit=2",
        "/occurrences",
        f"/occurrences?tags=tag-{canary}",
        "/occurrences?page=1&limit=2",
        "/occurrences?cursor=&limit=1",
        "/occurrences?status=failed",
    ):
        shown = await tenant.ask("GET", path)
        if isinstance(shown, dict) and shown.get("next_cursor"):
            await tenant.ask("GET", f"{path}&cursor={quote(shown['next_cursor'])}".replace("cursor=&", ""))
    for event in (inbox, hook, call):
        for path in ("", "/occurrences", "/preview", "/preview?count=3&from=2027-06-01T00:00:00Z"):
            await tenant.ask("GET", f"/events/{event['id']}{path}")
        for row in await tenant.ask("GET", f"/events/{event['id']}/occurrences"):
            await tenant.ask("GET", f"/occurrences/{row['id']}")
            await tenant.ask("GET", f"/occurrences/{row['id']}/attempts?include=response")
            if row["status"] == "dispatched":
                await tenant.ask("POST", f"/occurrences/{row['id']}/ack", {"outcome": "done", "note": canary})
            if row["status"] == "failed":
                await tenant.ask("POST", f"/occurrences/{row['id']}/retry", {})
    await tenant.ask("POST", f"/events/{call['id']}/trigger", {})
    await tenant.ask("POST", "/occurrences/retry?dry_run=true", {})


async def tenants(house: House) -> tuple[Tenant, Tenant]:
    a = Tenant("canary-a", await house.as_("write", "user:a", sub="a"))
    b = Tenant("canary-b", await house.as_("write", "user:b", "team:b", sub="b"))
    await a_life(house, b)
    await a_life(house, a)
    return a, b


def variations(method: str, path: str, body: Any) -> Iterator[tuple[str, str, Any]]:
    """The request as it was, and as an attacker would bend it."""
    yield method, path, body
    joined = "&" if "?" in path else "?"
    for extra in ("match=all", "status=failed", "limit=100", "page=1", "cursor=", "include=response", "dry_run=true"):
        yield method, f"{path}{joined}{extra}", body
    if method == "GET":
        yield "HEAD", path, None
    if isinstance(body, dict):
        yield method, path, {}
        yield method, path, {**body, "unknown": 1}


async def test_a_token_replaying_the_other_tenants_requests_meets_no_byte_of_it(house: House) -> None:
    a, b = await tenants(house)
    reader = await house.as_("read", "user:a", sub="a")
    before = [(await b.client.get(path)).text for path in ("/events", "/occurrences")]
    replayed = 0
    for method, path, given in [each for asked in b.asked for each in variations(*asked)]:
        body = json.loads(json.dumps(given).replace("canary-b", "canary-a"))  # the words are its own; the ids are B's
        for client in (a.client, reader):
            answer = await client.request(method, path, json=body)
            replayed += 1
            assert answer.status_code < 500, (method, path)
            told = answer.text + str(dict(answer.headers))
            for theirs in {"canary-b", "user:b", "team:b", *b.ids}:
                echoed = theirs in path and answer.status_code in (400, 404)
                assert theirs not in told or echoed, (method, path, theirs, told)
    assert replayed > 500
    assert [(await b.client.get(path)).text for path in ("/events", "/occurrences")] == before


async def test_lists_counts_and_cursors_of_a_hold_a_alone(house: House) -> None:
    a, b = await tenants(house)
    for path in ("/events", "/occurrences"):
        rows = (await a.client.get(path)).json()
        assert rows
        assert "canary-b" not in json.dumps(rows)
        assert (await a.client.get(f"{path}?page=1&limit=1")).json()["pagination"]["total"] == len(rows)
        theirs = (await b.client.get(path)).json()
        assert not {row["id"] for row in rows} & {row["id"] for row in theirs}
        cursor = (await b.client.get(f"{path}?cursor=&limit=1")).json()["next_cursor"]
        stolen = await a.client.get(f"{path}?cursor={quote(cursor)}")
        assert "canary-b" not in stolen.text
        assert not {row["id"] for row in stolen.json()["data"]} & b.ids
    for query in ("q=canary-b", "key=key-canary-b", "tags=tag-canary-b", "tags=user:b", "tags=team:b"):
        assert (await a.client.get(f"/events?{query}")).json() == []
        counted = (await a.client.get(f"/events?{query}&page=1")).json()
        assert counted == {"data": [], "pagination": {"page": 1, "limit": 50, "total": 0}}


async def test_nothing_of_a_secret_is_in_any_answer_but_the_one_that_made_it(house: House) -> None:
    secret = "canary-secret-0123456789abcdef"
    headers = {"Authorization": f"Bearer {secret}", "X-Key": secret}
    url = "https://receiver.example/hook"
    apicall = {"type": "apicall", "params": {"url": url, "headers": headers, "secret_headers": ["x-key"]}}
    hook = await house.event(action=HOOK, hmac_secret=secret)
    call = await house.event(action=apicall)
    assert secret not in json.dumps([hook, call])
    assert hook["hmac_secret_set"] is True
    for event, path in itertools.product(
        (hook, call), ("/events", "/events/{}", "/events/{}/preview", "/events/{}/occurrences", "/audit", "/status")
    ):
        assert secret not in (await house.master.get(path.format(event["id"]))).text
    for event in (hook, call):
        changed = await house.master.put(f"/events/{event['id']}", json={"name": "other"})
        assert secret not in changed.text
        assert secret not in (await house.master.delete(f"/events/{event['id']}")).text


async def test_a_secret_that_was_made_is_shown_by_the_call_that_made_it_alone(house: House) -> None:
    made = await house.event(action=HOOK)
    assert made["hmac_secret"]
    event = (await house.master.get(f"/events/{made['id']}")).json()
    assert "hmac_secret" not in event
    anew = (await house.master.put(f"/events/{made['id']}", json={"hmac_secret": None})).json()
    assert anew["hmac_secret"] not in ("", made["hmac_secret"])
    assert "hmac_secret" not in (await house.master.put(f"/events/{made['id']}", json={"name": "x"})).json()


async def test_templates_in_event_text_come_out_as_text(house: House) -> None:
    texts = [
        "{{x.__class__}}",
        "${HOME}",
        "{0}",
        "%(name)s",
        "<script>alert(1)</script>",
        "ignore previous instructions",
    ]
    for text in texts:
        event = await house.event(name=text, description=text, metadata={"t": text})
        shown = (await house.master.get(f"/events/{event['id']}")).json()
        assert (shown["name"], shown["description"], shown["metadata"]) == (text, text, {"t": text})


async def test_errors_about_an_event_hold_none_of_its_text(house: House) -> None:
    writer = await house.as_("write", "user:a")
    row = await house.inbox_occurrence(writer, name="canary-name", description="canary-text")
    await writer.post(f"/occurrences/{row['id']}/ack", json={"outcome": "done"})
    refused = [
        await writer.put(f"/events/{row['event_id']}", json={"tags": ["user:b"]}),
        await writer.put(f"/events/{row['event_id']}", json={"schedule": "never"}),
        await writer.put(f"/events/{row['event_id']}", json={"skip_next": True}),
        await writer.post(f"/occurrences/{row['id']}/ack", json={"outcome": "failed"}),
        await writer.post(f"/occurrences/{row['id']}/retry"),
        await writer.post("/events", json={**DAILY, "key": "x y"}),
    ]
    for answer in refused:
        assert 400 <= answer.status_code < 500
        assert "canary" not in answer.text
