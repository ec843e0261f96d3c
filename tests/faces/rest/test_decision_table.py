"""access.md §5 over REST: who may do what, from an oracle that shares no code with the product."""

import itertools
from collections.abc import Iterator
from typing import Any, Final

from tests.faces.rest.house import DAILY, House

UNIVERSE: Final = ("user:a", "user:b", "team:x")
LABEL_SETS: Final = [frozenset(labels) for size in range(4) for labels in itertools.combinations(UNIVERSE, size)]
PRINCIPALS: Final = [
    ("master", frozenset[str]()),
    ("admin", frozenset[str]()),
    ("admin", frozenset({"user:a"})),
    *[
        (access, frozenset(scope))
        for access in ("read", "write")
        for size in (1, 2, 3)
        for scope in itertools.combinations(UNIVERSE, size)
    ],
]
ACTIONS: Final = ("get", "occurrences", "preview", "put", "trigger", "relabel", "delete")


def expected(access: str, scope: frozenset[str], labels: frozenset[str], action: str) -> int:
    """R3, R4, R5, R8, as one reads them."""
    everything = access in ("master", "admin")
    readable = everything or any(label in scope for label in labels)
    writable = everything or (access == "write" and bool(labels) and all(label in scope for label in labels))
    if not readable:
        return 404
    if action in ("get", "occurrences", "preview"):
        return 200
    if not writable:
        return 403
    if action == "relabel" and not everything and "user:b" not in scope:
        return 403  # the labels it would end with must be within the scope too
    return 201 if action == "trigger" else 200


def calls(event: str) -> dict[str, tuple[str, str, Any]]:
    return {
        "get": ("GET", f"/events/{event}", None),
        "occurrences": ("GET", f"/events/{event}/occurrences", None),
        "preview": ("GET", f"/events/{event}/preview", None),
        "put": ("PUT", f"/events/{event}?dry_run=true", {"description": "x"}),
        "trigger": ("POST", f"/events/{event}/trigger", {}),
        "relabel": ("PUT", f"/events/{event}?dry_run=true", {"tags": ["user:b"]}),
        "delete": ("DELETE", f"/events/{event}", None),
    }


def table() -> Iterator[tuple[str, frozenset[str], frozenset[str], str]]:
    for (access, scope), labels, action in itertools.product(PRINCIPALS, LABEL_SETS, ACTIONS):
        yield access, scope, labels, action


async def test_the_table_over_rest(house: House) -> None:
    clients = {
        (access, scope): house.master if access == "master" else await house.as_(access, *sorted(scope))
        for access, scope in PRINCIPALS
    }
    events = {labels: (await house.event(tags=sorted(labels)))["id"] for labels in LABEL_SETS}
    wrong, rows = [], 0
    for access, scope, labels, action in table():
        rows += 1
        method, path, body = calls(events[labels])[action]
        answer = await clients[access, scope].request(method, path, json=body)
        if answer.status_code != expected(access, scope, labels, action):
            wrong.append((access, sorted(scope), sorted(labels), action, answer.status_code))
        if action == "delete" and answer.status_code == 200:
            events[labels] = (await house.event(tags=sorted(labels)))["id"]
    assert not wrong
    assert rows == len(PRINCIPALS) * len(LABEL_SETS) * len(ACTIONS)


async def test_lists_are_what_can_be_got_one_by_one(house: House) -> None:
    events = {(await house.event(tags=[*sorted(labels), "plain"]))["id"]: labels for labels in LABEL_SETS}
    for access, scope in PRINCIPALS:
        client = house.master if access == "master" else await house.as_(access, *sorted(scope))
        readable = {event for event, labels in events.items() if expected(access, scope, labels, "get") == 200}
        assert {event["id"] for event in (await client.get("/events")).json()} == readable
        assert {event["id"] for event in (await client.get("/events?tags=plain")).json()} == readable
        assert {row["event_id"] for row in (await client.get("/occurrences")).json()} == readable
        narrowed = {event["id"] for event in (await client.get("/events?tags=user:a,team:x&match=all")).json()}
        assert narrowed == {event for event in readable if {"user:a", "team:x"} <= events[event]}


async def test_what_may_be_created(house: House) -> None:
    for access, scope in PRINCIPALS:
        client = house.master if access == "master" else await house.as_(access, *sorted(scope))
        for labels in LABEL_SETS:
            answer = await client.post("/events?dry_run=true", json={**DAILY, "tags": sorted(labels)})
            allowed = access in ("master", "admin") or (access == "write" and labels <= scope)
            assert answer.status_code == (200 if allowed else 403), (access, scope, labels)
