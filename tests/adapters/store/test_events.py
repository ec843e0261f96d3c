"""What is kept of an event, how it is found, and who wins when two write it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qhronos_core.domain.access import Reach
from qhronos_core.domain.errors import EventNotFoundError, InvalidInputError, KeyTakenError, StaleError
from qhronos_core.domain.event import Ack, Action, ActionType, CatchUp, Event, EventStatus, Overlap, Policies
from qhronos_core.domain.ids import OccurrenceId, TokenId, new_event_id
from qhronos_core.domain.retry import RetryPolicy
from qhronos_core.ports import Changes, EventQuery, EventSave, Page, Store
from tests.adapters.store.scenes import ALL, after, an_event, ids, kept, unknown_event, within
from tests.clock import NOON, FakeClock

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
INSTANT = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
LENGTH = st.timedeltas(timedelta(0), timedelta(days=400))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=4)
POLICIES = st.builds(
    Policies,
    catch_up=st.sampled_from(CatchUp),
    overlap=st.sampled_from(Overlap),
    expires_after=st.none() | LENGTH,
    ack=st.sampled_from(Ack),
    ack_timeout=LENGTH,
    retry=st.builds(RetryPolicy, st.integers(1, 20), st.lists(LENGTH, min_size=1, max_size=4).map(tuple)),
)
EVENT = st.builds(
    Event,
    id=INSTANT.map(new_event_id),
    created_by=TEXT,
    name=TEXT,
    schedule=TEXT | OBJECT | st.none(),
    anchor_at=INSTANT,
    created_at=INSTANT,
    updated_at=INSTANT,
    created_jti=st.none() | st.uuids(),
    caused_by=st.none() | st.uuids().map(OccurrenceId),
    chain_depth=st.integers(0, 10),
    runs_per_day=st.integers(0, 100_000),
    description=TEXT,
    timezone=TEXT,
    start_time=st.none() | INSTANT,
    end_time=st.none() | INSTANT,
    max_occurrences=st.none() | st.integers(1, 10_000),
    exclusions=st.lists(TEXT, max_size=3).map(tuple),
    action=st.builds(Action, st.sampled_from(ActionType), OBJECT),
    secrets=st.none() | st.binary(max_size=40),
    hmac_secret_set=st.booleans(),
    metadata=OBJECT,
    tags=st.lists(TEXT, max_size=4).map(tuple),
    labels=st.frozensets(TEXT, max_size=4),
    policies=POLICIES,
    version=st.integers(1, 1_000),
    status=st.sampled_from(EventStatus),
    paused_at=st.none() | INSTANT,
    paused_until=st.none() | INSTANT,
    paused_reason=st.none() | TEXT,
    deleted_at=st.none() | INSTANT,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(event=EVENT, later=EVENT)
async def test_an_event_is_read_back_as_it_was_written_and_as_it_was_changed(
    store: Store, event: Event, later: Event
) -> None:
    await kept(store, event)
    assert await store.events.get(event.id) == event

    changed = replace(later, id=event.id, version=event.version + 1)
    await store.commit(Changes(saves=[EventSave(changed, event)]))
    assert await store.events.get(event.id) == changed


async def test_instants_are_kept_to_the_microsecond_whatever_zone_they_are_written_in(store: Store) -> None:
    elsewhere = datetime(2026, 3, 2, 12, 0, 0, 123_457, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    event = an_event(start_time=elsewhere)

    await kept(store, event)

    found = (await store.events.get(event.id)).start_time
    assert found == elsewhere
    assert found is not None
    assert found.utcoffset() == timedelta(0)


async def test_an_event_nobody_made_is_not_found(store: Store) -> None:
    with pytest.raises(EventNotFoundError):
        await store.events.get(unknown_event())


async def test_many_gives_those_that_are_there(store: Store) -> None:
    events = [an_event() for _ in range(3)]
    await kept(store, *events)

    found = await store.events.many([*ids(events), unknown_event()])  # type: ignore[list-item]

    assert found == {event.id: event for event in events}
    assert await store.events.many([]) == {}


async def test_a_deleted_event_is_found_by_its_id_and_in_no_list(store: Store) -> None:
    event = an_event(key="k")
    await kept(store, event)
    deleted = event.deleted(NOON)
    await store.commit(Changes(saves=[EventSave(deleted, event)]))

    assert await store.events.get(event.id) == deleted
    assert (await store.events.list(EventQuery(), ALL, Page())).items == ()
    assert await store.events.by_key("k") == []
    asked_for = EventQuery(statuses=frozenset({EventStatus.DELETED}))
    assert (await store.events.list(asked_for, ALL, Page())).items == (deleted,)


# --- who wins -----------------------------------------------------------------------------------------


async def test_of_two_changes_decided_on_one_version_the_second_is_refused(store: Store) -> None:
    event = an_event()
    await kept(store, event)
    first, second = event.changed(NOON, name="first"), event.changed(NOON, name="second")

    await store.commit(Changes(saves=[EventSave(first, event)]))
    with pytest.raises(StaleError):
        await store.commit(Changes(saves=[EventSave(second, event)]))

    assert await store.events.get(event.id) == first


async def test_a_change_decided_on_another_status_is_refused_though_the_version_stands(store: Store) -> None:
    event = an_event()
    await kept(store, event)

    with pytest.raises(StaleError):
        await store.commit(Changes(saves=[EventSave(event.changed(NOON), replace(event, status=EventStatus.INACTIVE))]))


async def test_a_change_of_an_event_that_is_not_there_is_refused(store: Store) -> None:
    event = an_event()
    with pytest.raises(StaleError):
        await store.commit(Changes(saves=[EventSave(event.changed(NOON), event)]))


async def test_the_same_event_cannot_be_made_twice(store: Store) -> None:
    event = an_event()
    await kept(store, event)
    with pytest.raises(StaleError):
        await kept(store, replace(event, name="again"))
    assert await store.events.get(event.id) == event


async def test_a_key_is_unique_among_the_live_events_of_one_creator(store: Store) -> None:
    mine = an_event(key="k")
    await kept(store, mine, an_event(key="k", created_by="bob"), an_event(), an_event())

    with pytest.raises(KeyTakenError):
        await kept(store, an_event(key="k"))
    other = an_event(key="other")
    await kept(store, other)
    with pytest.raises(KeyTakenError):
        await store.commit(Changes(saves=[EventSave(other.changed(NOON, key="k"), other)]))

    await store.commit(Changes(saves=[EventSave(mine.deleted(NOON), mine)]))
    await kept(store, an_event(key="k"))


async def test_an_event_is_found_by_its_key_of_one_creator_or_of_any(store: Store) -> None:
    mine, theirs = an_event(key="k"), an_event(key="k", created_by="bob")
    await kept(store, mine, theirs, an_event(key="K"))

    assert await store.events.by_key("k", created_by="ada") == [mine]
    assert sorted(ids(await store.events.by_key("k"))) == sorted([mine.id, theirs.id])


async def test_events_with_one_key_are_told_newest_first(store: Store) -> None:
    old, new = an_event(key="k"), an_event(key="k", created_by="bob", created_at=NOON)
    middle = [an_event(key="k", created_by=sub, created_at=NOON - timedelta(hours=1)) for sub in ("eve", "joe")]
    await kept(store, old, new, *middle)

    ties = sorted((event.id for event in middle), reverse=True)
    assert ids(await store.events.by_key("k")) == [new.id, *ties, old.id]


# --- lists --------------------------------------------------------------------------------------------


async def listed(store: Store, query: EventQuery, reach: Reach = ALL) -> list[UUID]:
    return ids((await store.events.list(query, reach, Page())).items)


async def test_a_list_is_newest_first_and_ties_are_broken_by_id(store: Store) -> None:
    old, *same = an_event(), *(an_event(created_at=NOON) for _ in range(3))
    await kept(store, old, *same)

    assert await listed(store, EventQuery()) == [*sorted(ids(same), reverse=True), old.id]


async def test_pages_by_cursor_hold_everything_once_though_events_come_and_go_between_them(store: Store) -> None:
    events = [an_event(created_at=after(seconds=at // 3)) for at in range(20)]
    await kept(store, *events)

    seen: list[UUID] = []
    cursor = None
    while True:
        listing = await store.events.list(EventQuery(), ALL, Page(limit=3, cursor=cursor), count=True)
        seen += ids(listing.items)
        assert listing.total is not None
        cursor = listing.next_cursor
        if cursor is None:
            break
        await kept(store, an_event(created_at=after(hours=1)))  # newer than the cursor: on no later page
        gone = next(event for event in events if event.id == seen[-1])
        await store.commit(Changes(saves=[EventSave(gone.deleted(NOON), gone)]))

    assert sorted(seen) == sorted(ids(events))


async def test_pages_by_offset_and_the_total(store: Store) -> None:
    events = [an_event(created_at=after(seconds=at)) for at in range(5)]
    await kept(store, *events)
    newest_first = ids(reversed(events))

    page = await store.events.list(EventQuery(), ALL, Page(limit=2, offset=1), count=True)
    assert ids(page.items) == newest_first[1:3]
    assert page.total == 5
    last = await store.events.list(EventQuery(), ALL, Page(limit=2, offset=4))
    assert ids(last.items) == newest_first[4:]
    assert (last.next_cursor, last.total) == (None, None)


async def test_a_full_last_page_has_no_next(store: Store) -> None:
    await kept(store, an_event(), an_event())
    assert (await store.events.list(EventQuery(), ALL, Page(limit=2))).next_cursor is None
    assert (await store.events.list(EventQuery(), ALL, Page(limit=1))).next_cursor is not None


async def test_a_cursor_of_another_list_or_of_nothing_is_refused(store: Store) -> None:
    await kept(store, an_event("a"), an_event("a"))
    cursor = (await store.events.list(EventQuery(), ALL, Page(limit=1))).next_cursor

    async def refused(query: EventQuery, cursor: str | None) -> bool:
        with pytest.raises(InvalidInputError) as refusal:
            await store.events.list(query, ALL, Page(cursor=cursor))
        return refusal.value.faults[0].code == "invalid_cursor"

    assert await refused(EventQuery(tags=("a",)), cursor)
    for nothing in ("", "x", "äöü", "AAAA", "=" * 8, (cursor or "")[:-4]):
        assert await refused(EventQuery(), nothing)
    assert (
        await store.events.list(EventQuery(), within("user:ada"), Page(cursor=cursor))
    ).items == ()  # reach may differ


async def test_tags_filter_by_any_or_by_all(store: Store) -> None:
    both, one, none = an_event("a", "b", "c"), an_event("a"), an_event("c")
    await kept(store, both, one, none)

    assert await listed(store, EventQuery(tags=("a", "b"))) == [one.id, both.id]
    assert await listed(store, EventQuery(tags=("a", "b"), match_all=True)) == [both.id]
    assert await listed(store, EventQuery(tags=("a", "a"), match_all=True)) == [one.id, both.id]
    assert await listed(store, EventQuery(tags=("A",))) == []


async def test_changed_tags_and_labels_take_effect_at_once(store: Store) -> None:
    event = an_event("a", "user:ada")
    await kept(store, event)
    changed = event.changed(NOON, tags=("b",), labels=frozenset({"user:bob"}))
    await store.commit(Changes(saves=[EventSave(changed, event)]))

    assert await listed(store, EventQuery(tags=("a",))) == []
    assert await listed(store, EventQuery(tags=("b",))) == [event.id]
    assert await listed(store, EventQuery(), within("user:ada")) == []
    assert await listed(store, EventQuery(), within("user:bob")) == [event.id]


async def test_text_is_looked_for_in_name_key_and_description_whatever_its_case(store: Store) -> None:
    by_name, by_key = an_event(name="Straße KEHREN 100%"), an_event(name="x", key="kehr-Woche")
    by_description = an_event(name="x", description="ÜBERALL kehren")
    await kept(store, by_name, by_key, by_description, an_event(name="x"))

    assert await listed(store, EventQuery(text="KEHR")) == [by_description.id, by_key.id, by_name.id]
    assert await listed(store, EventQuery(text="über")) == [by_description.id]
    assert await listed(store, EventQuery(text="%")) == [by_name.id]  # no pattern
    assert await listed(store, EventQuery(text="_")) == []


async def test_lists_filter_by_status_and_key(store: Store) -> None:
    paused, active = an_event(status=EventStatus.PAUSED), an_event(key="k")
    await kept(store, paused, active, an_event(status=EventStatus.INACTIVE))

    assert await listed(store, EventQuery(statuses=frozenset({EventStatus.PAUSED, EventStatus.ACTIVE}))) == [
        active.id,
        paused.id,
    ]
    assert await listed(store, EventQuery(key="k")) == [active.id]


# --- of one creator, of one token ------------------------------------------------------------------------


async def test_a_look_alike_has_the_same_creator_schedule_zone_and_action(store: Store) -> None:
    action = Action(ActionType.WEBHOOK, {"url": "https://example.com/", "headers": {"a": "1", "b": "2"}})
    event = an_event(action=action, schedule={"frequency": "daily", "time": "09:00"})
    alike = an_event(
        name="another name",
        action=Action(ActionType.WEBHOOK, {"headers": {"b": "2", "a": "1"}, "url": "https://example.com/"}),
        schedule={"time": "09:00", "frequency": "daily"},
    )
    await kept(
        store,
        alike,
        replace(an_event(), action=action, schedule="0 9 * * *"),
        replace(event, id=unknown_event(), timezone="Europe/Rome"),
        replace(event, id=new_event_id(NOON), created_by="bob"),
        replace(event, id=new_event_id(NOON), status=EventStatus.PAUSED),
        replace(event, id=new_event_id(NOON), action=Action()),
    )

    assert await store.events.look_alikes(event, ALL, 5) == [alike.id]
    await kept(store, event)
    assert await store.events.look_alikes(event, ALL, 5) == [alike.id]
    assert await store.events.look_alikes(event, ALL, 0) == []


async def test_a_look_alike_is_within_reach(store: Store) -> None:
    event, alike, other = (an_event(labels=frozenset({label})) for label in ("user:a", "user:b", "user:c"))
    await kept(store, alike, other)
    for scope, found in (({"user:a"}, []), ({"user:a", "user:b"}, [alike.id]), (set(), [])):
        assert await store.events.look_alikes(event, Reach(everything=False, scope=frozenset(scope)), 5) == found


async def test_live_events_and_their_runs_are_counted_by_creator(store: Store) -> None:
    mine = an_event(runs_per_day=1_440)
    await kept(
        store,
        mine,
        an_event(runs_per_day=24),
        an_event(runs_per_day=7, status=EventStatus.PAUSED),
        an_event(runs_per_day=5, status=EventStatus.DELETED),
        an_event(runs_per_day=1, status=EventStatus.INACTIVE),
        an_event(runs_per_day=100, created_by="bob"),
    )

    assert await store.events.count_live("ada") == 3
    assert await store.events.count_live("nobody") == 0
    assert await store.events.runs_per_day("ada", but=unknown_event()) == 1_464
    assert await store.events.runs_per_day("ada", but=mine.id) == 24
    assert await store.events.runs_per_day("nobody", but=mine.id) == 0


async def test_events_of_a_token_are_its_live_ones(store: Store) -> None:
    jti = TokenId(UUID(int=7))
    mine, paused = an_event(created_jti=jti), an_event(created_jti=jti, status=EventStatus.PAUSED)
    await kept(store, mine, paused, an_event(created_jti=jti, status=EventStatus.DELETED), an_event())

    assert await store.events.of_token(jti) == [mine.id, paused.id]


async def test_paused_events_resume_when_their_time_has_come(store: Store, clock: FakeClock) -> None:
    later = an_event(status=EventStatus.PAUSED, paused_until=after(seconds=2))
    sooner = an_event(status=EventStatus.PAUSED, paused_until=after(seconds=1))
    forever = an_event(status=EventStatus.PAUSED)
    await kept(store, later, sooner, forever, an_event(paused_until=NOON))

    assert await store.events.next_resume_at() == after(seconds=1)
    assert await store.events.to_resume(10) == []
    clock.set(after(seconds=1))
    assert await store.events.to_resume(10) == [sooner.id]
    clock.set(after(hours=1))
    assert await store.events.to_resume(10) == [sooner.id, later.id]
    assert await store.events.to_resume(1) == [sooner.id]


async def test_where_nothing_is_paused_nothing_resumes(store: Store) -> None:
    assert await store.events.next_resume_at() is None
