"""S13: what a store's statement lets through is what `access.may` lets through, over 100,000 random cases."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from qhronos_core.domain import access
from qhronos_core.domain.access import READ, WRITE, Access, Principal
from qhronos_core.domain.event import Event
from qhronos_core.ports import Changes, EventQuery, EventSave, InboxQuery, OccurrenceQuery, Page, Store
from tests import access_oracle as oracle
from tests.access_oracle import Who
from tests.adapters.store.scenes import an_event, an_occurrence, handed_over
from tests.clock import NOON

EVENTS: Final = 500
CALLERS: Final = 200
EVERY: Final = Page(limit=EVENTS)

# Alike to a matcher of patterns, prefixes, cases or JSON texts; all different byte for byte.
LABELS: Final = (
    *("user:a", "user:A", "user:a2", "user:a.", "user:a-", "user:a_", "user:ab", "user:b", "use:ra", "user:a@b"),
    *(
        "system:a",
        "system:t",
        "s:t",
        "user:" + "a" * 123,
        "user:" + "a" * 122,
        "user:0",
        "user:00",
        "user:_",
        "user:..a",
    ),
)


async def populated(store: Store, rng: random.Random) -> list[Event]:
    """Events under random labels, a fifth of them under none."""
    events = [an_event(*rng.sample(LABELS, rng.choice((0, 1, 1, 2, 3))), "plain") for _ in range(EVENTS)]
    await store.commit(Changes(saves=[EventSave(event) for event in events]))
    return events


def callers(rng: random.Random) -> list[Who]:
    drawn = [Who(rng.choice(("read", "write")), tuple(rng.sample(LABELS, rng.randint(1, 6)))) for _ in range(CALLERS)]
    return [Who("master"), Who("admin"), Who("admin", ("user:a",)), *drawn]


def principal(who: Who) -> Principal:
    if who.kind == "master":
        return Principal.of_master()
    return Principal(who.sub, Access(who.kind), frozenset(who.scopes), holder="h")


async def test_a_list_of_events_is_the_filter_by_may(store: Store) -> None:
    rng = random.Random(13)
    events = await populated(store, rng)
    judged = 0
    for who in callers(rng):
        caller = principal(who)
        listing = await store.events.list(EventQuery(), access.reach(caller, READ), EVERY, count=True)
        may_read = {event.id for event in events if access.may(caller, READ, event.labels)}
        assert {event.id for event in listing.items} == may_read
        assert listing.total == len(may_read)
        assert may_read == {event.id for event in events if oracle.sees(who, sorted(event.labels))}
        judged += len(events)
    assert judged > 100_000


async def test_filters_narrow_it_and_never_widen_it(store: Store) -> None:
    """R9: a tag of another scope finds only what the caller reads anyway."""
    rng = random.Random(9)
    events = await populated(store, rng)
    for who in callers(rng)[:60]:
        caller = principal(who)
        asked = tuple(rng.sample(LABELS, rng.choice((1, 2))))
        match_all = rng.random() < 0.5
        query = EventQuery(tags=asked, match_all=match_all)
        listing = await store.events.list(query, access.reach(caller, READ), EVERY, count=True)
        wanted = {event.id for event in events if matches(event, asked, match_all=match_all)}
        may_read = {event.id for event in events if access.may(caller, READ, event.labels)}
        assert {event.id for event in listing.items} == wanted & may_read
        assert listing.total == len(wanted & may_read)


def matches(event: Event, tags: Sequence[str], *, match_all: bool) -> bool:
    return (all if match_all else any)(tag in event.tags for tag in tags)


async def test_occurrences_and_the_inbox_inherit_the_rule_of_their_event(store: Store) -> None:
    rng = random.Random(14)
    events = await populated(store, rng)
    await store.commit(Changes(planned=[handed_over(event) for event in events]))
    for who in callers(rng)[:60]:
        caller = principal(who)
        listing = await store.occurrences.list(OccurrenceQuery(), access.reach(caller, READ), EVERY, count=True)
        readable = {event.id for event in events if access.may(caller, READ, event.labels)}
        assert {row.event_id for row in listing.items} == readable
        assert listing.total == len(readable)
        writable = [event for event in events if oracle.changes(who, sorted(event.labels))]
        reach = access.reach(caller, WRITE)
        assert await store.occurrences.waiting(InboxQuery(limit=EVENTS), reach) == len(writable)


async def test_nobody_claims_from_the_inbox_what_they_may_not_write(store: Store) -> None:
    rng = random.Random(15)
    events = await populated(store, rng)
    await store.commit(Changes(planned=[handed_over(event) for event in events]))
    free = {event.id: event for event in events}
    for who in callers(rng)[3:60]:  # the master and the admins would take all
        reach = access.reach(principal(who), WRITE)
        taken = await store.claim_inbox(InboxQuery(limit=EVENTS), reach, holder=str(who), actor=who.sub)
        mine = {event.id for event in free.values() if oracle.changes(who, sorted(event.labels))}
        assert {row.event_id for row in taken} == mine
        for event_id in mine:
            del free[event_id]


async def test_the_next_due_that_is_told_is_of_an_event_the_caller_may_write(store: Store) -> None:
    hidden, mine = an_event("user:b"), an_event("user:a")
    soon, later = NOON + timedelta(minutes=1), NOON + timedelta(minutes=9)
    planned = [an_occurrence(hidden, soon), an_occurrence(mine, later)]
    await store.commit(Changes(saves=[EventSave(hidden), EventSave(mine)], planned=planned))
    caller = Principal("a", Access.WRITE, frozenset({"user:a"}))
    assert await store.occurrences.next_due_within(InboxQuery(), access.reach(caller, WRITE)) == later
