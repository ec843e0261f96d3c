"""A list begun from the few events a token reaches is the list that is begun from its order."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qhronos_core.adapters.sqlite import SqliteStore, open_sqlite_store, statements
from qhronos_core.domain.access import Level, Reach
from qhronos_core.domain.event import EventStatus
from qhronos_core.domain.lifecycle import COMPLETED, FAILED, PENDING
from qhronos_core.ports import EventQuery, InboxQuery, OccurrenceQuery, Page
from tests.adapters.store.scenes import after, an_event, an_occurrence, finished, handed_over, kept, within
from tests.clock import FakeClock

SCOPES = ("user:ada", "user:bob", "team:x")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """Thirty events of random labels, each with some rows at instants that many share."""
    rng = random.Random(4)
    async with open_sqlite_store(tmp_path, clock=FakeClock(after(hours=1))) as opened:
        for _ in range(30):
            labels = rng.sample(SCOPES, rng.randint(0, 3))
            status = rng.choice([EventStatus.ACTIVE, EventStatus.ACTIVE, EventStatus.DELETED])
            event = an_event(*labels, rng.choice(["red", "blue"]), status=status)
            instants = rng.sample(range(12), 6)
            rows = [finished(event, after(minutes=at), rng.choice([COMPLETED, FAILED])) for at in instants[:3]]
            rows += [handed_over(event, after(minutes=at)) for at in instants[3:5]]
            await kept(opened, event, an_occurrence(event, after(hours=2, minutes=instants[5])), *rows)
        yield opened


async def everything_listed(store: SqliteStore, reach: Reach) -> list[object]:
    found: list[object] = []
    for tags, match_all in (((), False), (("red",), False), (("red", "user:ada"), True)):
        for limit in (3, 100):
            page = Page(limit=limit)
            while True:
                events = await store.events.list(EventQuery(tags, match_all), reach, page, count=True)
                found.append((events.items, events.total))
                if events.next_cursor is None:
                    break
                page = Page(limit=limit, cursor=events.next_cursor)
            for states in (frozenset({PENDING, FAILED}), frozenset()):
                for earliest_first in (False, True):
                    query = OccurrenceQuery(
                        tags=tags,
                        match_all=match_all,
                        states=states,
                        earliest_first=earliest_first,
                        since=after(minutes=2),
                    )
                    page = Page(limit=limit)
                    while True:
                        rows = await store.occurrences.list(query, reach, page, count=True)
                        found.append((rows.items, rows.total))
                        if rows.next_cursor is None:
                            break
                        page = Page(limit=limit, cursor=rows.next_cursor)
                    offset = Page(limit=limit, offset=2)
                    found.append((await store.occurrences.list(query, reach, offset)).items)
    ahead = [await store.occurrences.next_due_within(InboxQuery(tags=tags), reach) for tags in ((), ("red",))]
    return [*found, *ahead]


@pytest.mark.parametrize("scope", [(), ("user:ada",), ("user:ada", "team:x"), SCOPES, ("user:nobody",)])
@pytest.mark.parametrize("level", list(Level))
async def test_it_makes_no_difference_from_where_a_list_is_begun(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, scope: tuple[str, ...], level: Level
) -> None:
    reach = within(*scope, level=level)
    from_the_events = await everything_listed(store, reach)
    monkeypatch.setattr(statements, "FEW", -1)
    assert from_the_events == await everything_listed(store, reach)
