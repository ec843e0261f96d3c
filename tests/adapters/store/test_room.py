"""A store that can be read and has no room for what is written says so, until it has (F23)."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from qhronos_core.adapters.sqlite import SqliteStore
from qhronos_core.adapters.writes import DOUBTED_FOR
from qhronos_core.domain.errors import StoreUnavailableError
from qhronos_core.ports import Store
from tests.adapters.store.places import Place
from tests.adapters.store.scenes import an_event, kept
from tests.clock import FakeClock

# The server's own error, as it is raised where a table cannot grow.
_NO_ROOM = """
    CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER no_room BEFORE INSERT ON events EXECUTE FUNCTION no_room()
"""
_ROOM = "DROP TRIGGER no_room ON events; DROP FUNCTION no_room()"


@contextmanager
def no_room_for_events(place: Place, store: Store) -> Iterator[None]:
    """The rest still fits: a heartbeat, say, which is written where it stood before."""
    if isinstance(store, SqliteStore):
        connection = store._writer._open()
        connection.execute("PRAGMA max_page_count = 1")  # no more than there are
        yield
        store._writer._open().execute("PRAGMA max_page_count = 1000000")
        return
    with psycopg.connect(place.where, autocommit=True) as other:
        other.execute(_NO_ROOM)
        try:
            yield
        finally:
            other.execute(_ROOM)


def takes_writes(store: Store) -> bool:
    """Asked anew each time: to mypy a property that was true once stays so."""
    return store.takes_writes


async def refused(store: Store) -> None:
    with pytest.raises(StoreUnavailableError):
        await kept(store, an_event(description="x" * 50_000))


async def test_a_store_without_room_takes_no_writes_until_one_succeeds(
    place: Place, store: Store, clock: FakeClock
) -> None:
    await store.presence.hold("one", [])
    assert takes_writes(store)
    with no_room_for_events(place, store):
        await refused(store)
        assert not takes_writes(store)
        clock.advance(seconds=DOUBTED_FOR)
        assert await store.events.count_live("ada") == 0
        assert not takes_writes(store)  # reading says nothing about room
    await kept(store, an_event())
    assert takes_writes(store)


async def test_what_is_small_and_fits_does_not_hide_what_was_refused(
    place: Place, store: Store, clock: FakeClock
) -> None:
    await store.presence.hold("one", [])
    with no_room_for_events(place, store):
        await refused(store)
        await store.presence.hold("one", [])
        assert not takes_writes(store)
        clock.advance(seconds=DOUBTED_FOR / 2)
        await refused(store)
        clock.advance(seconds=DOUBTED_FOR / 2)
        await store.presence.hold("one", [])
        assert not takes_writes(store)
    clock.advance(seconds=DOUBTED_FOR)
    await store.presence.hold("one", [])
    assert takes_writes(store)


async def test_what_is_refused_for_its_own_sake_says_nothing_about_room(store: Store) -> None:
    event = an_event(key="k")
    await kept(store, event)
    with pytest.raises(Exception, match="key"):
        await kept(store, an_event(key="k"))
    assert takes_writes(store)
