"""Writing all that one decision of a use case says, or nothing of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, LiteralString

from psycopg import AsyncCursor

from qhronos_core.adapters.postgres.moves import WRITE_MOVES, Written, free_queues, frees, lock_freed, parameters_of
from qhronos_core.adapters.postgres.pool import Connections, Transaction
from qhronos_core.adapters.postgres.rows import (
    ENTRY,
    ENTRY_TYPES,
    EVENT_COLUMNS,
    EVENT_VALUES,
    OCCURRENCE,
    OCCURRENCE_COLUMNS,
    OCCURRENCE_TYPES,
    document,
    entry_row,
    event_row,
    occurrence_row,
    uuids,
)
from qhronos_core.adapters.postgres.time import NOW, StoreTime
from qhronos_core.adapters.rows import as_json
from qhronos_core.domain.errors import RepeatedRequestError, StaleError
from qhronos_core.domain.event import Event
from qhronos_core.ports import Changes, EventSave, RememberedAnswer

LOCK_OPEN: Final = """
    SELECT id FROM occurrences WHERE event_id = ANY (%(events)s::uuid[]) AND unfinished ORDER BY id FOR UPDATE
"""
_NOTE_ZONES: Final = "UPDATE store_meta SET zones_version = %(version)s"
_NOW: Final[LiteralString] = f"SELECT {NOW}"
_REMEMBER: Final[LiteralString] = f"""
    -- Waits for another request with this key that is under way, and takes the place of one that has expired.
    INSERT INTO idempotency AS i (principal, path, key, body_hash, status, answer, expires_at)
    VALUES (%(principal)s, %(path)s, %(key)s, %(body_hash)s, %(status)s, %(answer)s, %(expires_at)s)
        ON CONFLICT (principal, path, key) DO UPDATE
           SET body_hash = excluded.body_hash, status = excluded.status, answer = excluded.answer,
               expires_at = excluded.expires_at
         WHERE i.expires_at <= {NOW}
 RETURNING true
"""
_WITHDRAW: Final = """
    DELETE FROM occurrences AS o
     USING json_to_recordset(%(rows)s) AS w (id uuid, fence int, state text)
     WHERE o.id = w.id AND o.fence = w.fence AND o.state = w.state
 RETURNING o.id
"""
_CANCEL_UNFINISHED: Final[LiteralString] = f"""
    WITH cancelled AS (
             UPDATE occurrences
                SET state = 'cancelled', reason = %(reason)s, due_at = NULL, inbox_at = NULL, lease_until = NULL,
                    held = NULL, advances = false, fence = fence + 1, finished_at = %(at)s, updated_at = %(at)s
              WHERE event_id = %(event)s AND unfinished AND state IN ('pending', 'dispatched')
          RETURNING id, event_id, scheduled_at)
    INSERT INTO journal ({ENTRY})
    SELECT %(at)s::timestamptz, 'occurrence.cancelled', event_id, id, NULL, json_build_object('reason', %(reason)s::text)
      FROM cancelled ORDER BY scheduled_at, id
 RETURNING occurrence_id
"""
_LET_GO: Final = """
    -- Never before its own instant; a row that must wait for an earlier one is held again when it is judged.
    UPDATE occurrences
       SET held = NULL, due_at = greatest(scheduled_at, %(at)s), fence = fence + 1, updated_at = %(at)s
     WHERE event_id = %(event)s AND unfinished AND held = 'pause'
"""
_PLAN: Final[LiteralString] = f"""
    INSERT INTO occurrences ({OCCURRENCE_COLUMNS})
    SELECT {OCCURRENCE} FROM json_to_recordset(%(rows)s) AS o ({OCCURRENCE_TYPES})
"""
_INSERT_EVENT: Final[LiteralString] = f"INSERT INTO events ({EVENT_COLUMNS}) VALUES ({EVENT_VALUES})"
_REPLACE_EVENT: Final[LiteralString] = f"""
    UPDATE events SET ({EVENT_COLUMNS}) = ROW ({EVENT_VALUES})
     WHERE id = %(id)s AND version = %(was_version)s AND status = %(was_status)s
 RETURNING id
"""
# What is not changed is not written back: it may have been sealed anew since the event was read.
_REPLACE_ALL_BUT_SECRETS: Final[LiteralString] = _REPLACE_EVENT.replace("%(secrets)s", "secrets")
_LOCK_CREATOR: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%(by)s, 6))"
_WITHIN: Final = """
    -- Of two that create side by side the second waits for the lock, and counts what the first has written.
    SELECT true
     WHERE (%(events)s::bigint IS NULL OR %(events)s >=
               (SELECT count(*) FROM events WHERE created_by = %(by)s AND status IN ('active', 'paused')))
       AND (%(runs)s::bigint IS NULL OR %(runs)s >=
               (SELECT coalesce(sum(runs_per_day), 0) FROM events
                 WHERE created_by = %(by)s AND status IN ('active', 'paused')
                   AND (status = 'active' OR paused_until IS NOT NULL)))
"""
_MINT: Final = """
    INSERT INTO tokens (jti, sub, access, scope, issued_at, expires_at, revoked_at)
    VALUES (%(jti)s, %(sub)s, %(access)s, %(scope)s, %(issued_at)s, %(expires_at)s, %(revoked_at)s)
        ON CONFLICT (jti) DO UPDATE SET revoked_at = excluded.revoked_at
"""
_REVOKE: Final = """
    INSERT INTO revocations (id, created_at, jti, sub, issued_before)
    VALUES (%(id)s, %(created_at)s, %(jti)s, %(sub)s, %(issued_before)s)
"""
_TELL: Final[LiteralString] = f"""
    INSERT INTO journal ({ENTRY})
    SELECT {ENTRY} FROM json_to_recordset(%(entries)s) AS j (n int, {ENTRY_TYPES}) ORDER BY n
"""


class Commits:
    def __init__(self, connections: Connections, time: StoreTime) -> None:
        self._connections = connections
        self._time = time

    async def commit(self, changes: Changes) -> int:
        async def write(transaction: Transaction) -> int:
            return await self._write(transaction, changes)

        return await self._connections.transaction(write)

    async def _write(self, transaction: Transaction, changes: Changes) -> int:
        if changes.quota is not None:
            await transaction.send(_LOCK_CREATOR, {"by": changes.quota.created_by})
        if changes.answer is not None:  # first of all: a repeated request meets its answer, not its own effects
            await self._remember(transaction, changes.answer)
        replaced = [save.was for save in changes.saves if save.was is not None]
        if replaced:
            await _lock_open(transaction, replaced)
        elif freed := frees(changes.moves):
            await lock_freed(transaction, changes.moves, freed)
        at = changes.at or (await transaction.rows(_NOW, self._time.parameter()))[0][0]
        expected: list[tuple[AsyncCursor[Any], int]] = []
        moved = None
        if changes.moves:
            moved = await transaction.send(WRITE_MOVES, parameters_of(changes.moves))
        if changes.withdrawn:
            rows = [{"id": row.id, "fence": row.fence, "state": row.state} for row in changes.withdrawn]
            expected.append((await transaction.send(_WITHDRAW, {"rows": document(rows)}), len(rows)))
        swept = await self._sweep(transaction, changes, at)
        if changes.planned:
            await transaction.send(_PLAN, {"rows": document([occurrence_row(row) for row in changes.planned])})
        for save in changes.saves:
            cursor = await _save(transaction, save)
            if save.was is not None:
                expected.append((cursor, 1))
        if (quota := changes.quota) is not None:
            limits = {"by": quota.created_by, "events": quota.events, "runs": quota.runs_per_day}
            expected.append((await transaction.send(_WITHIN, limits), 1))
        if freed := frees(changes.moves):
            await free_queues(transaction, freed)
        await _write_tokens(transaction, changes)
        if changes.zones_version is not None:
            await transaction.send(_NOTE_ZONES, {"version": changes.zones_version})
        if changes.entries:
            entries = [{"n": n, **entry_row(entry)} for n, entry in enumerate(changes.entries)]
            await transaction.send(_TELL, {"entries": document(entries)})
        await transaction.seal()
        if moved is not None:
            written = Written.of(await moved.fetchall())
            planned = {row.id for move in changes.moves for row in move.planned if row.advances}
            if len(written.moves) < len(changes.moves) or not planned <= written.planned:
                raise StaleError
        for cursor, count in expected:
            if len(await cursor.fetchall()) < count:
                raise StaleError
        return sum([len(await cursor.fetchall()) for cursor in swept])

    async def _remember(self, transaction: Transaction, answer: RememberedAnswer) -> None:
        parameters = {
            **self._time.parameter(),
            "principal": answer.principal,
            "path": answer.path,
            "key": answer.key,
            "body_hash": answer.body_hash,
            "status": answer.status,
            "answer": as_json(answer.answer),
            "expires_at": answer.expires_at,
        }
        if not await transaction.rows(_REMEMBER, parameters):
            raise RepeatedRequestError

    async def _sweep(self, transaction: Transaction, changes: Changes, at: datetime) -> list[AsyncCursor[Any]]:
        """What was sent to cancel."""
        cancelling = []
        for event_id, reason in changes.cancel_unfinished:
            parameters = {"event": event_id, "reason": reason.value, "at": at}
            cancelling.append(await transaction.send(_CANCEL_UNFINISHED, parameters))
        for event_id in changes.let_go:
            await transaction.send(_LET_GO, {"event": event_id, "at": at})
        return cancelling


async def _lock_open(transaction: Transaction, events: Sequence[Event]) -> None:
    """Lock every unfinished row of these events, also those that a claim we had to wait for has added (P6)."""
    locked: set[Any] = set()
    wanted = {"events": uuids(event.id for event in events)}
    while not locked >= (found := {row[0] for row in await transaction.rows(LOCK_OPEN, wanted)}):
        locked |= found


async def _save(transaction: Transaction, save: EventSave) -> AsyncCursor[Any]:
    if save.was is None:
        return await transaction.send(_INSERT_EVENT, event_row(save.event))
    was = {"was_version": save.was.version, "was_status": save.was.status.value}
    statement = _REPLACE_ALL_BUT_SECRETS if save.event.secrets == save.was.secrets else _REPLACE_EVENT
    return await transaction.send(statement, {**event_row(save.event), **was})


async def _write_tokens(transaction: Transaction, changes: Changes) -> None:
    for token in changes.tokens:
        await transaction.send(
            _MINT,
            {
                "jti": token.jti,
                "sub": token.sub,
                "access": token.access.value,
                "scope": list(token.scope),
                "issued_at": token.issued_at,
                "expires_at": token.expires_at,
                "revoked_at": token.revoked_at,
            },
        )
    for revocation in changes.revocations:
        await transaction.send(
            _REVOKE,
            {
                "id": revocation.id,
                "created_at": revocation.created_at,
                "jti": revocation.jti,
                "sub": revocation.sub,
                "issued_before": revocation.issued_before,
            },
        )
