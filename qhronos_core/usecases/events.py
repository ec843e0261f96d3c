"""Creating, changing, stopping and running events."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog

from qhronos_core.domain import access, judgement, planning
from qhronos_core.domain.access import READ, WRITE, Principal
from qhronos_core.domain.destination import origin_of
from qhronos_core.domain.draft import UNSET, Draft, Notice, changed_fields, read_fields, with_accepted_fixes
from qhronos_core.domain.errors import (
    ConflictError,
    EventNotFoundError,
    InvalidInputError,
    KeyTakenError,
    NoNextRunError,
    QuotaExceededError,
    StaleError,
    UnavailableError,
)
from qhronos_core.domain.event import Action, ActionType, Event, EventStatus, Overlap
from qhronos_core.domain.ids import EventId, new_event_id
from qhronos_core.domain.occurrence import Entry, EntryKind, Move, Occurrence, Reason
from qhronos_core.domain.schedule import Run, Timetable, say_duration, say_instant
from qhronos_core.domain.signature import new_secret
from qhronos_core.failpoints import failpoint
from qhronos_core.ports import (
    Changes,
    EventQuery,
    EventSave,
    EventSecrets,
    Listing,
    Page,
    Quota,
    SecretKeeper,
    Signals,
    Stirred,
    Store,
)
from qhronos_core.tally import Tally
from qhronos_core.usecases.audit import audited, who
from qhronos_core.usecases.decide import decided
from qhronos_core.usecases.occurrences import OccurrenceAnswer
from qhronos_core.usecases.once import Once, replayed

_log = structlog.get_logger(__name__)

NEXT_RUNS: Final = 3
PREVIEW_LIMIT: Final = 100
SNOOZE_MOST: Final = timedelta(days=366)
_TOO_FAR: Final = 100 * SNOOZE_MOST
"""Beyond every run that is planned, and still a moment that can be reckoned."""
SECRET_OVERLAP: Final = timedelta(hours=24)
_ASKED_APART: Final = ("skip_next", "snooze", "status")  # what is asked of an event and is no field of it
SIGN_ALONG: Final = 4  # earlier secrets at most, the latest: each is a signature in one header line
_SIDE_BY_SIDE: Final = 1_000  # requests of one creator that may be under way at once
_HELD_LOOKED_AT: Final = 1_000
CHAIN_WITHIN: Final = timedelta(hours=1)
CHAIN_LIMIT: Final = 10
RUNS_PER_DAY_COUNTED: Final = 86_400
_VERY_FREQUENT: Final = 1_440  # runs a day: one a minute

_RULE: Final = frozenset({"schedule", "timezone", "start_time"})  # a change of these starts the count anew
_BOUNDS: Final = frozenset({"end_time", "max_occurrences", "exclusions"})
_ONCE_RUN_LIMIT: Final = timedelta(seconds=60)
_MICRO: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class EventAnswer:
    """An event as a caller is told of it. `secret_once`: a signing secret made by this very call.

    `stored` is false in the dry run of a new event: its id means nothing yet.
    """

    event: Event
    meaning: str
    next_runs: tuple[Run, ...] = ()
    result: str | None = None
    warnings: tuple[Notice, ...] = ()
    secret_once: str | None = None
    last: Occurrence | None = None
    skipped_at: datetime | None = None
    stored: bool = True

    @property
    def next_run_at(self) -> datetime | None:
        return self.next_runs[0].at if self.next_runs else None


@dataclass(frozen=True, slots=True)
class Preview:
    event: Event
    meaning: str
    now: datetime
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class EventRules:
    """What the operator set about events. Quotas hold for write tokens, per `sub`; 0 means none."""

    min_interval: timedelta = timedelta(seconds=1)
    quota_events: int = 10_000
    quota_runs_per_day: int = 100_000


class EventCases:
    def __init__(
        self,
        store: Store,
        signals: Signals,
        *,
        keeper: SecretKeeper,
        check_destination: Callable[[Action], Awaitable[None]],
        rules: EventRules,
        tally: Tally | None = None,
    ) -> None:
        self._tally = tally or Tally()
        self._store = store
        self._signals = signals
        self._keeper = keeper
        self._check_destination = check_destination
        self._rules = rules

    # --- reading ------------------------------------------------------------------------------

    async def get(self, ref: UUID | str, *, caller: Principal) -> EventAnswer:
        event = await self._found(ref, caller, READ)
        latest = await self._store.occurrences.latest([event.id])
        return replace(await self._answer(event), last=latest.get(event.id))

    async def list(
        self, query: EventQuery, page: Page, *, caller: Principal, count: bool = False
    ) -> Listing[EventAnswer]:
        listing = await self._store.events.list(query, access.reach(caller, READ), page, count=count)
        latest = await self._store.occurrences.latest([event.id for event in listing.items])
        planned = await self._store.occurrences.planned_of([event.id for event in listing.items])
        now = await self._store.now()
        answers = tuple(
            replace(_answer(event, planned.get(event.id), now), last=latest.get(event.id)) for event in listing.items
        )
        return Listing(answers, listing.next_cursor, listing.total)

    async def preview(
        self, ref: UUID | str, *, caller: Principal, count: int = 5, since: datetime | None = None
    ) -> Preview:
        """The next `count` (1-100) runs from `since` (now) on, by the planner's own function.

        Those that are left out are among them, marked, and so are days whose runs a change of clocks swallows.
        """
        if not 1 <= count <= PREVIEW_LIMIT:
            fix = [{"count": min(max(count, 1), PREVIEW_LIMIT)}]
            raise InvalidInputError.of("count", f"Between 1 and {PREVIEW_LIMIT}.", got=count, fix=fix)
        event = await self._found(ref, caller, READ)
        now = await self._store.now()
        table = planning.timetable(event)
        planned = await self._store.occurrences.planned(event.id)
        after = now if since is None else since - _MICRO
        if planned is not None:
            after = max(after, min(planned.scheduled_at - _MICRO, now))
        taken = await self._store.occurrences.instants_after(event.id, after)
        return Preview(event, table.meaning, now, _foreseen(event, planned, after, count, taken))

    # --- creating -----------------------------------------------------------------------------

    async def create(
        self, fields: Mapping[str, Any], *, caller: Principal, once: Once | None = None, dry_run: bool = False
    ) -> EventAnswer:
        """Create, or update by `key`. `dry_run` decides all and keeps nothing.

        Raises:
            InvalidInputError: with every fault and what to send instead.
            ForbiddenError: read access, or labels beyond the caller's scope.
            KeyTakenError: the key is held by an event out of the caller's reach.
            QuotaExceededError: too many live events, or too many runs a day.
        """
        await audited(self._store, caller, "create", lambda: access.require_writer(caller))
        draft = await self._read(fields)

        async def attempt() -> EventAnswer:
            if (existing := await self._by_own_key(draft, caller)) is not None:
                return await self._changed(existing, draft, caller=caller, dry_run=dry_run, once=once)
            return await self._created(draft, caller=caller, dry_run=dry_run, once=once)

        async def again_if_the_key_was_taken() -> EventAnswer:
            try:
                return await attempt()
            except KeyTakenError:
                return await attempt()  # another create with the same key was a moment faster: now it is an update

        return await replayed(self._store, None if dry_run else once, lambda: decided(again_if_the_key_was_taken))

    async def _by_own_key(self, draft: Draft, caller: Principal) -> Event | None:
        key = draft.get("key")
        if key is None:
            return None
        found = await self._store.events.by_key(key, created_by=caller.sub)
        if not found:
            return None
        if not access.may(caller, READ, found[0].labels):
            raise KeyTakenError()
        await audited(self._store, caller, "update", lambda: access.require(caller, WRITE, found[0]), found[0].id)
        return found[0]

    async def _created(self, draft: Draft, *, caller: Principal, dry_run: bool, once: Once | None) -> EventAnswer:
        now = await self._store.now()
        given = changed_fields(draft, None)
        tags = given.get("tags", ())
        labels = await audited(self._store, caller, "create", lambda: access.labels_at_creation(caller, tags))
        event_id = new_event_id(now)
        paused = draft.get("status") is EventStatus.PAUSED or draft.get("paused_until") is not None
        event = Event(
            **{
                "schedule": None,
                **given,
                "id": event_id,
                "created_by": caller.sub,
                "created_jti": caller.jti,
                "anchor_at": now,
                "created_at": now,
                "updated_at": now,
                "labels": labels,
                "status": EventStatus.PAUSED if paused else EventStatus.ACTIVE,
                "paused_at": now if paused else None,
                "paused_until": _resumes_at(draft, now),
            }
        )
        table = self._accepted(event, draft, now)
        await self._check_destination(event.action)
        event, secret = self._sealed(event, draft, EventSecrets(), now)
        event = await self._with_provenance(_counted(event, now), caller, now)
        quota = await self._within_quota(event, caller, new=True)
        planned = None if paused else planning.first(event, now)
        answer = replace(
            _answer(event, planned, now),
            result="preview" if dry_run else "created",
            warnings=await self._notices(event, draft, table, now, caller),
            secret_once=None if dry_run else secret,
            stored=not dry_run,
        )
        if dry_run:
            return answer
        entry = Entry(now, EntryKind.EVENT_CREATED, event.id, actor=caller.sub, detail=who(caller))
        changes = Changes(
            saves=[EventSave(event)], planned=[planned] if planned else [], entries=[entry], at=now, quota=quota
        )
        await self._commit(changes, answer, once, now)
        return answer

    # --- changing -----------------------------------------------------------------------------

    async def update(
        self, ref: UUID | str, fields: Mapping[str, Any], *, caller: Principal, dry_run: bool = False
    ) -> EventAnswer:
        """Change the named fields, and no others; pause, resume, skip the next run, snooze it.

        Raises: as `create`; EventNotFoundError; NoNextRunError where there is nothing to skip or snooze.
        """

        async def attempt() -> EventAnswer:
            event = await self._found_to_write(ref, caller, "update")
            try:
                draft = await self._read(fields, event)
            except InvalidInputError as error:
                raise await self._with_snoozes_within(error, event) from None
            return await self._changed(event, draft, caller=caller, dry_run=dry_run)

        return await decided(attempt)

    async def _with_snoozes_within(self, error: InvalidInputError, event: Event) -> InvalidInputError:
        """The same refusal; of the snoozes it offers, those for which the event's next runs leave room."""
        at = next((place for place, fault in enumerate(error.faults) if fault.field == "snooze"), None)
        row = None if at is None else await self._store.occurrences.planned(event.id)
        if at is None or row is None:
            return error
        room = _Room.of(event, row, await self._store.now())
        fix = [fix for fix in error.faults[at].fix if room.takes(fix, event)] or room.left
        faults = list(error.faults)
        faults[at] = replace(faults[at], fix=tuple(fix))
        return type(error)(faults=faults)

    async def _changed(
        self,
        was: Event,
        draft: Draft,
        *,
        caller: Principal,
        dry_run: bool = False,
        once: Once | None = None,
    ) -> EventAnswer:
        now = await self._store.now()
        changed = dict(changed_fields(draft, was))
        tags = changed.get("tags", was.tags)
        labels = await audited(
            self._store, caller, "update", lambda: access.labels_after_update(caller, tags, was.labels), was.id
        )
        if labels != was.labels:
            changed["labels"] = labels
        ruled = bool(_RULE & changed.keys())
        if ruled:
            changed["anchor_at"] = now
        event = replace(was, **changed)
        table = self._accepted(event, draft, now) if ruled or _BOUNDS & changed.keys() else planning.timetable(event)
        if ruled or _BOUNDS & changed.keys():
            first = planning.first(event, now)
            event = await self._hurried(_counted(event, now), first.scheduled_at if first else None)
        if "action" in changed:
            await self._check_destination(event.action)
        before = self._keeper.open(was) if was.secrets is not None else EventSecrets()
        event, secret = self._sealed(event, draft, before, now, moved=_moved(was.action, event.action))
        plan = _Plan(was=was, event=event, now=now, actor=caller.sub)
        await self._replan(plan, draft, ruled=ruled, bounded=bool(_BOUNDS & changed.keys()))
        event = plan.event
        if event == was and not plan.touched:
            answer = replace(await self._answer(was), result="preview" if dry_run else "unchanged")
            if once is not None and not dry_run:
                await self._store.commit(Changes(answer=once.remembered(answer, now), at=now))
            return answer
        event = replace(event, version=was.version + 1, updated_at=now)
        adds = _will_run(event) and (not _will_run(was) or event.runs_per_day > was.runs_per_day)
        quota = await self._within_quota(event, caller, new=was.status is EventStatus.INACTIVE) if adds else None
        answer = replace(
            _answer(event, plan.planned, now),
            result="preview" if dry_run else "updated",
            warnings=await self._notices(event, draft, table if ruled else None, now, caller),
            secret_once=None if dry_run else secret,
            skipped_at=plan.skipped_at,
        )
        if dry_run:
            return answer
        changes = plan.changes
        changes.quota = quota
        changes.saves.append(EventSave(event, was))
        kind = {
            (EventStatus.ACTIVE, EventStatus.PAUSED): EntryKind.EVENT_PAUSED,
            (EventStatus.PAUSED, EventStatus.ACTIVE): EntryKind.EVENT_RESUMED,
        }.get((was.status, event.status), EntryKind.EVENT_UPDATED)
        asked = {name for name in _ASKED_APART if draft.given(name)}
        if event.secrets is not was.secrets:
            asked.add("secrets")
        changed_names = sorted((changed.keys() | asked) - {"labels", "anchor_at"})
        changes.entries.append(
            Entry(now, kind, event.id, actor=caller.sub, detail={**who(caller), "fields": changed_names})
        )
        if event.status is EventStatus.INACTIVE and was.status is not EventStatus.INACTIVE:
            changes.entries.append(Entry(now, EntryKind.EVENT_ENDED, event.id))
        changes.at = now
        if was.policies.overlap is Overlap.QUEUE and event.policies.overlap is not Overlap.QUEUE:
            await self._free_queued(event.id, changes, now)
        await self._commit(changes, answer, once, now)
        return answer

    async def _replan(self, plan: "_Plan", draft: Draft, *, ruled: bool, bounded: bool) -> None:
        """What the change means for the planned row: schedules.md §9."""
        occurrences = self._store.occurrences
        plan.planned = await occurrences.planned(plan.event.id)
        taken = await occurrences.instants_after(plan.event.id, plan.now - _ONCE_RUN_LIMIT)
        last_ordinal = 0 if ruled else await occurrences.last_ordinal(plan.event.id, since=plan.event.anchor_at)
        if ruled or bounded:
            plan.edit(taken, ordinal=last_ordinal + 1, afresh=ruled)
        status, until = draft.get("status"), _resumes_at(draft, plan.now)
        if until is not None or status is EventStatus.PAUSED:
            plan.pause(until)
        elif draft.given("paused_until") and status is not EventStatus.ACTIVE:
            plan.stay_paused()
        elif status is EventStatus.ACTIVE:
            plan.resume(taken, last_ordinal)
        if draft.get("skip_next"):
            plan.skip(taken)
        if (snooze := draft.get("snooze")) is not None:
            plan.snooze(snooze)

    async def _free_queued(self, event_id: EventId, changes: Changes, now: datetime) -> None:
        rows = await self._store.occurrences.held_by_overlap(event_id)
        changes.moves += [_freed(row, now) for row in rows]

    async def delete(self, ref: UUID | str, *, caller: Principal) -> EventAnswer:
        """Stop an event for good. An attempt already under way is left to finish."""

        async def attempt() -> EventAnswer:
            was = await self._found_to_write(ref, caller, "delete")
            now = await self._store.now()
            deleted = was.deleted(now)
            entry = Entry(now, EntryKind.EVENT_DELETED, was.id, actor=caller.sub, detail=who(caller))
            changes = Changes(
                saves=[EventSave(deleted, was)],
                cancel_unfinished=[(was.id, Reason.DELETED)],
                entries=[entry],
                at=now,
            )
            self._tally.committed(changes, await self._store.commit(changes))
            await self._signals.announce(Stirred())
            shown = replace(was, status=EventStatus.DELETED, updated_at=now, deleted_at=now)
            return EventAnswer(shown, planning.timetable(was).meaning, result="deleted")

        return await decided(attempt)

    async def trigger(self, ref: UUID | str, *, caller: Principal, once: Once | None = None) -> OccurrenceAnswer:
        """Run it once now, also while paused or inactive. The schedule does not move, and the run does not count."""

        async def attempt() -> OccurrenceAnswer:
            was = await self._found_to_write(ref, caller, "trigger")
            now = await self._store.now()
            event = await self._hurried(was, now)
            if event != was:
                event = replace(event, version=was.version + 1)
            taken = await self._store.occurrences.instants_after(event.id, now - timedelta(microseconds=1))
            instant = now
            while instant in taken:
                instant += timedelta(microseconds=1)
            occurrence = planning.triggered(event, instant, now)
            answer = OccurrenceAnswer(occurrence, event)
            entry = Entry(now, EntryKind.OCCURRENCE_TRIGGERED, event.id, occurrence.id, caller.sub, who(caller))
            saves = [EventSave(event, was)] if event != was else []
            changes = Changes(saves=saves, planned=[occurrence], entries=[entry], at=now)
            if once is not None:
                changes.answer = once.remembered(answer, now)
            await self._store.commit(changes)
            await self._signals.announce(Stirred(now))
            return answer

        return await replayed(self._store, once, lambda: decided(attempt))

    async def resume_due(self) -> datetime | None:
        """Resume events whose `paused_until` has come; the instant of the next one, where it is known. Called by the loop."""
        crashed = False
        for event_id in await self._store.events.to_resume(100):
            try:
                await decided(partial(self._resume, event_id))
            except (StaleError, EventNotFoundError):
                continue  # somebody changed it a moment ago: looked at again in the next round
            except UnavailableError:
                raise
            except Exception:
                _log.exception("event_not_resumed", event_id=str(event_id))
                crashed = True  # and it is still due
        return None if crashed else await self._store.events.next_resume_at()

    async def _resume(self, event_id: EventId) -> None:
        was = await self._store.events.get(event_id)
        now = await self._store.now()
        if was.status is not EventStatus.PAUSED or was.paused_until is None or was.paused_until > now:
            return
        plan = _Plan(was=was, event=was, now=now, actor=None)
        plan.planned = await self._store.occurrences.planned(event_id)
        over_since = was.paused_until - _MICRO
        taken = await self._store.occurrences.instants_after(event_id, over_since)
        last_ordinal = await self._store.occurrences.last_ordinal(event_id, since=was.anchor_at)
        plan.resume(taken, last_ordinal, over_since=over_since)
        event = replace(plan.event, version=was.version + 1, updated_at=now)
        changes = plan.changes
        changes.saves.append(EventSave(event, was))
        changes.entries.append(Entry(now, EntryKind.EVENT_RESUMED, event_id))
        if event.status is EventStatus.INACTIVE:
            changes.entries.append(Entry(now, EntryKind.EVENT_ENDED, event_id))
        changes.at = now
        self._tally.committed(changes, await self._store.commit(changes))
        await self._signals.announce(Stirred(plan.planned.due_at if plan.planned else None))

    # --- judging what is asked ------------------------------------------------------------------

    async def _read(self, fields: Mapping[str, Any], event: Event | None = None) -> Draft:
        """The fields of a new event, or those of `event` to change; of a refusal, only fixes that are accepted now."""
        try:
            return read_fields(fields, creating=event is None, event=event)
        except InvalidInputError as error:
            now = await self._store.now()
            raise with_accepted_fixes(error, fields, lambda mended: self._would_do(mended, event, now)) from None

    def _would_do(self, fields: Mapping[str, Any], event: Event | None, now: datetime) -> None:
        """Raises: InvalidInputError: read again, these fields would still be refused."""
        draft = read_fields(fields, creating=event is None, event=event)
        _resumes_at(draft, now)

        def asked(name: str, otherwise: Any) -> Any:
            return draft.get(name) if draft.given(name) else otherwise if event is None else getattr(event, name)

        zone = asked("timezone", "UTC")
        Timetable.of(
            asked("schedule", None),
            timezone=zone,
            timezone_given=draft.given("timezone") or zone != "UTC",
            anchor=now,
            start_time=asked("start_time", None),
            end_time=asked("end_time", None),
            exclusions=asked("exclusions", ()),
            check_from=now,
            min_interval=self._rules.min_interval,
        )

    def _accepted(self, event: Event, draft: Draft, now: datetime) -> Timetable:
        """The rule, parsed as a new one: with a run ahead, and not more often than the operator allows."""
        return Timetable.of(
            event.schedule,
            timezone=event.timezone,
            timezone_given=draft.given("timezone") or event.timezone != "UTC",
            anchor=event.anchor_at,
            start_time=event.start_time,
            end_time=event.end_time,
            exclusions=event.exclusions,
            check_from=now,
            min_interval=self._rules.min_interval,
        )

    def _sealed(
        self, event: Event, draft: Draft, before: EventSecrets, now: datetime, *, moved: bool = False
    ) -> tuple[Event, str | None]:
        """The event with its secrets sealed, and a signing secret that was made here. `moved`: as `headers_over` has it."""
        signs = event.action.type is ActionType.WEBHOOK
        secret, made = before.hmac_secret, None
        given = draft.secrets.hmac_secret
        if given is not UNSET and given is not None:
            secret = given
        elif (given is None or secret is None) and signs:
            secret = made = new_secret()
        retired = before.retired
        if before.hmac_secret is not None and secret != before.hmac_secret:
            retired = (*retired, (before.hmac_secret, now + SECRET_OVERLAP))
        retired = tuple((old, until) for old, until in retired if until > now and old != secret)[-SIGN_ALONG:]
        headers = draft.secrets.headers_over(before.headers, moved=moved)
        secrets = EventSecrets(secret, retired, headers)
        if secrets == before:
            return event, None
        sealed = self._keeper.seal(event.id, secrets) if secrets != EventSecrets() else None
        return replace(event, secrets=sealed, hmac_secret_set=secret is not None), made

    async def _with_provenance(self, event: Event, caller: Principal, now: datetime) -> Event:
        """Who made it and from which occurrence (S47): an agent that schedules itself is stopped after ten quick links.

        Of several occurrences in its hands the one at the end of the longest chain counts: a claim kept aside breaks none.
        """
        held = await self._store.occurrences.held_by(caller.holder, _HELD_LOOKED_AT)
        if not held:
            return event
        parents = await self._store.events.many([occurrence.event_id for occurrence in held])
        depths = {row.id: parents[row.event_id].chain_depth for row in held if row.event_id in parents}
        cause = max(held, key=lambda row: depths.get(row.id, -1))
        first = planning.first(event, now)
        quick = first is not None and first.scheduled_at - now <= CHAIN_WITHIN
        depth = depths[cause.id] + 1 if cause.id in depths and quick else 0
        if depth >= CHAIN_LIMIT:
            raise ChainTooLongError()
        return replace(event, caused_by=cause.id, chain_depth=depth)

    async def _hurried(self, event: Event, runs_at: datetime | None) -> Event:
        """Made for later, and brought within the hour of its making afterwards: as if it had been made so (S47)."""
        cause_id = event.caused_by
        if cause_id is None or event.chain_depth or runs_at is None or runs_at - event.created_at > CHAIN_WITHIN:
            return event
        cause = (await self._store.occurrences.many([cause_id])).get(cause_id)
        parents = await self._store.events.many([cause.event_id]) if cause else {}
        depth = max((parent.chain_depth + 1 for parent in parents.values()), default=0)
        if depth >= CHAIN_LIMIT:
            raise ChainTooLongError()
        return replace(event, chain_depth=depth)

    async def _within_quota(self, event: Event, caller: Principal, *, new: bool) -> Quota | None:
        """Judged when an event is made, changed or has more to run again, never when it is due; write tokens only, per `sub`.

        What is close to its limit is counted again where it is written, since others write side by side.
        """
        if caller.sees_all:
            return None
        rules = self._rules
        most = runs = None
        if new and rules.quota_events:
            left = rules.quota_events - await self._store.events.count_live(event.created_by) - 1
            if left < 0:
                raise QuotaExceededError(
                    f"You have {rules.quota_events} live events, the most allowed. Delete some you no longer need."
                )
            most = rules.quota_events if left < _SIDE_BY_SIDE else None
        if rules.quota_runs_per_day:
            others = await self._store.events.runs_per_day(event.created_by, but=event.id)
            left = rules.quota_runs_per_day - others - event.runs_per_day
            if left < 0:
                raise QuotaExceededError(
                    f"This would be over {rules.quota_runs_per_day} planned runs a day. Choose a longer interval."
                )
            runs = rules.quota_runs_per_day if left < _SIDE_BY_SIDE * event.runs_per_day else None
        return None if most is None and runs is None else Quota(event.created_by, most, runs)

    async def _notices(
        self, event: Event, draft: Draft, table: Timetable | None, now: datetime, caller: Principal
    ) -> tuple[Notice, ...]:
        notices = [*draft.notices]
        if table is not None:
            notices += [Notice("schedule", says) for says in table.warnings(now)]
            if event.runs_per_day >= _VERY_FREQUENT:
                notices.append(Notice("very_frequent", f"This is very frequent: {event.runs_per_day:,} runs a day."))
            alike = await self._store.events.look_alikes(event, access.reach(caller, READ), 1)
            if alike:
                notices.append(
                    Notice("look_alike", f"Another active event, {alike[0]}, has the same schedule and destination.")
                )
        return tuple(notices)

    # --- finding and telling ----------------------------------------------------------------------

    async def _found(self, ref: UUID | str, caller: Principal, level: access.Level) -> Event:
        if isinstance(ref, UUID):
            event = await self._store.events.get(EventId(ref))
            access.require(caller, level, event)
            return event
        readable = [
            event
            for event in await self._store.events.by_key(ref)
            if event.live and access.may(caller, READ, event.labels)
        ]
        own = [event for event in readable if event.created_by == caller.sub]
        found = own or readable
        if not found:
            raise EventNotFoundError
        if len(found) > 1:
            fix = [{"event_id": str(event.id)} for event in found[:3]]
            raise InvalidInputError.of(
                "event_id", "Several events have this key; name one by its id.", code="ambiguous_key", got=ref, fix=fix
            )
        access.require(caller, level, found[0])
        return found[0]

    async def _found_to_write(self, ref: UUID | str, caller: Principal, what: str) -> Event:
        """R8: readability, then the level; a refusal is written to the journal."""
        event = await self._found(ref, caller, READ)
        await audited(self._store, caller, what, lambda: access.require(caller, WRITE, event), event.id)
        return event

    async def _answer(self, event: Event) -> EventAnswer:
        planned = await self._store.occurrences.planned(event.id)
        return _answer(event, planned, await self._store.now())

    async def _commit(self, changes: Changes, answer: EventAnswer, once: Once | None, now: datetime) -> None:
        if once is not None:
            changes.answer = once.remembered(answer, now)
        self._tally.committed(changes, await self._store.commit(changes))
        failpoint("after_plan_insert")
        due = [row.due_at for row in changes.planned if row.due_at is not None]
        due += [move.now.due_at for move in changes.moves if move.now.due_at is not None]
        due += [save.event.paused_until for save in changes.saves if save.event.paused_until is not None]
        await self._signals.announce(Stirred(min(due) if due else (now if changes.let_go else None)))


class ChainTooLongError(ConflictError):
    code = "chain_too_long"

    def __init__(self) -> None:
        super().__init__(
            f"Events that schedule events have gone on for {CHAIN_LIMIT} quick links. Schedule it over an hour ahead, "
            "or let a person start it."
        )


def _moved(was: Action, now: Action) -> bool:
    """Whether another origin is called."""
    return origin_of(str(was.params.get("url"))) != origin_of(str(now.params.get("url")))


@dataclass(frozen=True, slots=True)
class _Room:
    """How far a planned run may be snoozed: later than it is, and at most to the run after it (a one-shot: 366 d)."""

    begin: datetime
    earliest: datetime
    most: datetime

    @classmethod
    def of(cls, event: Event, row: Occurrence, now: datetime) -> "_Room":
        begin = row.due_at or row.scheduled_at
        after = planning.successor(event, row, now)
        return cls(begin, max(begin, now), after.scheduled_at if after else row.scheduled_at + SNOOZE_MOST)

    @property
    def left(self) -> list[dict[str, object]]:
        """What is surely accepted; nothing where the run is snoozed as far as it goes."""
        return [{"snooze": say_instant(self.most)}] if self.holds(self.most) else []

    def moved(self, to: timedelta | datetime) -> datetime:
        return to if isinstance(to, datetime) else self.begin + min(to, _TOO_FAR)

    def holds(self, due_at: datetime) -> bool:
        return self.earliest < due_at <= self.most

    def takes(self, fix: Mapping[str, object], event: Event) -> bool:
        """Whether the snooze of this fix is within."""
        try:
            draft = read_fields({"snooze": fix.get("snooze"), "timezone": event.timezone}, creating=False, event=event)
        except InvalidInputError:
            return False
        return self.holds(self.moved(draft.get("snooze")))


@dataclass(slots=True)
class _Plan:
    """A change of one event, decided step by step on the planned row that was read, and written at once."""

    was: Event
    event: Event
    now: datetime
    actor: str | None
    planned: Occurrence | None = None
    changes: Changes = None  # type: ignore[assignment]
    skipped_at: datetime | None = None

    def __post_init__(self) -> None:
        self.changes = Changes()

    @property
    def touched(self) -> bool:
        changes = self.changes
        return bool(changes.moves or changes.planned or changes.withdrawn or changes.let_go)

    def edit(self, taken: frozenset[datetime], *, ordinal: int, afresh: bool) -> None:
        """A new rule: the planned row gives way unless the rule has the same instant."""
        before = self.planned
        if self.event.status is EventStatus.PAUSED:
            self._clear()
            return
        free = taken - {before.scheduled_at} if before and not self._begun_by_now(before) else taken
        if before is not None and not afresh:
            ordinal = before.ordinal
        nxt = (
            planning.first(self.event, self.now, ordinal=ordinal, taken=free)
            if afresh
            else planning.following(self.event, self.now, ordinal, self.now, taken=free)
        )
        if before is not None and nxt is not None and nxt.id == before.id and not self._begun_by_now(before):
            if nxt.ordinal != before.ordinal:
                self.planned = before.changed(self.now, ordinal=nxt.ordinal)
                self._move(Move(before, self.planned))
            return
        self._clear()
        self._plan(nxt)

    def pause(self, until: datetime | None) -> None:
        if self.event.status is EventStatus.PAUSED:
            if until is not None and until != self.event.paused_until:
                self.event = replace(self.event, paused_until=until)
            return
        self.event = replace(
            self.event, status=EventStatus.PAUSED, paused_at=self.now, paused_until=until, paused_reason=None
        )

    def stay_paused(self) -> None:
        """`paused_until: null`: what is paused no longer resumes by itself."""
        if self.event.status is EventStatus.PAUSED:
            self.event = replace(self.event, paused_until=None)

    def resume(self, taken: frozenset[datetime], last_ordinal: int, *, over_since: datetime | None = None) -> None:
        """Keep a row still ahead, else plan the next instant after now: nothing of the past fires.

        Of a pause that ended by itself the past is what was before its end, whenever that is noticed.
        """
        if self.event.status is EventStatus.ACTIVE or (
            self.event.status is EventStatus.INACTIVE and self.planned is None
        ):
            return
        self.event = replace(
            self.event, status=EventStatus.ACTIVE, paused_at=None, paused_until=None, paused_reason=None
        )
        self.changes.let_go.append(self.event.id)
        before, after = self.planned, over_since or self.now
        if before is not None and before.due_at is not None and before.due_at > after:
            return
        if before is not None:
            self.changes.moves.append(
                judgement.withdrawn(self.was, before, Reason.PAUSED, at=self.now, actor=self.actor)
            )
        self._plan(planning.following(self.event, after, last_ordinal + 1, self.now, taken=taken))

    def skip(self, taken: frozenset[datetime]) -> None:
        before = self._next_run()
        self.skipped_at = before.scheduled_at
        self._move(judgement.withdrawn(self.was, before, Reason.SKIPPED, at=self.now, actor=self.actor))
        self._plan(planning.following(self.event, before.scheduled_at, before.ordinal + 1, self.now, taken=taken))

    def snooze(self, to: timedelta | datetime) -> None:
        """Move `due_at` later, at most to the run after it (a one-shot: 366 d); the instant and the id stay."""
        before = self._next_run()
        room = _Room.of(self.event, before, self.now)
        due_at = room.moved(to)
        if not room.holds(due_at):
            got = say_duration(to) if isinstance(to, timedelta) else say_instant(to)
            why = "It is snoozed as far as it goes: to the run after it."
            if room.left:
                why = f"Later than the next run, and not after {say_instant(room.most)}."
            raise InvalidInputError.of("snooze", why, got=got, fix=room.left)
        self._move(Move(before, before.changed(self.now, due_at=due_at, fence=before.fence + 1)))
        self.planned = replace(before, due_at=due_at)

    def _next_run(self) -> Occurrence:
        if self.event.status is not EventStatus.ACTIVE or self.planned is None or self.planned in self.changes.planned:
            raise NoNextRunError()
        return self.planned

    def _begun_by_now(self, row: Occurrence) -> bool:
        return row.due_at is None or row.due_at <= self.now

    def _clear(self) -> None:
        """The planned row goes: cancelled if it is due already, else removed, with an entry."""
        before, self.planned = self.planned, None
        if before is None:
            return
        if self._begun_by_now(before):
            self.changes.moves.append(
                judgement.withdrawn(self.was, before, Reason.REPLANNED, at=self.now, actor=self.actor)
            )
            return
        self.changes.withdrawn.append(before)
        self.changes.entries.append(
            Entry(self.now, EntryKind.OCCURRENCE_WITHDRAWN, before.event_id, before.id, self.actor)
        )

    def _plan(self, nxt: Occurrence | None) -> None:
        self.planned = nxt
        if nxt is not None:
            self.changes.planned.append(nxt)
        self.event = replace(self.event, status=EventStatus.ACTIVE if nxt else EventStatus.INACTIVE)

    def _move(self, move: Move) -> None:
        """A row is moved once, from where it stood: a step that this change has decided before goes into this one."""
        moves = self.changes.moves
        for place, earlier in enumerate(moves):
            if earlier.was.id == move.was.id:
                moves[place] = replace(move, was=earlier.was)
                return
        moves.append(move)


def _will_run(event: Event) -> bool:
    """Active, or so by itself once its pause has ended."""
    return event.status is EventStatus.ACTIVE or event.paused_until is not None


def _freed(row: Occurrence, now: datetime) -> Move:
    return Move(row, row.changed(now, held=None, due_at=now, fence=row.fence + 1))


def _resumes_at(draft: Draft, now: datetime) -> datetime | None:
    until: datetime | None = draft.get("paused_until")
    if until is not None and until <= now:
        ahead = say_instant((now + timedelta(days=1)).replace(microsecond=0))
        fix: list[dict[str, object]] = [{"paused_until": ahead}, {"paused_until": None}]
        why = "That has passed. Give an instant ahead, or null."
        raise InvalidInputError.of("paused_until", why, got=say_instant(until), fix=fix)
    return until


def _counted(event: Event, now: datetime) -> Event:
    """With its planned runs a day, as counted from now; what quotas add up."""
    runs = planning.timetable(event).count_between(now, now + timedelta(days=1), RUNS_PER_DAY_COUNTED)
    return replace(event, runs_per_day=runs)


def _answer(event: Event, planned: Occurrence | None, now: datetime) -> EventAnswer:
    table = planning.timetable(event)
    return EventAnswer(event, table.meaning, _runs(event, planned, now, NEXT_RUNS))


def _runs(event: Event, planned: Occurrence | None, after: datetime, count: int) -> tuple[Run, ...]:
    """The planned run and those that will follow it, later than `after`. A paused event has none until it is resumed."""
    if event.status is not EventStatus.ACTIVE or planned is None:
        return ()
    table = planning.timetable(event)
    left = count
    if event.max_occurrences is not None:
        left = min(count, event.max_occurrences - planned.ordinal + 1)
    runs = table.runs_after(max(after, planned.scheduled_at - _MICRO), left)
    return tuple(_put_off(run, planned) for run in runs)


def _foreseen(
    event: Event, planned: Occurrence | None, after: datetime, count: int, taken: frozenset[datetime]
) -> tuple[Run, ...]:
    """The planned run and what will follow it, later than `after`, with what is left out and what is lost.

    An instant in `taken` has a row, and is never planned again.
    """
    if event.status is not EventStatus.ACTIVE or planned is None:
        return ()
    table = planning.timetable(event)
    left = count
    if event.max_occurrences is not None:
        left = event.max_occurrences - planned.ordinal + 1
        left -= table.count_between(planned.scheduled_at - _MICRO, after, left)
    shown: list[Run] = []
    while left > 0 and len(shown) < count and (runs := table.runs_after(after, count, include_excluded=True)):
        for run in runs:
            if run.note in ("excluded", "lost_in_gap"):
                shown.append(run)
            elif run.at == planned.scheduled_at or (run.at > planned.scheduled_at and run.at not in taken):
                shown.append(_put_off(run, planned))
                left -= 1
            if left == 0:
                return tuple(shown[:count])
        after = runs[-1].at
    return tuple(shown[:count])


def _put_off(run: Run, planned: Occurrence) -> Run:
    """The same run, at the time to which it was snoozed if it was."""
    if run.at != planned.scheduled_at or planned.due_at in (None, planned.scheduled_at):
        return run
    local = planned.due_at.astimezone(run.local.tzinfo)
    return replace(run, at=planned.due_at, local=local, weekday=f"{local:%A}")
