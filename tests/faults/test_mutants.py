"""A word of SQL is changed, and a test of the store suite notices: for each of reliability.md §4's hand mutants, in both stores."""

import asyncio
import inspect
import sqlite3
import types
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import psycopg
import pytest

from qhronos_core.adapters.postgres import claiming, moves
from qhronos_core.adapters.sqlite import batches, claims, threads
from qhronos_core.domain.errors import QhronosError
from tests.adapters.store import test_claims as suite
from tests.adapters.store.places import Place
from tests.adapters.store.scenes import after, an_event, an_occurrence, completed, ended, kept, look
from tests.clock import NOON, FakeClock

Scene = Callable[[Place, FakeClock], Awaitable[None]]


def of_a_store(test: Callable[..., Awaitable[None]]) -> Scene:
    """A test of the suite that takes a store, as one that takes the place."""

    async def scene(place: Place, clock: FakeClock) -> None:
        async with place.open(clock) as store:
            given = {"store": store, "clock": clock}
            await test(**{name: given[name] for name in inspect.signature(test).parameters})

    return scene


async def a_claim_passes_over_a_locked_row(place: Place, clock: FakeClock) -> None:
    async with place.open(clock) as store, await psycopg.AsyncConnection.connect(place.where) as other:
        event = an_event()
        rows = [an_occurrence(event, after(seconds=-second)) for second in (1, 2)]
        await kept(store, event, *rows)
        await other.execute("SELECT FROM occurrences WHERE id = %s FOR UPDATE", [rows[1].id])
        looking = asyncio.create_task(look(store))
        try:
            while not looking.done():
                await asyncio.sleep(0.005)
                async with await psycopg.AsyncConnection.connect(place.where) as watching:
                    cursor = await watching.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
                    assert await cursor.fetchone() == (0,), "the claim waits"
            assert [claim.occurrence.id for claim in looking.result().claims] == [rows[0].id]
        finally:
            await other.rollback()
            await asyncio.wait([looking])


async def an_outcome_is_of_a_state(place: Place, clock: FakeClock) -> None:
    """The fence is as it was, and the row has ended: a second end is refused."""
    async with place.open(clock) as store:
        event = an_event()
        await kept(store, event, an_occurrence(event))
        (claim,) = (await look(store)).claims
        was = claim.occurrence
        move = replace(completed(was, NOON), now=ended(was, NOON, fence=was.fence))
        assert await store.settle([move]) == {was.id}
        assert await store.settle([move]) == frozenset()


on_time: Final = of_a_store(suite.test_nothing_is_claimed_before_its_instant_by_the_stores_clock)
lapsed: Final = of_a_store(suite.test_a_leased_row_is_left_alone_until_its_lease_has_lapsed)
zombie: Final = of_a_store(suite.test_a_zombies_outcome_changes_nothing)
each_row_once: Final = suite.test_looks_at_the_same_time_from_two_nodes_take_each_row_once


@dataclass(frozen=True)
class Mutant:
    name: str
    store: str
    modules: tuple[ModuleType, ...]
    old: str
    new: str
    noticed_by: Scene


MUTANTS: Final = (
    Mutant("skip_locked", "postgres", (claiming,), "SKIP LOCKED", "", a_claim_passes_over_a_locked_row),
    Mutant("immediate", "sqlite", (threads,), "BEGIN IMMEDIATE", "BEGIN", each_row_once),
    Mutant("due", "postgres", (claiming,), "due_at <= (SELECT", "due_at < (SELECT", on_time),
    Mutant("due", "sqlite", (claims,), "due_at <= ?", "due_at < ?", on_time),
    Mutant("lease", "postgres", (claiming,), "lease_until <= (SELECT", "lease_until < (SELECT", lapsed),
    Mutant("lease", "sqlite", (claims,), "lease_until <= ?", "lease_until < ?", lapsed),
    Mutant("state", "postgres", (moves, claiming), " AND o.state = m.was_state", "", an_outcome_is_of_a_state),
    Mutant("state", "sqlite", (batches,), " AND occurrences.state = step.state", "", an_outcome_is_of_a_state),
    Mutant("fence", "postgres", (moves, claiming), " AND o.fence = m.was_fence", "", zombie),
    Mutant("fence", "sqlite", (batches,), " AND occurrences.fence = step.fence", "", zombie),
)


@pytest.fixture(params=MUTANTS, ids=lambda each: f"{each.store}-{each.name}")
def mutant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mutant]:
    change: Mutant = request.param
    changed = sum(mutate(monkeypatch, module, change.old, change.new) for module in change.modules)
    assert changed, f"{change.old!r} is nowhere: the mutant is of an older statement"
    yield change
    monkeypatch.undo()
    forget_statements(change.modules)


@pytest.fixture
def place(mutant: Mutant, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    if mutant.store == "sqlite":
        return Place("sqlite", str(tmp_path / "data"))
    return Place("postgres", request.getfixturevalue("migrated_postgres_url"))


async def test_the_suite_notices_a_word_of_sql_that_is_changed(mutant: Mutant, place: Place) -> None:
    with pytest.raises((AssertionError, ValueError, QhronosError, psycopg.Error, sqlite3.Error)):
        await mutant.noticed_by(place, FakeClock())


@pytest.mark.parametrize("unchanged", MUTANTS, ids=lambda each: f"{each.store}-{each.name}")
async def test_unchanged_it_holds(unchanged: Mutant, tmp_path: Path, migrated_postgres_url: str) -> None:
    where = str(tmp_path / "data") if unchanged.store == "sqlite" else migrated_postgres_url
    await unchanged.noticed_by(Place(unchanged.store, where), FakeClock())


# --- changing the words -------------------------------------------------------------------------------------


def mutate(monkeypatch: pytest.MonkeyPatch, module: ModuleType, old: str, new: str) -> int:
    """Every text of the module that holds `old`: its constants, and the literals in its functions. How many."""
    forget_statements([module])
    changed = 0
    for name, value in list(vars(module).items()):
        if isinstance(value, str) and name.isupper() | name.startswith("_") and old in value:
            monkeypatch.setattr(module, name, value.replace(old, new))
            changed += 1
    for function in _functions(module):
        code = _with(function.__code__, old, new)
        if code is not function.__code__:
            monkeypatch.setattr(function, "__code__", code)
            changed += 1
    return changed


def forget_statements(modules: Any) -> None:
    """Statements made from others are kept; and these were made of other words."""
    for module in modules:
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def _functions(module: ModuleType) -> list[types.FunctionType]:
    found: list[types.FunctionType] = []
    for value in vars(module).values():
        members = vars(value).values() if inspect.isclass(value) and value.__module__ == module.__name__ else [value]
        for member in members:
            function = inspect.unwrap(member) if callable(member) else member
            if isinstance(function, types.FunctionType) and function.__module__ == module.__name__:
                found.append(function)
    return found


def _with(code: types.CodeType, old: str, new: str) -> types.CodeType:
    constants = tuple(
        each.replace(old, new)
        if isinstance(each, str)
        else _with(each, old, new)
        if isinstance(each, types.CodeType)
        else each
        for each in code.co_consts
    )
    same = all(one is other or one == other for one, other in zip(constants, code.co_consts, strict=True))
    return code if same else code.replace(co_consts=constants)
