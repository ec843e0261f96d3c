"""Removing ended history, a bounded number of rows at a time, so that no transaction is long."""

from datetime import datetime
from typing import Final

from qhronos_core.adapters.postgres.pool import Connections
from qhronos_core.adapters.postgres.time import NOW, StoreTime
from qhronos_core.ports import REVOKED_FOR

_OCCURRENCES: Final = """
    -- Finished, old, and followed by another row of its event: the latest of each stays, since planning goes on after it
    -- (of those of the schedule, which alone are counted), and so does what was skipped until its instant is as old: an
    -- instant that has a row is never planned again.
    WITH gone AS (
             DELETE FROM occurrences WHERE id = ANY (ARRAY(
                 SELECT o.id FROM occurrences AS o
                  WHERE o.finished_at < %(before)s AND o.scheduled_at < %(before)s AND NOT o.unfinished
                    AND EXISTS (SELECT FROM occurrences AS later
                                 WHERE later.event_id = o.event_id AND later.scheduled_at > o.scheduled_at
                                   AND (later.cause = 'schedule' OR o.cause <> 'schedule'))
                  LIMIT %(limit)s
                    FOR UPDATE OF o SKIP LOCKED))
          RETURNING id),
         tried AS (DELETE FROM attempts WHERE occurrence_id IN (SELECT id FROM gone))
    SELECT count(*) FROM gone
"""
_ATTEMPTS: Final = """
    WITH gone AS (
             DELETE FROM attempts AS a
              USING (SELECT old.occurrence_id, old.number
                       FROM attempts AS old JOIN occurrences AS o ON o.id = old.occurrence_id
                      WHERE old.finished_at < %(before)s AND NOT o.unfinished
                      LIMIT %(limit)s) AS old
              WHERE a.occurrence_id = old.occurrence_id AND a.number = old.number
          RETURNING 1)
    SELECT count(*) FROM gone
"""
_JOURNAL: Final = """
    -- Oldest first, up to the first that stays. What was removed is remembered: an older cursor has lost lines.
    WITH oldest AS MATERIALIZED (SELECT position, at FROM journal ORDER BY position LIMIT %(limit)s),
         gone AS (
             DELETE FROM journal WHERE position = ANY (ARRAY(
                 SELECT position FROM oldest
                  WHERE position < coalesce((SELECT min(position) FROM oldest WHERE at >= %(before)s), position + 1)))
          RETURNING position),
         marked AS (
             UPDATE store_meta SET retired_to = greatest(retired_to, (SELECT max(position) FROM gone))
              WHERE EXISTS (SELECT FROM gone))
    SELECT count(*) FROM gone
"""
_OF_DELETED: Final = """
    -- All that is left of events deleted long ago: they never come back.
    WITH gone AS (
             DELETE FROM occurrences WHERE id = ANY (ARRAY(
                 SELECT o.id FROM events AS e JOIN occurrences AS o ON o.event_id = e.id
                  WHERE e.status = 'deleted' AND e.deleted_at < %(before)s
                    AND NOT EXISTS (SELECT FROM occurrences AS u WHERE u.event_id = e.id AND u.unfinished)
                  LIMIT %(limit)s
                    FOR UPDATE OF o SKIP LOCKED))
          RETURNING id),
         tried AS (DELETE FROM attempts WHERE occurrence_id IN (SELECT id FROM gone))
    SELECT count(*) FROM gone
"""
_DELETED: Final = """
    WITH gone AS (
             DELETE FROM events WHERE id = ANY (ARRAY(
                 SELECT e.id FROM events AS e
                  WHERE e.status = 'deleted' AND e.deleted_at < %(before)s
                    AND NOT EXISTS (SELECT FROM occurrences AS o WHERE o.event_id = e.id)
                  ORDER BY e.deleted_at LIMIT %(limit)s))
          RETURNING id)
    SELECT count(*) FROM gone
"""
_ANSWERS: Final = f"""
    WITH t AS MATERIALIZED (SELECT {NOW} AS now),
         gone AS (
             DELETE FROM idempotency WHERE (principal, path, key) IN (
                 SELECT principal, path, key FROM idempotency
                  WHERE expires_at <= (SELECT now FROM t) ORDER BY expires_at LIMIT %(limit)s)
          RETURNING 1)
    SELECT count(*) FROM gone
"""
_REVOCATIONS: Final = f"""
    -- Of a single token: a while after it has expired. Those of many stay, for a token need not be on record to be covered.
    WITH t AS MATERIALIZED (SELECT {NOW} AS now),
         gone AS (
             DELETE FROM revocations WHERE id = ANY (ARRAY(
                 SELECT r.id FROM revocations AS r JOIN tokens ON tokens.jti = r.jti
                  WHERE tokens.expires_at <= (SELECT now FROM t) - %(revoked_for)s LIMIT %(limit)s))
          RETURNING 1)
    SELECT count(*) FROM gone
"""
_WAITS: Final = f"""
    WITH t AS MATERIALIZED (SELECT {NOW} AS now),
         gone AS (
            DELETE FROM waits WHERE id = ANY (ARRAY(
                SELECT id FROM waits WHERE ends_at <= (SELECT now FROM t) - interval '1 day' LIMIT %(limit)s))
         RETURNING 1)
    SELECT count(*) FROM gone
"""


async def retire(
    connections: Connections,
    time: StoreTime,
    *,
    occurrences_before: datetime,
    attempts_before: datetime,
    journal_before: datetime,
    deleted_before: datetime,
    limit: int,
) -> int:
    """Each kind in a transaction of its own; a table at a time, so that locks are held for as short as can be."""
    gone = 0
    for statement, parameters in (
        (_OCCURRENCES, {"before": occurrences_before}),
        (_ATTEMPTS, {"before": attempts_before}),
        (_JOURNAL, {"before": journal_before}),
        (_OF_DELETED, {"before": deleted_before}),
        (_DELETED, {"before": deleted_before}),
        (_ANSWERS, time.parameter()),
        (_REVOCATIONS, {**time.parameter(), "revoked_for": REVOKED_FOR}),
        (_WAITS, time.parameter()),
    ):
        gone += int((await connections.rows(statement, {**parameters, "limit": limit}))[0][0])
    return gone
