"""One decision is written whole or not at all, and only over what it was decided on."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from qhronos_core.domain.access import Access
from qhronos_core.domain.errors import KeyTakenError, OccurrenceNotFoundError, RepeatedRequestError, StaleError
from qhronos_core.domain.event import EventStatus, Overlap, Policies
from qhronos_core.domain.ids import TokenId
from qhronos_core.domain.lifecycle import CANCELLED, COMPLETED, DISPATCHED, DISPATCHING, FAILED, MISSED, PENDING
from qhronos_core.domain.occurrence import Attempt, AttemptOutcome, Cause, EntryKind, Held, Move, Reason
from qhronos_core.ports import Changes, EventSave, Page, RememberedAnswer, Store, TokenRecord
from tests.adapters.store.scenes import (
    MINUTE,
    after,
    an_entry,
    an_event,
    an_occurrence,
    completed,
    ended,
    finished,
    handed_over,
    journal,
    kept,
    kinds,
    look,
    row,
)
from tests.clock import NOON, FakeClock

QUEUED = Policies(overlap=Overlap.QUEUE)


def an_answer(key: str = "k", *, lasts: timedelta = timedelta(hours=24)) -> RememberedAnswer:
    return RememberedAnswer("ada", "/events", key, b"\x00\xff", 201, {"id": "é", "n": [1, None]}, NOON + lasts)


async def test_nothing_to_write_is_written(store: Store) -> None:
    await store.commit(Changes())
    assert await journal(store) == []


async def test_an_occurrence_is_read_back_as_it_was_written(store: Store) -> None:
    event = an_event()
    plain = an_occurrence(event)
    full = an_occurrence(
        event,
        after(microseconds=1),
        cause=Cause.TRIGGER,
        state=DISPATCHED,
        advances=False,
        ordinal=7,
        fence=3,
        attempts_made=4,
        attempts_before=2,
        round=2,
        event_version=9,
        held=Held.PAUSE,
        inbox_at=after(seconds=1),
        lease_until=after(seconds=2),
        node="n",
        holder="h",
        claimed_at=after(seconds=3),
        missed=5,
        missed_since=after(days=-1),
        reason=Reason.OVERLAP,
        note="ü",
        acknowledged_at=after(seconds=4),
        finished_at=after(seconds=5),
    )
    await kept(store, event, plain, full)

    assert await store.occurrences.many([plain.id, full.id]) == {plain.id: plain, full.id: full}
    assert await row(store, full) == full


# --- all or nothing -----------------------------------------------------------------------------------


async def test_a_change_refused_at_its_last_part_leaves_nothing_of_any_part(store: Store) -> None:
    event, taken = an_event(), an_event(key="taken")
    planned, held = an_occurrence(event), an_occurrence(event, after(minutes=1))
    await kept(store, event, taken, planned, held)
    await store.commit(Changes(answer=an_answer()))
    before = await journal(store)
    withdrawn = an_occurrence(event, after(minutes=2))
    await kept(store, withdrawn)
    token = TokenRecord(TokenId(UUID(int=1)), "ada", Access.READ, ("user:ada",), NOON, after(hours=1))

    with pytest.raises(RepeatedRequestError):
        await store.commit(
            Changes(
                saves=[EventSave(event.changed(NOON, name="new"), event), EventSave(an_event())],
                moves=[completed(planned, NOON)],
                withdrawn=[withdrawn],
                planned=[an_occurrence(event, after(minutes=3))],
                cancel_unfinished=[(event.id, Reason.DELETED)],
                entries=[an_entry(event)],
                tokens=[token],
                answer=an_answer(),
            )
        )

    assert await store.events.get(event.id) == event
    assert await store.events.count_live("ada") == 2
    for occurrence in (planned, held, withdrawn):
        assert await row(store, occurrence) == occurrence
    assert await store.occurrences.attempts(planned.id) == []
    assert await store.occurrences.instants_after(event.id, after(minutes=2)) == frozenset()
    assert await journal(store) == before
    assert (await store.tokens.list(Page())).items == ()


@pytest.mark.parametrize("moved", [{"fence": 1}, {"state": DISPATCHING}])
async def test_a_move_decided_on_what_has_moved_on_undoes_all(store: Store, moved: dict[str, object]) -> None:
    event = an_event()
    one, other = an_occurrence(event), an_occurrence(event, after(minutes=1))
    await kept(store, event, one, other)
    stale = replace(other, **moved)  # type: ignore[arg-type]

    with pytest.raises(StaleError):
        await store.commit(Changes(moves=[completed(one, NOON), completed(stale, NOON)]))

    assert await row(store, one) == one
    assert await row(store, other) == other
    assert await journal(store) == []


async def test_a_move_of_what_is_not_there_is_stale(store: Store) -> None:
    with pytest.raises(StaleError):
        await store.commit(Changes(moves=[completed(an_occurrence(an_event()), NOON)]))


async def test_a_move_is_written_with_its_attempt_and_its_entries(store: Store) -> None:
    event = an_event()
    planned = an_occurrence(event, attempts_made=1)
    await kept(store, event, planned)
    attempt = Attempt(
        planned.id,
        1,
        NOON,
        after(milliseconds=1_500),
        AttemptOutcome.REFUSED,
        503,
        "http_503",
        1_500,
        after(seconds=5),
        "https://example.com/?…",
        b"\x00\xff<html>",
        "node-1",
    )
    move = replace(completed(planned, NOON), attempt=attempt)

    await store.commit(Changes(moves=[move]))

    assert await row(store, planned) == move.now
    assert await store.occurrences.attempts(planned.id) == [attempt]
    assert await journal(store) == list(move.entries)


async def test_attempts_are_listed_first_attempt_first(store: Store) -> None:
    event = an_event()
    occurrence = an_occurrence(event)
    await kept(store, event, occurrence)
    for number in (1, 2, 10):
        now = occurrence.changed(NOON, attempts_made=number, fence=number)
        attempt = Attempt(occurrence.id, number, NOON, NOON, AttemptOutcome.NO_ANSWER)
        await store.commit(Changes(moves=[Move(occurrence, now, attempt=attempt)]))
        occurrence = now

    assert [attempt.number for attempt in await store.occurrences.attempts(occurrence.id)] == [1, 2, 10]


async def test_a_planned_row_at_an_instant_that_has_one_is_stale(store: Store) -> None:
    event = an_event()
    there = finished(event)
    await kept(store, event, there)

    with pytest.raises(StaleError):
        await store.commit(Changes(planned=[an_occurrence(event)], entries=[an_entry(event)]))

    assert await row(store, there) == there
    assert await journal(store) == []


async def test_withdrawing_removes_a_planned_row_that_has_not_moved(store: Store) -> None:
    event = an_event()
    planned = an_occurrence(event)
    await kept(store, event, planned)

    await store.commit(Changes(withdrawn=[planned]))
    with pytest.raises(OccurrenceNotFoundError):
        await row(store, planned)
    with pytest.raises(StaleError):
        await store.commit(Changes(withdrawn=[planned]))


async def test_withdrawing_a_row_claimed_meanwhile_is_stale(store: Store) -> None:
    event = an_event()
    planned = an_occurrence(event)
    await kept(store, event, planned)
    await look(store)

    with pytest.raises(StaleError):
        await store.commit(Changes(withdrawn=[planned]))
    assert (await row(store, planned)).state is DISPATCHING


async def test_withdrawn_rows_go_before_planned_ones_come(store: Store) -> None:
    event = an_event()
    planned = an_occurrence(event)
    await kept(store, event, planned)
    again = replace(planned, ordinal=5)

    await store.commit(Changes(withdrawn=[planned], planned=[again]))

    assert await row(store, planned) == again


async def test_a_change_of_an_event_made_before_a_claim_under_the_old_version_commits_makes_the_claim_see_it(
    store: Store,
) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event))
    changed = event.changed(NOON, name="new")
    await store.commit(Changes(saves=[EventSave(changed, event)]))

    (claim,) = (await look(store)).claims

    assert claim.event == changed
    assert claim.occurrence.event_version == changed.version


# --- what a move says of its event ----------------------------------------------------------------------


async def test_a_move_that_ends_its_event_leaves_its_version(store: Store) -> None:
    event, paused = an_event(), an_event(status=EventStatus.PAUSED)
    one, other = an_occurrence(event), an_occurrence(paused)
    await kept(store, event, paused, one, other)

    await store.commit(Changes(moves=[completed(row, NOON, ends_event=True) for row in (one, other)]))

    assert await store.events.get(event.id) == replace(event, status=EventStatus.INACTIVE)
    assert await store.events.get(paused.id) == paused


async def test_a_move_that_pauses_its_event_is_a_change_of_it(store: Store) -> None:
    event, inactive, deleted = an_event(), an_event(status=EventStatus.INACTIVE), an_event(status=EventStatus.DELETED)
    rows = [an_occurrence(each) for each in (event, inactive, deleted)]
    await kept(store, event, inactive, deleted, *rows)

    await store.commit(Changes(moves=[completed(row, NOON, pauses_event="gone") for row in rows]))

    for was in (event, inactive):
        found = await store.events.get(was.id)
        assert (found.status, found.paused_reason, found.version) == (EventStatus.PAUSED, "gone", was.version + 1)
        assert found.paused_at == NOON
        assert found.paused_until is None
    assert (await store.events.many([deleted.id]))[deleted.id] == deleted


async def test_a_move_that_frees_the_queue_makes_the_oldest_held_row_due(store: Store, clock: FakeClock) -> None:
    event, other = an_event(policies=QUEUED), an_event(policies=QUEUED)
    done = an_occurrence(event)
    held = [
        an_occurrence(event, after(minutes=place), due_at=None, held=Held.OVERLAP, advances=False)
        for place in (2, 1, 3)
    ]
    paused = an_occurrence(event, after(seconds=1), due_at=None, held=Held.PAUSE)
    elsewhere = an_occurrence(other, due_at=None, held=Held.OVERLAP)
    await kept(store, event, other, done, *held, paused, elsewhere)
    clock.advance(seconds=600)

    await store.commit(Changes(moves=[completed(done, clock.now(), frees_queue=True)]))

    freed = await row(store, held[1])
    assert (freed.due_at, freed.held, freed.state) == (clock.now(), None, PENDING)
    for untouched in (held[0], held[2], paused, elsewhere):
        assert await row(store, untouched) == untouched
    assert await store.occurrences.held_by_overlap(event.id) == [held[0], held[2]]


async def test_what_was_decided_on_a_held_row_is_stale_once_it_was_freed_or_let_go(store: Store) -> None:
    event = an_event(policies=QUEUED)
    done = an_occurrence(event)
    queued = an_occurrence(event, after(minutes=1), due_at=None, held=Held.OVERLAP, advances=False)
    paused = an_occurrence(event, after(minutes=2), due_at=None, held=Held.PAUSE, advances=False)
    await kept(store, event, done, queued, paused)

    await store.commit(Changes(moves=[completed(done, NOON, frees_queue=True)], let_go=[event.id]))

    for held in (queued, paused):
        with pytest.raises(StaleError):
            await store.commit(Changes(moves=[Move(held, held.changed(NOON, note="decided before"))]))
        assert (await row(store, held)).held is None


async def test_freeing_an_empty_queue_does_nothing(store: Store) -> None:
    event = an_event()
    done = an_occurrence(event)
    await kept(store, event, done)
    await store.commit(Changes(moves=[completed(done, NOON, frees_queue=True)]))
    assert (await row(store, done)).state is COMPLETED


# --- sweeps ---------------------------------------------------------------------------------------------


async def test_cancelling_ends_what_is_pending_or_handed_over_and_nothing_else(store: Store) -> None:
    event, other = an_event(), an_event()
    pending = an_occurrence(event)
    queued = an_occurrence(event, after(minutes=1), due_at=None, held=Held.OVERLAP)
    item = handed_over(event, after(minutes=2), holder="h", lease_until=after(hours=1), due_at=after(hours=1))
    sending = an_occurrence(event, after(minutes=3), state=DISPATCHING, lease_until=after(hours=1), fence=1)
    past = finished(event, after(minutes=4), FAILED, reason=Reason.EXHAUSTED)
    elsewhere = an_occurrence(other)
    await kept(store, event, other, pending, queued, item, sending, past, elsewhere)

    at = after(minutes=10)
    assert await store.commit(Changes(cancel_unfinished=[(event.id, Reason.DELETED)], at=at)) == 3

    for cancelled in (pending, queued, item):
        found = await row(store, cancelled)
        assert (found.state, found.reason, found.finished_at) == (CANCELLED, Reason.DELETED, at)
        assert (found.due_at, found.held, found.inbox_at, found.lease_until) == (None, None, None, None)
        assert not found.advances
    for untouched in (sending, past, elsewhere):
        assert await row(store, untouched) == untouched
    told = await journal(store)
    assert {(entry.kind, entry.occurrence_id, entry.at, entry.detail["reason"]) for entry in told} == {
        (EntryKind.OCCURRENCE_CANCELLED, occurrence.id, at, "deleted") for occurrence in (pending, queued, item)
    }
    assert len(told) == 3


async def test_an_outcome_decided_before_the_sweep_does_not_undo_it(store: Store) -> None:
    event = an_event()
    item = handed_over(event)
    await kept(store, event, item)
    await store.commit(Changes(cancel_unfinished=[(event.id, Reason.DELETED)]))

    assert await store.settle([completed(item, NOON)]) == frozenset()
    assert (await row(store, item)).state is CANCELLED


async def test_what_a_pause_held_is_let_go_at_once_and_never_before_its_instant(store: Store) -> None:
    event = an_event()
    past = an_occurrence(event, due_at=None, held=Held.PAUSE, attempts_made=1, advances=False)
    ahead = an_occurrence(event, after(hours=1), due_at=None, held=Held.PAUSE)
    queued = an_occurrence(event, after(minutes=1), due_at=None, held=Held.OVERLAP)
    await kept(store, event, past, ahead, queued)

    at = after(minutes=10)
    await store.commit(Changes(let_go=[event.id], at=at))

    assert ((await row(store, past)).due_at, (await row(store, past)).held) == (at, None)
    assert ((await row(store, ahead)).due_at, (await row(store, ahead)).held) == (after(hours=1), None)
    assert await row(store, queued) == queued


async def test_a_sweep_without_an_instant_happens_now(store: Store, clock: FakeClock) -> None:
    event = an_event()
    planned = an_occurrence(event)
    await kept(store, event, planned)
    clock.advance(MINUTE)

    await store.commit(Changes(cancel_unfinished=[(event.id, Reason.REPLANNED)]))

    assert (await row(store, planned)).finished_at == clock.now()


async def test_moves_come_before_sweeps_and_sweeps_before_planned_rows(store: Store) -> None:
    event = an_event()
    skipped, swept = an_occurrence(event), an_occurrence(event, after(minutes=1))
    await kept(store, event, skipped, swept)
    fresh = an_occurrence(event, after(minutes=2))

    await store.commit(
        Changes(
            moves=[Move(skipped, ended(skipped, NOON, MISSED))],
            cancel_unfinished=[(event.id, Reason.REPLANNED)],
            planned=[fresh],
            entries=[an_entry(event)],
        )
    )

    assert (await row(store, skipped)).state is MISSED
    assert (await row(store, swept)).state is CANCELLED
    assert await row(store, fresh) == fresh
    assert await kinds(store) == [EntryKind.OCCURRENCE_CANCELLED, EntryKind.EVENT_UPDATED]


# --- remembered answers -----------------------------------------------------------------------------------


async def test_an_answer_is_remembered_for_its_principal_path_and_key_until_it_expires(
    store: Store, clock: FakeClock
) -> None:
    answer = an_answer()
    await store.commit(Changes(answer=answer))

    assert await store.remembered("ada", "/events", "k") == answer
    for others in (("bob", "/events", "k"), ("ada", "/tokens", "k"), ("ada", "/events", "K")):
        assert await store.remembered(*others) is None
    clock.advance(timedelta(hours=24))
    assert await store.remembered("ada", "/events", "k") is None


async def test_a_repeated_request_writes_nothing_until_the_first_answer_has_expired(
    store: Store, clock: FakeClock
) -> None:
    await store.commit(Changes(answer=an_answer()))

    with pytest.raises(RepeatedRequestError):
        await store.commit(Changes(saves=[EventSave(an_event())], answer=an_answer()))
    assert await store.events.count_live("ada") == 0

    clock.advance(timedelta(hours=25))
    again = an_answer(lasts=timedelta(hours=48))
    await store.commit(Changes(answer=again))
    assert await store.remembered("ada", "/events", "k") == again


async def test_a_taken_key_is_told_apart_from_a_repeated_request(store: Store) -> None:
    await kept(store, an_event(key="k"))
    with pytest.raises(KeyTakenError):
        await store.commit(Changes(saves=[EventSave(an_event(key="k"))], answer=an_answer()))
    assert await store.remembered("ada", "/events", "k") is None
