"""The journal: an order everybody agrees on, in which nothing appears behind a reader's back."""

import asyncio
import base64
import uuid
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from qhronos_core.domain.errors import InvalidInputError
from qhronos_core.domain.journal import Cursor
from qhronos_core.domain.occurrence import Entry, EntryKind
from qhronos_core.ports import Changes, EventSave, Page, Store
from tests.adapters.store.places import Place
from tests.adapters.store.scenes import after, an_entry, an_event, an_occurrence, journal, kept
from tests.adapters.store.test_subscriptions import a_subscription
from tests.clock import NOON, FakeClock


async def told(store: Store, *entries: Entry) -> None:
    await store.commit(Changes(entries=list(entries)))


async def test_entries_are_read_back_in_the_order_they_were_written(store: Store) -> None:
    event = an_event()
    occurrence = an_occurrence(event)
    entries = [
        Entry(after(microseconds=1), kind, event.id, occurrence.id, "ada", {"ü": [1, {"n": None}], "reason": "gone"})
        for kind in EntryKind
    ]
    await kept(store, event)
    await told(store, *entries[:5])
    await told(store, *entries[5:], Entry(NOON, EntryKind.TOKEN_MINTED))

    assert await journal(store) == [*entries, Entry(NOON, EntryKind.TOKEN_MINTED)]


async def test_a_reader_goes_on_from_its_cursor(store: Store) -> None:
    begin = await store.journal.end()
    await told(store, *(an_entry(detail={"n": n}) for n in range(5)))

    first = await store.journal.after(begin, limit=2)
    second = await store.journal.after(first.cursor, limit=2)
    third = await store.journal.after(second.cursor, limit=2)
    end = await store.journal.after(third.cursor, limit=2)

    pages = (first, second, third, end)
    assert [[line.entry.detail["n"] for line in page.lines] for page in pages] == [[0, 1], [2, 3], [4], []]
    assert not any(page.truncated for page in pages)
    assert end.cursor == third.cursor == await store.journal.end()
    positions = [line.position for page in pages for line in page.lines]
    assert positions == sorted(set(positions))
    assert first.cursor.position == first.lines[-1].position


async def test_the_end_is_before_everything_written_later(store: Store) -> None:
    await told(store, an_entry())
    end = await store.journal.end()
    assert (await store.journal.after(end, limit=10)).lines == ()
    await told(store, an_entry(detail={"late": True}))
    assert [line.entry.detail for line in (await store.journal.after(end, limit=10)).lines] == [{"late": True}]


async def test_a_line_comes_with_its_event_as_it_is_now(store: Store) -> None:
    event = an_event("user:ada")
    begin = await store.journal.end()
    await kept(store, event)
    await told(store, an_entry(event), an_entry())
    changed = event.changed(NOON, labels=frozenset({"user:bob"}), tags=("user:bob",))
    await store.commit(Changes(saves=[EventSave(changed, event)]))

    lines = (await store.journal.after(begin, limit=10)).lines

    assert [line.event for line in lines] == [changed, None]


async def test_what_was_undone_was_never_told(store: Store) -> None:
    event = an_event(key="k")
    await kept(store, event)
    begin = await store.journal.end()
    for _ in range(3):
        with pytest.raises(Exception, match="key"):
            await store.commit(Changes(saves=[EventSave(an_event(key="k"))], entries=[an_entry(event)]))
    await told(store, an_entry())
    assert len((await store.journal.after(begin, limit=10)).lines) == 1


async def test_a_cursor_of_another_epoch_reads_from_the_oldest_and_says_so(store: Store) -> None:
    await told(store, an_entry(detail={"n": 1}), an_entry(detail={"n": 2}))
    end = await store.journal.end()

    page = await store.journal.after(replace(end, epoch=uuid.uuid4()), limit=10)

    assert page.truncated
    assert [line.entry.detail["n"] for line in page.lines] == [1, 2]
    assert page.cursor == end


async def test_a_cursor_beyond_the_end_is_of_another_history(store: Store) -> None:
    await told(store, an_entry())
    end = await store.journal.end()
    page = await store.journal.after(Cursor(end.epoch, end.position + 1_000), limit=10)
    assert page.truncated
    assert len(page.lines) == 1


async def test_a_cursor_older_than_what_is_kept_is_told_so(store: Store, clock: FakeClock) -> None:
    begin = await store.journal.end()
    await told(store, an_entry(), an_entry())
    middle = await store.journal.end()
    await told(store, replace(an_entry(), at=after(days=2)))
    await retire_journal(store, after(days=1))

    behind = await store.journal.after(begin, limit=10)
    assert (behind.truncated, len(behind.lines)) == (True, 1)
    up_to_date = await store.journal.after(middle, limit=10)
    assert (up_to_date.truncated, len(up_to_date.lines)) == (False, 1)


async def test_after_everything_was_retired_old_cursors_are_truncated_and_new_ones_are_not(store: Store) -> None:
    begin = await store.journal.end()
    await told(store, an_entry())
    end = await store.journal.end()
    await retire_journal(store, after(days=1))

    assert (await store.journal.after(begin, limit=10)).truncated
    assert not (await store.journal.after(end, limit=10)).truncated
    assert await store.journal.end() == end
    await told(store, an_entry(detail={"n": 1}))
    assert [line.entry.detail for line in (await store.journal.after(end, limit=10)).lines] == [{"n": 1}]


async def retire_journal(store: Store, before: datetime) -> None:
    long_ago = NOON - timedelta(days=9_999)
    await store.retire(
        occurrences_before=long_ago,
        attempts_before=long_ago,
        journal_before=before,
        deleted_before=long_ago,
        limit=1_000,
    )


async def test_a_reader_beside_many_writers_never_misses_an_entry(place: Place, clock: FakeClock) -> None:
    async with place.open(clock) as one, place.open(clock) as other:
        cursor = await one.journal.end()
        writing = True
        read: list[tuple[int, int]] = []

        async def write(writer: int, node: Store) -> None:
            for n in range(40):
                await told(node, *(an_entry(detail={"writer": writer, "n": n * 3 + part}) for part in range(3)))

        async def follow(cursor: Cursor) -> None:
            while True:
                was_writing = writing
                page = await one.journal.after(cursor, limit=7)
                assert not page.truncated
                read.extend((line.entry.detail["writer"], line.entry.detail["n"]) for line in page.lines)
                cursor = page.cursor
                if not page.lines and not was_writing:
                    return
                await asyncio.sleep(0)

        reader = asyncio.create_task(follow(cursor))
        await asyncio.gather(*(write(writer, node) for writer, node in enumerate([one, other] * 4)))
        writing = False
        await reader

        for writer in range(8):
            assert [n for who, n in read if who == writer] == list(range(120))


# --- who did what ------------------------------------------------------------------------------------------


async def test_the_audit_is_what_somebody_did_newest_first(store: Store) -> None:
    entries = [an_entry(actor="ada" if n % 2 else None, detail={"n": n}) for n in range(10)]
    await told(store, *entries)

    page = await store.journal.audit(since=None, page=Page(limit=2))
    assert [entry.detail["n"] for entry in page.items] == [9, 7]
    rest = await store.journal.audit(since=None, page=Page(limit=10, cursor=page.next_cursor))
    assert [entry.detail["n"] for entry in rest.items] == [5, 3, 1]
    assert rest.next_cursor is None
    offset = await store.journal.audit(since=None, page=Page(limit=10, offset=3))
    assert [entry.detail["n"] for entry in offset.items] == [3, 1]
    assert (page.total, rest.total) == (None, None)
    assert (await store.journal.audit(since=None, page=Page(limit=1, offset=4), count=True)).total == 5


async def test_the_audit_begins_where_it_is_asked_to(store: Store) -> None:
    await told(store, *(replace(an_entry(actor="ada"), at=after(minutes=n)) for n in range(4)))
    page = await store.journal.audit(since=after(minutes=2), page=Page())
    assert [entry.at for entry in page.items] == [after(minutes=3), after(minutes=2)]


async def test_a_cursor_of_another_audit_is_refused(store: Store) -> None:
    await told(store, *(an_entry(actor="ada") for _ in range(3)))
    cursor = (await store.journal.audit(since=None, page=Page(limit=1))).next_cursor
    with pytest.raises(InvalidInputError):
        await store.journal.audit(since=NOON, page=Page(cursor=cursor))


async def test_a_cursor_that_was_tampered_with_is_no_fault_of_ours(store: Store) -> None:
    await told(store, *(an_entry(actor="ada") for _ in range(3)))
    cursor = (await store.journal.audit(since=None, page=Page(limit=1))).next_cursor
    assert cursor is not None
    raw = base64.urlsafe_b64decode(cursor)
    beyond = base64.urlsafe_b64encode(raw[:-16] + b"\xff" * 16).decode()
    assert len((await store.journal.audit(since=None, page=Page(cursor=beyond))).items) == 3


async def test_a_cursor_as_text_is_the_same_cursor(store: Store) -> None:
    await told(store, an_entry())
    end = await store.journal.end()
    assert Cursor.read(str(end)) == end


async def test_after_a_backup_was_put_back_cursors_are_of_another_journal_and_subscriptions_go_on(store: Store) -> None:
    """Else a reader that has been further than the backup would skip what is written at those positions now."""
    event = an_event()
    await kept(store, event)
    end = await store.journal.end()
    mine, strangers = a_subscription("sub_1", cursor=end), a_subscription("sub_2")
    assert all([await store.subscriptions.start(each, most=9) for each in (mine, strangers)])

    await store.begin_epoch()

    now = await store.journal.end()
    assert (now.epoch != end.epoch, now.position) == (True, end.position)
    assert (await store.journal.after(end, limit=10)).truncated
    kept_on = [await store.subscriptions.get(each.id) for each in (mine, strangers)]
    assert [each and each.cursor for each in kept_on] == [now, strangers.cursor]
