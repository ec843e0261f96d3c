"""Every list is the filter of all there is by `may`: no more and no less (S13), over random scopes and labels."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qhronos_core.domain import access
from qhronos_core.domain.access import Access, Level, Principal, Reach
from qhronos_core.domain.event import Event, EventStatus
from qhronos_core.domain.occurrence import Occurrence
from qhronos_core.ports import EventQuery, InboxQuery, OccurrenceQuery, Page, Store
from tests.adapters.store.scenes import after, an_event, an_occurrence, handed_over, kept

# Near misses: a prefix, another case, a wildcard of SQL, a quote.
LABELS: Final = ("user:ada", "user:ad", "user:Ada", "user:ada_", "user:a%", "team:x", "team:x-1", "it's:x")
TAGS: Final = ("red", "Red", "user:ada", "team:x")

CALLER = st.builds(
    Principal,
    sub=st.just("ada"),
    access=st.sampled_from(Access),
    scope=st.frozensets(st.sampled_from(LABELS), max_size=4),
    master=st.booleans() | st.just(value=False),
)


@dataclass(frozen=True)
class Made:
    event: Event
    planned: Occurrence
    item: Occurrence


MAKING = st.tuples(
    st.frozensets(st.sampled_from(LABELS), max_size=3),
    st.lists(st.sampled_from(TAGS), max_size=2, unique=True).map(tuple),
    st.sampled_from(EventStatus),
)


def make(number: int, labels: frozenset[str], tags: tuple[str, ...], status: EventStatus) -> Made:
    event = an_event(labels=labels, tags=tags, status=status)
    item = handed_over(event, after(seconds=number), inbox_at=after(seconds=number))
    return Made(event, an_occurrence(event, after(days=1, seconds=number)), item)


def matches(made: Made, tags: tuple[str, ...], *, every: bool = False) -> bool:
    wanted = set(tags)
    return not wanted or (wanted <= set(made.event.tags) if every else bool(wanted & set(made.event.tags)))


async def all_pages(store: Store, reach: Reach, query: OccurrenceQuery) -> list[Occurrence]:
    """Page by page, so that cursors are judged too; the total says the same."""
    found: list[Occurrence] = []
    cursor, total = None, None
    while True:
        listing = await store.occurrences.list(query, reach, Page(limit=3, cursor=cursor), count=True)
        found += listing.items
        total, cursor = listing.total, listing.next_cursor
        if cursor is None:
            assert total == len(found)
            return found


def id_set(things: Iterable[Event | Occurrence]) -> set[UUID]:
    return {thing.id for thing in things}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    makings=st.lists(MAKING, min_size=1, max_size=8),
    caller=CALLER,
    level=st.sampled_from(Level),
    tags=st.lists(st.sampled_from(TAGS), max_size=2).map(tuple),
    every=st.booleans(),
)
async def test_a_list_holds_what_may_be_seen_and_nothing_else(
    store: Store,
    *,
    makings: list[tuple[frozenset[str], tuple[str, ...], EventStatus]],
    caller: Principal,
    level: Level,
    tags: tuple[str, ...],
    every: bool,
) -> None:
    made = [make(number, *making) for number, making in enumerate(makings)]
    await kept(store, *(each.event for each in made), *(row for each in made for row in (each.planned, each.item)))
    ours = id_set(each.event for each in made)
    reach = access.reach(caller, level)
    may = [each for each in made if access.may(caller, level, each.event.labels) and matches(each, tags, every=every)]
    live = [each for each in may if each.event.live]

    listing = await store.events.list(EventQuery(tags, every), reach, Page(), count=True)
    assert listing.total == len(listing.items)
    assert id_set(listing.items) & ours == id_set(each.event for each in live)
    deleted = EventQuery(tags, every, statuses=frozenset({EventStatus.DELETED}))
    found = (await store.events.list(deleted, reach, Page())).items
    assert id_set(found) & ours == id_set(each.event for each in may if not each.event.live)

    history = may if reach.everything else live
    for each in made:
        one = OccurrenceQuery(event_id=each.event.id, tags=tags, match_all=every)
        expected = id_set((each.planned, each.item)) if each in history else set()
        assert id_set(await all_pages(store, reach, one)) == expected
    rows = await all_pages(store, reach, OccurrenceQuery(tags=tags, match_all=every))
    assert {row.id for row in rows if row.event_id in ours} == id_set(
        row for each in history for row in (each.planned, each.item)
    )

    any_tag = [
        each
        for each in made
        if each.event.live and access.may(caller, level, each.event.labels) and matches(each, tags)
    ]
    for each in made:
        query = InboxQuery(limit=9, event_id=each.event.id, tags=tags)
        inbox = await store.occurrences.inbox(query, reach, limit=9)
        assert id_set(inbox) == (id_set([each.item]) if each in any_tag else set())
        assert await store.occurrences.waiting(query, reach) == len(inbox)
        ahead = await store.occurrences.next_due_within(query, reach)
        runs = each.event.status in (EventStatus.ACTIVE, EventStatus.INACTIVE)
        assert ahead == (each.planned.due_at if each in any_tag and runs else None)
        taken = await store.claim_inbox(query, reach, holder="h", actor="ada")
        assert id_set(taken) == id_set(inbox)
