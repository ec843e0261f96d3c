"""The durable truth on a PostgreSQL server, for any number of nodes."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
from psycopg.conninfo import conninfo_to_dict

from qhronos_core.adapters.migrations import StoreRefusedError
from qhronos_core.adapters.postgres import schema
from qhronos_core.adapters.postgres.claiming import Claiming
from qhronos_core.adapters.postgres.commits import Commits
from qhronos_core.adapters.postgres.events import PostgresEvents
from qhronos_core.adapters.postgres.floor import Floor
from qhronos_core.adapters.postgres.journal import PostgresJournal
from qhronos_core.adapters.postgres.occurrences import PostgresOccurrences
from qhronos_core.adapters.postgres.pool import Connections, PoolSettings
from qhronos_core.adapters.postgres.presence import PostgresPresence
from qhronos_core.adapters.postgres.retention import retire
from qhronos_core.adapters.postgres.rows import answer_of
from qhronos_core.adapters.postgres.sealed import PostgresSealedValues
from qhronos_core.adapters.postgres.subscriptions import PostgresSubscriptions
from qhronos_core.adapters.postgres.time import NOW, StoreTime
from qhronos_core.adapters.postgres.tokens import PostgresTokens
from qhronos_core.adapters.postgres.waits import PostgresWaits
from qhronos_core.adapters.writes import Writes
from qhronos_core.domain.access import Reach
from qhronos_core.domain.errors import StoreUnavailableError
from qhronos_core.domain.ids import OccurrenceId
from qhronos_core.domain.occurrence import Move, Occurrence
from qhronos_core.ports import Changes, Claim, Claimed, Clock, InboxQuery, Judge, RememberedAnswer

_NOW: Final[LiteralString] = f"SELECT {NOW}"
_BEGIN_EPOCH: Final = """
      WITH begun AS (
             UPDATE store_meta AS m SET journal_epoch = gen_random_uuid()
               FROM (SELECT journal_epoch FROM store_meta) AS was
          RETURNING m.journal_epoch AS now, was.journal_epoch AS was)
    UPDATE subscriptions AS s SET epoch = begun.now FROM begun WHERE s.epoch = begun.was
 RETURNING s.id
"""
_IDENTITY: Final = "SELECT id FROM store_meta"
_REMEMBERED: Final[LiteralString] = f"""
    SELECT principal, path, key, body_hash, status, answer, expires_at FROM idempotency
     WHERE principal = %(principal)s AND path = %(path)s AND key = %(key)s AND expires_at > (SELECT {NOW})
"""
_STATUS: Final = """
    SELECT current_setting('server_version'), pg_database_size(current_database()),
           (SELECT array_agg(name ORDER BY number) FROM schema_migrations),
           (SELECT json_object_agg(relname, greatest(reltuples, 0)::bigint) FROM pg_class
             WHERE oid IN ('events'::regclass, 'occurrences'::regclass, 'attempts'::regclass, 'journal'::regclass)),
           current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off'
"""


class PostgresStore:
    """ports.Store. Two pools of connections: the dispatcher's is its own, so that callers cannot starve it."""

    def __init__(
        self, conninfo: str, *, clock: Clock | None, settings: PoolSettings, migrate: bool, only_look: bool
    ) -> None:
        self._conninfo = conninfo
        self._settings = settings
        self._migrates = migrate and not only_look
        self._only_looks = only_look
        self._time = StoreTime(clock)
        self._opened = self._time.parameter()
        self._ready = False
        self._readying: asyncio.Task[None] | None = None
        self._id: UUID | None = None
        self._writes = Writes(clock.monotonic if clock else time.monotonic)
        self._callers = Connections(
            conninfo, settings, name="callers", size=settings.size, prepare=self._prepare, writes=self._writes
        )
        self._dispatch = Connections(
            conninfo,
            settings,
            name="dispatch",
            size=settings.dispatch_size,
            reserved=True,
            prepare=self._prepare,
            writes=self._writes,
        )
        floor = Floor(self._dispatch, applies=clock is None)
        self.events = PostgresEvents(self._callers, self._time, self._identity)
        self.occurrences = PostgresOccurrences(self._callers, self._dispatch, floor, self._time, self._identity)
        self.journal = PostgresJournal(self._callers, self.events, self._identity)
        self.tokens = PostgresTokens(self._callers, self._identity)
        self.waits = PostgresWaits(self._callers, self._time)
        self.subscriptions = PostgresSubscriptions(self._callers, self._time)
        self.sealed = PostgresSealedValues(self._callers)
        self.presence = PostgresPresence(self._callers, self._time)
        self._claiming = Claiming(self._dispatch, self._callers, floor, self._time, clock)
        self._commits = Commits(self._callers, self._time)

    async def now(self) -> datetime:
        instant: datetime = (await self._callers.rows(_NOW, self._time.parameter()))[0][0]
        return instant

    async def commit(self, changes: Changes) -> int:
        return await self._commits.commit(changes)

    async def claim_due(
        self, *, node: str, lease: timedelta, limit: int, judge: Judge, without: Set[int] = frozenset()
    ) -> Claimed:
        return await self._claiming.claim_due(node=node, lease=lease, limit=limit, judge=judge, without=without)

    async def look(self) -> None:
        await self._claiming.look()

    async def settle(self, moves: Sequence[Move]) -> frozenset[OccurrenceId]:
        return await self._claiming.settle(moves)

    async def claim_inbox(
        self,
        query: InboxQuery,
        reach: Reach,
        *,
        holder: str,
        actor: str,
        told: Mapping[str, Any] | None = None,
        wait_id: UUID | None = None,
    ) -> Sequence[Occurrence]:
        return await self._claiming.claim_inbox(query, reach, holder=holder, actor=actor, told=told, wait_id=wait_id)

    async def still_wanted(self, claims: Sequence[Claim]) -> frozenset[OccurrenceId]:
        return await self._claiming.still_wanted(claims)

    async def remembered(self, principal: str, path: str, key: str) -> RememberedAnswer | None:
        parameters = {**self._time.parameter(), "principal": principal, "path": path, "key": key}
        rows = await self._callers.rows(_REMEMBERED, parameters)
        return answer_of(rows[0]) if rows else None

    async def retire(
        self,
        *,
        occurrences_before: datetime,
        attempts_before: datetime,
        journal_before: datetime,
        deleted_before: datetime,
        limit: int,
    ) -> int:
        return await retire(
            self._callers,
            self._time,
            occurrences_before=occurrences_before,
            attempts_before=attempts_before,
            journal_before=journal_before,
            deleted_before=deleted_before,
            limit=limit,
        )

    async def zones_version(self) -> str | None:
        found: str | None = (await self._callers.rows("SELECT zones_version FROM store_meta"))[0][0]
        return found

    async def status(self) -> Mapping[str, Any]:
        told = {
            "kind": "postgresql",
            "pools": {"callers": self._callers.figures(), "dispatch": self._dispatch.figures()},
        }
        try:
            version, size, migrations, rows, durable = (await self._callers.rows(_STATUS))[0]
        except (StoreUnavailableError, StoreRefusedError) as error:
            return {**told, "problem": str(error)}
        return {
            **told,
            "version": version,
            "migrations": migrations,
            "bytes": size,
            "rows": rows,  # as the server estimates them
            "durable": durable,  # False: the server may lose what it has acknowledged
        }

    async def damage(self) -> Sequence[str]:
        return ()  # the server's own business

    @property
    def takes_writes(self) -> bool:
        return self._writes.taken

    async def begin_epoch(self) -> None:
        await self._callers.rows(_BEGIN_EPOCH)

    async def migrate(self) -> Sequence[str]:
        try:
            return await schema.migrate(self._conninfo, connect_timeout=self._settings.connect_timeout)
        except StoreUnavailableError as error:
            self._callers.does_not_answer(error)
            raise

    async def aclose(self) -> None:
        if self._readying is not None:
            self._readying.cancel()
            await asyncio.wait([self._readying])
        await self._callers.aclose()
        await self._dispatch.aclose()

    async def _prepare(self) -> None:
        """Before the first statement of all: the schema is brought to this release's, or found to be it.

        Tried once for all who ask meanwhile, so that they do not wait for each other's tries.
        """
        if self._ready:
            return
        if self._readying is None or self._readying.done():
            self._readying = asyncio.create_task(self._made_ready(), name="schema")
            self._readying.add_done_callback(lambda task: task.cancelled() or task.exception())  # others may have gone
        await asyncio.shield(self._readying)

    async def _made_ready(self) -> None:
        timeout = self._settings.connect_timeout
        if self._migrates:
            await schema.migrate(self._conninfo, connect_timeout=timeout, wait=self._settings.wait)
        elif await schema.lacks(self._conninfo, connect_timeout=timeout):
            raise StoreUnavailableError("The store's schema is of an earlier release. Run `qhronos migrate`.")
        if not self._only_looks:
            await schema.begin_looking(self._conninfo, self._opened, connect_timeout=timeout)
        self._ready = True

    async def _identity(self) -> UUID:
        if self._id is None:
            self._id = (await self._callers.rows(_IDENTITY))[0][0]
        return self._id


@asynccontextmanager
async def open_postgres_store(
    conninfo: str,
    *,
    clock: Clock | None = None,
    settings: PoolSettings | None = None,
    migrate: bool = True,
    only_look: bool = False,
) -> AsyncIterator[PostgresStore]:
    """A store on the server at `conninfo` (a URL or key=value pairs; else StoreRefusedError), whether or not it answers yet.

    As long as it does not, calls raise StoreUnavailableError. `clock` None: the server's own time. `migrate`: bring
    the schema to this release's before the first call, which any number of nodes may do at once. `only_look`: do not,
    and do not count as a node that has opened it.
    """
    try:
        conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        raise StoreRefusedError(
            "database.url (DATABASE_URL): the driver does not understand it; it is written"
            " postgresql://user:password@host:5432/database"
        ) from None  # whose text may hold the password
    store = PostgresStore(
        conninfo, clock=clock, settings=settings or PoolSettings(), migrate=migrate, only_look=only_look
    )
    try:
        yield store
    finally:
        await store.aclose()
