"""access.md §5 over MCP: who may do what, from the oracle that shares no code with the product."""

from typing import Any, Final

from qhronos_core.domain.access import Principal
from tests.access_oracle import LABELS, SCOPE_SETS, Verdict, Who, subsets, verdict
from tests.faces.mcp.house import House

WHO: Final = [
    Who("master", (), "master"),
    Who("admin", ("user:b",)),
    *[Who(kind, scopes) for kind in ("write", "read") for scopes in SCOPE_SETS[:6]],
]
CALLS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "get": ("list_events", {}),
    "occurrences": ("list_occurrences", {}),
    "update": ("update_event", {"changes": {"description": "x"}, "dry_run": True}),
    "trigger": ("trigger", {}),
    "delete": ("delete_event", {}),
}
CODES: Final[dict[str, Verdict]] = {"event_not_found": "absent", "forbidden": "forbidden"}


async def bearer_of(house: House, who: Who) -> str:
    if who.kind == "master":
        return "master"
    name = str(who)
    fields = {"sub": who.sub, "access": who.kind, "scope": list(who.scopes), "expires_at": "2027-06-01T00:00:00Z"}
    house.tokens[name] = (await house.core.tokens.mint(fields, caller=Principal.of_master())).token
    return name


async def test_the_table_over_mcp(house: House) -> None:
    sets = list(subsets(LABELS[:3]))
    events = {labels: str((await house.event("master", tags=list(labels))).id) for labels in sets}
    wrong, rows = [], 0
    for who in WHO:
        async with house.speaker("2026-07-28", await bearer_of(house, who)) as speaker:
            for labels in sets:
                for action, (tool, arguments) in CALLS.items():
                    house.world.clock.advance(seconds=5)  # so that no bucket runs dry
                    said = await speaker.call(tool, event_id=events[labels], **arguments)
                    came = CODES[said["code"]] if said.is_error else "allowed"
                    rows += 1
                    if came != verdict(who, labels, action):
                        wrong.append((str(who), labels, action, came))
                    if action == "delete" and came == "allowed":
                        events[labels] = str((await house.event("master", tags=list(labels))).id)
    assert wrong == []
    assert rows == len(WHO) * len(sets) * len(CALLS)


async def test_a_list_holds_what_can_be_got_one_by_one(house: House) -> None:
    sets = list(subsets(LABELS[:3]))
    events = {labels: str((await house.event("master", tags=list(labels))).id) for labels in sets}
    for who in WHO:
        async with house.speaker("2025-11-25", await bearer_of(house, who)) as speaker:
            house.world.clock.advance(seconds=5)
            listed = await speaker.call("list_events", limit=50)
            readable = {events[labels] for labels in sets if verdict(who, labels, "get") == "allowed"}
            assert {row["event"] for row in listed["events"]} == readable
            assert listed["of"] == len(readable)
