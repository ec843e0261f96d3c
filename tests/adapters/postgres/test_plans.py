"""The statements of the hot path keep to their indexes among 120,000 rows, under custom and generic plans alike."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Final, LiteralString

import psycopg
import pytest
from psycopg import sql

from qhronos_core.adapters.postgres import claiming, commits, moves, occurrences, schema
from tests.servers import Postgres

_EVENTS: Final = """
    INSERT INTO events (id, created_by, name, schedule, anchor_at, created_at, updated_at, chain_depth, runs_per_day,
                        description, timezone, exclusions, action, hmac_secret_set, metadata, tags, labels, policies,
                        version, status, action_type, folded, likeness)
    SELECT md5('event' || n)::uuid, 'ada', 'n', '"* * * * *"', now(), now(), now(), 0, 0, '', 'UTC', '{}', '{}', false,
           '{}', '{}', ARRAY['user:' || n % 100], '{}', 1, 'active', 'webhook', 'n', ''
      FROM generate_series(1, 10000) AS n
"""
_OCCURRENCES: Final = """
    -- of each event nine that are over, a planned one, and two that are far away; of one in a hundred the planned is due
    INSERT INTO occurrences (id, event_id, scheduled_at, created_at, updated_at, round_began_at, due_at, cause, state,
                             advances, ordinal, fence, attempts_made, attempts_before, round, event_version)
    SELECT md5('occurrence' || e || ' ' || n)::uuid, md5('event' || e)::uuid, at, now(), now(), now(),
           CASE WHEN n < 10 THEN NULL ELSE at END, 'schedule', CASE WHEN n < 10 THEN 'completed' ELSE 'pending' END,
           n = 10, n, 0, 0, 0, 1, 1
      FROM generate_series(1, 10000) AS e, generate_series(1, 12) AS n,
           LATERAL (SELECT now() + (n - 10) * interval '1 hour' + e * interval '1 second'
                           - CASE WHEN e % 100 = 0 THEN interval '3 hours' ELSE interval '0' END AS at) AS instants
"""
_INDEXES: Final = """
    SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'occurrences' AND indexdef NOT LIKE '%UNIQUE%'
"""
_DUE: Final = "SELECT count(*) FROM occurrences WHERE due_at <= now()"


@pytest.fixture(scope="module")
def crowded(postgres_server: Postgres) -> Iterator[psycopg.Connection[Any]]:
    url = postgres_server.new_database()
    asyncio.run(schema.migrate(url))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_EVENTS)
        indexes = connection.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        connection.execute(_OCCURRENCES)
        for _, definition in indexes:
            connection.execute(definition)
        connection.execute("ANALYZE")
        yield connection
    postgres_server.drop_database(url)


_DUE_IDX: Final = "occurrences_due_idx"
_LANE_IDX: Final = "occurrences_lane_idx"
_IDS: Final = "{" + ",".join(f"0000000{n}-0000-0000-0000-000000000000" for n in range(9)) + "}"
_MOVES: Final = json.dumps([{"id": "00000000-0000-0000-0000-000000000000", "was_fence": 0, "was_state": "pending"}])

_CLOCK: Final[dict[str, tuple[str, object]]] = {"now": ("timestamptz", None), "floor": ("timestamptz", None)}
_STATEMENTS: Final[dict[str, tuple[LiteralString, dict[str, tuple[str, object]], set[str]]]] = {
    "what is due": (
        claiming.LOCK_DUE,
        {**_CLOCK, "limit": ("bigint", 100)},
        {_DUE_IDX},
    ),
    "the lanes in which something is due": (claiming.LANES_DUE, _CLOCK, {_LANE_IDX}),
    "what is due in some lanes": (
        claiming.LOCK_OF_LANES,
        {**_CLOCK, "lanes": ("int[]", "{1,2}"), "shares": ("int[]", "{60,40}")},
        {_LANE_IDX},
    ),
    "the next due": (occurrences.NEXT_DUE, _CLOCK, {_DUE_IDX}),
    "the backlog": (occurrences.BACKLOG, _CLOCK, {_DUE_IDX}),
    "versions": (claiming.VERSIONS, {"events": ("uuid[]", _IDS)}, {"events_pkey"}),
    "a crowd": (
        claiming.CROWD,
        {"events": ("uuid[]", _IDS), "ids": ("uuid[]", _IDS)},
        {"occurrences_open_idx"},
    ),
    "moves": (
        moves.WRITE_MOVES,
        {
            name: ("json", text)
            for name, text in (("moves", _MOVES), ("attempts", "[]"), ("planned", "[]"), ("entries", "[]"))
        },
        {"occurrences_pkey", "events_pkey"},
    ),
    "rows a change locks": (commits.LOCK_OPEN, {"events": ("uuid[]", _IDS)}, {"occurrences_open_idx"}),
    "the planned rows": (occurrences.PLANNED_OF, {"events": ("uuid[]", _IDS)}, {"occurrences_open_idx"}),
    "the latest rows": (occurrences.LATEST, {"events": ("uuid[]", _IDS)}, {"occurrences_instant_key"}),
}


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("what", _STATEMENTS)
def test_it_reads_its_indexes_and_no_table_whole(crowded: psycopg.Connection[Any], what: str, plans: str) -> None:
    statement, parameters, wanted = _STATEMENTS[what]
    for place, name in enumerate(parameters, 1):
        statement = statement.replace(f"%({name})s", f"${place}")
    types = ", ".join(type_ for type_, _ in parameters.values())
    values = ", ".join("NULL" if value is None else f"'{value}'" for _, value in parameters.values())
    crowded.execute(f"SET plan_cache_mode = {plans}")
    crowded.execute(f"PREPARE asked ({types}) AS {statement}")
    try:
        ((plan,),) = crowded.execute(f"EXPLAIN (FORMAT JSON) EXECUTE asked ({values})").fetchall()
    finally:
        crowded.execute("DEALLOCATE asked")
    nodes = list(_nodes(plan[0]["Plan"]))
    assert {node["Index Name"] for node in nodes if "Index Name" in node} == wanted
    assert [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"] == []


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
def test_a_look_that_finds_little_reads_little(crowded: psycopg.Connection[Any], plans: str) -> None:
    """Among 30,000 rows with a due instant, those that are due are all that is touched."""
    statement = claiming.LOCK_DUE.replace("%(now)s", "$1").replace("%(limit)s", "$2").replace("%(floor)s", "$3")
    crowded.execute(f"SET plan_cache_mode = {plans}")
    crowded.execute(f"PREPARE asked (timestamptz, bigint, timestamptz) AS {statement}")
    try:
        ((plan,),) = crowded.execute("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked (NULL, 1000, NULL)").fetchall()
    finally:
        crowded.execute("DEALLOCATE asked")
    (scan,) = [node for node in _nodes(plan[0]["Plan"]) if node.get("Index Name") == _DUE_IDX]
    assert [(scan["Actual Rows"],)] == crowded.execute(_DUE).fetchall()
    assert scan["Rows Removed by Filter"] == 0
    assert scan["Index Cond"]


def test_behind_a_long_transaction_a_look_above_the_floor_reads_no_dead_entries(
    crowded: psycopg.Connection[Any], postgres_server: Postgres
) -> None:
    statement = claiming.LOCK_DUE.replace("%(now)s", "$1").replace("%(limit)s", "$2").replace("%(floor)s", "$3")
    with psycopg.connect(crowded.info.dsn, password=postgres_server.password) as forgotten:
        forgotten.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        forgotten.execute("SELECT count(*) FROM events")
        crowded.execute("UPDATE occurrences SET due_at = due_at - interval '1 year' WHERE due_at IS NOT NULL")
        crowded.execute("UPDATE occurrences SET due_at = due_at + interval '1 year' WHERE due_at IS NOT NULL")
        crowded.execute(f"PREPARE asked (timestamptz, bigint, timestamptz) AS {statement}")
        try:
            read = []
            for floor in ("NULL", "now() - interval '1 day'"):
                explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE asked (NULL, 1000, {floor})"
                ((plan,),) = crowded.execute(explain).fetchall()
                (scan,) = [node for node in _nodes(plan[0]["Plan"]) if node.get("Index Name") == _DUE_IDX]
                read.append(scan["Shared Hit Blocks"] + scan["Shared Read Blocks"])
        finally:
            crowded.execute("DEALLOCATE asked")
    assert read[1] < read[0] / 10


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)
