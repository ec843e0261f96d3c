"""Minting (R6, R12), proving (S3, S7, S12), revoking on all nodes (S8) with its cascade, and who did what (S36)."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qhronos_core.adapters.local.jwt import Jwt
from qhronos_core.adapters.local.signals import LocalSignals
from qhronos_core.domain import access
from qhronos_core.domain.access import READ, Access, Principal
from qhronos_core.domain.errors import (
    Fault,
    ForbiddenError,
    InvalidInputError,
    StoreUnavailableError,
    TokenNotFoundError,
    UnauthenticatedError,
)
from qhronos_core.domain.event import EventStatus
from qhronos_core.domain.ids import TokenId
from qhronos_core.domain.occurrence import EntryKind
from qhronos_core.ports import Claims, Page, Revocation, Signals
from qhronos_core.usecases.tokens import COPY_USABLE, REVOKED, Minted, TokenCases, read_request
from tests.world import NOON, OWNER, World

MASTER_TOKEN = "the master token of these tests, long enough"
MAX_LIFE = timedelta(days=400)
MASTER = Principal.of_master()
LEAST: dict[str, Any] = {"sub": "agent", "access": "write", "scope": ["user:agent"]}
BEGIN = NOON - timedelta(hours=3)  # where the clock of a World stands


def signer(**settings: Any) -> Jwt:
    return Jwt(
        **{
            "key_id": "1",
            "secret": "the signing secret of these tests, long enough",
            "previous_secrets": {},
            "issuer": "qhronos",
            "audience": "qhronos",
            "max_life": MAX_LIFE,
            **settings,
        }
    )


def cases(world: World, *, store: Any = None, signals: Signals | None = None, **settings: Any) -> TokenCases:
    """The token cases of one node; nodes with signals of their own hear nothing of each other."""
    return TokenCases(
        **{
            "store": store or world.store,
            "signer": signer(),
            "clock": world.clock,
            "signals": signals or world.signals,
            "master_token": MASTER_TOKEN,
            "max_life": MAX_LIFE,
            "reserved_subs": frozenset({"local"}),
            **settings,
        }
    )


@pytest.fixture
def tokens(world: World) -> TokenCases:
    return cases(world)


async def mint(tokens: TokenCases, **fields: Any) -> Minted:
    return await tokens.mint({**LEAST, **fields}, caller=MASTER)


async def proves(tokens: TokenCases, token: str) -> bool:
    try:
        await tokens.authenticate(token)
    except UnauthenticatedError:
        return False
    return True


def faults(fields: Mapping[str, Any], *, max_life: timedelta = MAX_LIFE) -> Sequence[Fault]:
    """Of a request that is refused; empty where it is accepted."""
    try:
        read_request(fields, BEGIN, max_life, frozenset({"master", "local"}))
    except InvalidInputError as error:
        return error.faults
    return ()


# --- minting ------------------------------------------------------------------------------------------


async def test_a_minted_token_proves_who_bears_it(tokens: TokenCases) -> None:
    minted = await mint(tokens, scope=["user:agent", "system:t"])
    caller = await tokens.authenticate(minted.token)
    assert (caller.sub, caller.access) == ("agent", Access.WRITE)
    assert caller.scope == {"user:agent", "system:t"}
    assert caller.jti == minted.record.jti
    assert caller.holder == str(minted.record.jti)
    assert not caller.master
    assert minted.record.expires_at == BEGIN + timedelta(hours=1)
    assert caller.expires_at == int(minted.record.expires_at.timestamp())


async def test_the_token_itself_is_not_kept_and_not_shown(tokens: TokenCases, world: World) -> None:
    minted = await mint(tokens)
    kept = repr(await tokens.list(Page(), caller=MASTER)) + repr([e async for e in world._lines()])
    for part in minted.token.split("."):
        assert part not in kept
        assert part not in repr(minted)


async def test_read_write_is_accepted_and_means_write(tokens: TokenCases) -> None:
    assert (await mint(tokens, access="read_write")).record.access is Access.WRITE


async def test_duplicate_scopes_are_removed_and_their_order_is_kept(tokens: TokenCases) -> None:
    minted = await mint(tokens, scope=["user:b", "user:a", "user:b"])
    assert minted.record.scope == ("user:b", "user:a")


async def test_an_admin_needs_no_scope(tokens: TokenCases) -> None:
    without: list[dict[str, Any]] = [{"scope": []}, {"scope": None}, {}]
    for scope in without:
        minted = await tokens.mint({"sub": "boss", "access": "admin", **scope}, caller=MASTER)
        assert (await tokens.authenticate(minted.token)).scope == frozenset()


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "jwt"},
        {"type": None},
        {"expires_at": None},
        {"expires_at": "2027-03-01T09:00:02Z"},
        {"expires_at": "2027-03-01T10:30:00+01:00"},
        {"expires_at": "2028-04-04T09:00:00Z"},  # the last second of the longest life
        {"sub": "x" * 128},
        {"sub": "ann@example.org"},
        {"sub": "日本語"},
        {"scope": [f"user:{n}" for n in range(100)]},
        {"scope": ["user:a"] * 1_000},
        {"scope": ["r" * 32 + ":" + "i" * 128]},
    ],
    ids=lambda fields: str(fields)[:50],
)
def test_within_the_bounds_a_token_is_made_that_reads_back(fields: dict[str, Any]) -> None:
    asked = read_request({**LEAST, **fields}, BEGIN, MAX_LIFE, frozenset())
    claims = Claims(TokenId(UUID(int=1)), asked.sub, asked.access, asked.scope, BEGIN, asked.expires_at)
    assert signer().read(signer().sign(claims), now=BEGIN) == claims


BEYOND: list[dict[str, Any]] = [
    {"sub": None},
    {"sub": ""},
    {"sub": 5},
    {"sub": "x" * 129},
    {"sub": "a\nb"},
    {"sub": "a\x00b"},
    {"sub": "\ud800"},
    {"sub": "master"},
    {"sub": "local"},
    {"access": None},
    {"access": "root"},
    {"access": "Read"},
    {"access": 1},
    {"access": ["read"]},
    {"scope": None},
    {"scope": []},
    {"scope": "user:a"},
    {"scope": {}},
    {"scope": 5},
    {"scope": ["user:*"]},
    {"scope": ["user:%"]},
    {"scope": ["User:a"]},
    {"scope": [" user:a "]},
    {"scope": ["user:a", "bad"]},
    {"scope": ["user:a", None]},
    {"scope": [["user:a"]]},
    {"scope": [5]},
    {"scope": [f"user:{n}" for n in range(101)]},
    {"scope": [f"user:{n}" for n in range(100_000)]},
    {"scope": ["bad"] * 100_000},
    {"type": "opaque"},
    {"type": 5},
    {"expires_at": 5},
    {"expires_at": 1_900_000_000},
    {"expires_at": ""},
    {"expires_at": "2027-03-01T09:00:00Z"},  # now
    {"expires_at": "2027-03-01T09:00:01Z"},
    {"expires_at": "2027-03-01T08:59:59Z"},
    {"expires_at": "1999-01-01T00:00:00Z"},
    {"expires_at": "2028-04-04T09:00:01Z"},
    {"expires_at": "2030-01-01T00:00:00Z"},
    {"expires_at": "2027-06-01T00:00:00"},
    {"expires_at": "tomorrow"},
]


@pytest.mark.parametrize("fields", BEYOND, ids=lambda fields: ascii(fields)[:50])
def test_beyond_them_it_is_refused_and_each_fix_merged_into_the_request_is_accepted(fields: dict[str, Any]) -> None:
    asked = {**LEAST, **fields}
    (fault,) = faults(asked)
    assert fault.field.split(".")[0] == next(iter(fields))
    assert fault.fix
    for fix in fault.fix:
        assert faults({**asked, **fix}) == ()


def test_the_faulty_scope_is_named_and_what_was_meant_is_kept() -> None:
    (fault,) = faults({**LEAST, "scope": ["user:a", "System:T", "user:*"]})
    assert (fault.field, fault.got) == ("scope.1", "System:T")
    assert fault.fix == ({"scope": ["user:a", "system:T"]},)


def test_all_faults_of_a_request_are_told_of_at_once() -> None:
    found = faults({"sub": "", "access": "root", "type": "opaque", "expires_at": "never"})
    assert {fault.field for fault in found} == {"sub", "access", "type", "expires_at", "scope"}
    assert {fault.field for fault in faults({})} == {"sub", "access", "scope"}


@pytest.mark.parametrize("name", ["jti", "iat", "master", "exp", "\ud800", "token"])
def test_an_unknown_field_is_refused(name: str) -> None:
    (fault,) = faults({**LEAST, name: 1})
    assert fault.code == "unknown_field"


async def test_a_life_of_over_ninety_days_is_warned_of(tokens: TokenCases) -> None:
    assert (await mint(tokens, expires_at="2027-05-30T09:00:00Z")).warnings == ()
    (notice,) = (await mint(tokens, expires_at="2027-05-30T09:00:01Z")).warnings
    assert "90" in notice.says


async def test_the_longest_life_is_the_operator_s(world: World) -> None:
    short = cases(world, max_life=timedelta(minutes=10))
    minted = await mint(short)
    assert minted.record.expires_at == BEGIN + timedelta(minutes=10)
    late = {**LEAST, "expires_at": "2027-03-01T09:10:01Z"}
    assert [fault.field for fault in faults(late, max_life=timedelta(minutes=10))] == ["expires_at"]
    with pytest.raises(InvalidInputError):
        await short.mint(late, caller=MASTER)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["type", "sub", "access", "scope", "expires_at"]) | st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("user:a"),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=7,
    )
)
def test_any_object_is_a_token_s_request_or_is_refused(fields: dict[str, Any]) -> None:
    found = faults(fields)
    assert len(found) <= 10
    if not found:
        assert read_request(fields, BEGIN, MAX_LIFE, frozenset()).expires_at > BEGIN


# --- only the master: R6, S11 ---------------------------------------------------------------------------

OTHERS = [
    OWNER,
    Principal("a", Access.WRITE, frozenset({"user:a"}), jti=UUID(int=1)),
    Principal("a", Access.READ, frozenset({"user:a"}), jti=UUID(int=1)),
]


@pytest.mark.parametrize("caller", OTHERS, ids=lambda caller: str(caller.access))
async def test_nobody_but_the_master_mints_lists_or_revokes_and_the_attempt_is_written_down(
    tokens: TokenCases, world: World, caller: Principal
) -> None:
    minted = await mint(tokens)
    for attempt in (
        tokens.mint(LEAST, caller=caller),
        tokens.mint({"nonsense": 1}, caller=caller),  # the level is judged before the body
        tokens.list(Page(), caller=caller),
        tokens.revoke(jti=minted.record.jti, caller=caller),
        tokens.revoke(jti=UUID(int=99), caller=caller),  # and before whether there is such a token
        tokens.revoke(caller=caller),
    ):
        with pytest.raises(ForbiddenError):
            await attempt
    assert await proves(tokens, minted.token)
    refused = [entry async for entry in entries(world, EntryKind.ACCESS_REFUSED)]
    assert [entry.detail["what"] for entry in refused] == ["mint", "mint", "list_tokens", "revoke", "revoke", "revoke"]
    assert {entry.actor for entry in refused} == {caller.sub}


async def entries(world: World, kind: EntryKind) -> Any:
    async for line in world._lines():
        if line.entry.kind is kind:
            yield line.entry


async def test_minting_and_revoking_are_written_down_with_who_did_them(tokens: TokenCases, world: World) -> None:
    minted = await mint(tokens)
    await tokens.revoke(jti=minted.record.jti, cascade=True, caller=MASTER)
    (made,) = [entry async for entry in entries(world, EntryKind.TOKEN_MINTED)]
    assert made.actor == "master"
    assert made.detail["minted"] == str(minted.record.jti)
    assert (made.detail["sub"], made.detail["access"], made.detail["scope"]) == ("agent", "write", ["user:agent"])
    (ended,) = [entry async for entry in entries(world, EntryKind.TOKEN_REVOKED)]
    assert (ended.actor, ended.detail["revoked"], ended.detail["cascade"]) == ("master", str(minted.record.jti), True)


# --- proving ------------------------------------------------------------------------------------------


async def test_the_master_token_is_the_master(tokens: TokenCases) -> None:
    assert await tokens.authenticate(MASTER_TOKEN) == MASTER


async def test_a_confined_master_is_known_as_one(world: World) -> None:
    confined = cases(world, master_may_use_api=False)
    caller = await confined.authenticate(MASTER_TOKEN)
    assert caller.master
    assert not caller.sees_all
    with pytest.raises(ForbiddenError):
        await world.events.create({"name": "x", "schedule": "@daily"}, caller=caller)
    minted = await confined.mint(LEAST, caller=caller)
    assert await proves(confined, minted.token)


NO_TOKENS = [
    *("", " ", "\x00", "\ud800", "x" * 100_000, MASTER_TOKEN[:-1], MASTER_TOKEN + " ", MASTER_TOKEN.upper()),
    *("Bearer " + MASTER_TOKEN, MASTER_TOKEN.encode().hex(), "é" * 32, "null", "a.b.c"),
]


async def test_what_is_not_quite_a_token_proves_nothing_with_one_answer(tokens: TokenCases) -> None:
    for token in NO_TOKENS:
        with pytest.raises(UnauthenticatedError) as refused:
            await tokens.authenticate(token)
        assert str(refused.value) == str(UnauthenticatedError())
        assert not token.strip() or token not in str(refused.value)


async def test_the_server_s_own_names_prove_nothing_though_they_are_signed(tokens: TokenCases, world: World) -> None:
    lenient = cases(world, reserved_subs=frozenset())
    minted = await lenient.mint({**LEAST, "sub": "local"}, caller=MASTER)
    assert await proves(lenient, minted.token)
    assert not await proves(tokens, minted.token)


async def test_a_token_ends_when_it_says(tokens: TokenCases, world: World) -> None:
    minted = await mint(tokens, expires_at="2027-03-01T09:10:00Z")
    world.clock.advance(timedelta(minutes=10, seconds=29))
    assert await proves(tokens, minted.token)  # within the leeway for clocks that differ
    world.clock.advance(seconds=1)
    assert not await proves(tokens, minted.token)


async def test_rotated_keys_both_verify_until_the_old_one_is_removed(tokens: TokenCases, world: World) -> None:
    old_secret, new_secret = (
        "the signing secret of these tests, long enough",
        "another signing secret, as long as the first",
    )
    before = await mint(tokens)
    during = cases(world, signer=signer(key_id="2", secret=new_secret, previous_secrets={"1": old_secret}))
    after = cases(world, signer=signer(key_id="2", secret=new_secret))
    fresh = await mint(during)
    assert [await proves(during, each.token) for each in (before, fresh)] == [True, True]
    assert [await proves(after, each.token) for each in (before, fresh)] == [False, True]


# --- revoking: S8 ---------------------------------------------------------------------------------------


async def test_a_revoked_token_stops_at_once_here(tokens: TokenCases, world: World) -> None:
    one, other = await mint(tokens), await mint(tokens)
    assert await proves(tokens, one.token)
    world.clock.advance(seconds=0.5)
    revoked = await tokens.revoke(jti=one.record.jti, caller=MASTER)
    assert revoked.revoked_at == BEGIN + timedelta(seconds=0.5)
    assert not await proves(tokens, one.token)
    assert await proves(tokens, other.token)


async def test_another_node_stops_it_at_the_signal(tokens: TokenCases, world: World) -> None:
    elsewhere = cases(world)
    minted = await mint(tokens)
    assert await proves(elsewhere, minted.token)
    await tokens.revoke(jti=minted.record.jti, caller=MASTER)
    assert not await proves(elsewhere, minted.token)


async def test_a_node_that_hears_nothing_stops_it_within_five_seconds(tokens: TokenCases, world: World) -> None:
    """Redis down, and no process of this machine: the copy alone is never older than that."""
    deaf = cases(world, signals=LocalSignals())
    minted = await mint(tokens)
    assert await proves(deaf, minted.token)
    await tokens.revoke(jti=minted.record.jti, caller=MASTER)
    assert await proves(deaf, minted.token)  # it cannot know yet
    world.clock.advance(seconds=COPY_USABLE)
    assert not await proves(deaf, minted.token)


class Faltering:
    """A store whose revocations can be made to fail, to hang, and are counted."""

    def __init__(self, world: World) -> None:
        self._store = world.store
        self.away = False
        self.asked = 0
        self.read = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def tokens(self) -> "Faltering":
        return self

    async def revocations(self) -> Sequence[Revocation]:
        self.asked += 1
        found = await self._store.tokens.revocations()
        self.read.set()
        await self.gate.wait()
        if self.away:
            raise StoreUnavailableError()
        return found


async def test_without_the_store_a_copy_serves_for_five_seconds_and_then_nobody_gets_in(
    tokens: TokenCases, world: World
) -> None:
    store = Faltering(world)
    node = cases(world, store=store, signals=LocalSignals())
    minted = await mint(tokens)
    assert await proves(node, minted.token)
    store.away = True
    world.clock.advance(seconds=COPY_USABLE)
    assert await proves(node, minted.token)
    world.clock.advance(seconds=0.001)
    for asked in range(3):  # each request asks the store
        with pytest.raises(StoreUnavailableError):
            await node.authenticate(minted.token)
        assert store.asked == 3 + asked
    assert await node.authenticate(MASTER_TOKEN) == MASTER
    store.away = False
    assert await proves(node, minted.token)


async def test_before_the_first_copy_nobody_gets_in(tokens: TokenCases, world: World) -> None:
    store = Faltering(world)
    store.away = True
    minted = await mint(tokens)
    with pytest.raises(StoreUnavailableError):
        await cases(world, store=store).authenticate(minted.token)


async def test_many_requests_at_once_ask_the_store_once(tokens: TokenCases, world: World) -> None:
    store = Faltering(world)
    node = cases(world, store=store)
    minted = await mint(tokens)
    assert all(await asyncio.gather(*(proves(node, minted.token) for _ in range(100))))
    assert store.asked == 1


@pytest.mark.parametrize("usable", [True, False])
async def test_many_requests_at_once_wait_for_a_store_that_is_away_once(
    tokens: TokenCases, world: World, usable: bool
) -> None:
    """Not one after the other, each for as long as it takes to learn that nothing answers."""
    store = Faltering(world)
    node = cases(world, store=store, signals=LocalSignals())
    minted = await mint(tokens)
    assert await proves(node, minted.token)
    store.away = True
    world.clock.advance(seconds=COPY_USABLE + (0 if usable else 1))
    asking = (node.authenticate(minted.token) for _ in range(100))
    told = await asyncio.gather(*asking, return_exceptions=True)
    assert {isinstance(each, Principal if usable else StoreUnavailableError) for each in told} == {True}
    assert store.asked == 2


async def test_a_revocation_told_of_while_the_copy_is_read_is_not_lost(tokens: TokenCases, world: World) -> None:
    store = Faltering(world)
    node = cases(world, store=store)
    minted = await mint(tokens)
    store.gate.clear()
    asking = asyncio.create_task(proves(node, minted.token))
    await store.read.wait()  # the list was read, without the revocation; its answer is on the way
    await tokens.revoke(jti=minted.record.jti, caller=MASTER)
    store.gate.set()
    assert not await asking


async def test_a_second_time_answers_the_same(tokens: TokenCases, world: World) -> None:
    minted = await mint(tokens)
    first = await tokens.revoke(jti=minted.record.jti, caller=MASTER)
    world.clock.advance(timedelta(minutes=1))
    assert await tokens.revoke(jti=minted.record.jti, caller=MASTER) == first
    assert len(await world.store.tokens.revocations()) == 1


async def test_what_was_never_minted_is_not_found(tokens: TokenCases) -> None:
    with pytest.raises(TokenNotFoundError):
        await tokens.revoke(jti=UUID(int=99), caller=MASTER)


async def test_all_of_a_sub_stop_and_those_minted_after_do_not(tokens: TokenCases, world: World) -> None:
    mine = [await mint(tokens) for _ in range(3)]
    other = await mint(tokens, sub="other")
    await tokens.revoke(sub="agent", caller=MASTER)
    assert not any([await proves(tokens, each.token) for each in mine])
    assert await proves(tokens, other.token)
    at_once = await mint(tokens)  # within the very second
    assert await proves(tokens, at_once.token)
    world.clock.advance(timedelta(seconds=3))
    assert await proves(tokens, (await mint(tokens)).token)
    assert not await proves(tokens, mine[0].token)


async def test_all_issued_before_an_instant_stop_and_the_rest_do_not(tokens: TokenCases, world: World) -> None:
    early = [await mint(tokens), await mint(tokens, sub="other")]
    world.clock.advance(timedelta(seconds=10))
    line = world.clock.now()
    late = [await mint(tokens), await mint(tokens, sub="other")]
    world.clock.advance(timedelta(seconds=10))
    await tokens.revoke(issued_before=line, sub="agent", caller=MASTER)
    assert [await proves(tokens, each.token) for each in early] == [False, True]
    await tokens.revoke(issued_before=line, caller=MASTER)
    assert [await proves(tokens, each.token) for each in early] == [False, False]
    assert [await proves(tokens, each.token) for each in late] == [True, True]


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"jti": UUID(int=1), "sub": "a"},
        {"jti": UUID(int=1), "issued_before": BEGIN},
        {"issued_before": BEGIN + timedelta(seconds=1)},
    ],
    ids=lambda named: str(sorted(named)),
)
async def test_what_names_nothing_or_too_much_is_refused(tokens: TokenCases, named: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        await tokens.revoke(**named, caller=MASTER)


async def test_a_list_tells_when_each_was_revoked_however_it_was_named(tokens: TokenCases, world: World) -> None:
    by_jti = await mint(tokens)
    world.clock.advance(timedelta(seconds=1))
    by_sub = await mint(tokens, sub="other")
    world.clock.advance(timedelta(seconds=1))
    kept = await mint(tokens)
    when = world.clock.now()
    await tokens.revoke(jti=by_jti.record.jti, caller=MASTER)
    await tokens.revoke(sub="other", caller=MASTER)
    listed = (await tokens.list(Page(), caller=MASTER)).items
    assert [record.jti for record in listed] == [kept.record.jti, by_sub.record.jti, by_jti.record.jti]
    assert [record.revoked_at for record in listed] == [None, when, when]


# --- cascade --------------------------------------------------------------------------------------------


async def test_cascade_pauses_the_events_made_with_the_token_and_no_others(tokens: TokenCases, world: World) -> None:
    minted, other = await mint(tokens), await mint(tokens)
    caller = await tokens.authenticate(minted.token)
    mine = [(await world.event(caller)).event for _ in range(2)]
    theirs = (await world.event(await tokens.authenticate(other.token))).event
    revoked = await tokens.revoke(jti=minted.record.jti, cascade=True, caller=MASTER)
    assert set(revoked.paused) == {event.id for event in mine}
    for event in mine:
        stopped = await world.store.events.get(event.id)
        assert (stopped.status, stopped.paused_reason) == (EventStatus.PAUSED, REVOKED)
        assert stopped.version == event.version + 1
    assert (await world.store.events.get(theirs.id)).status is EventStatus.ACTIVE
    world.clock.advance(timedelta(hours=2))
    await world.settle_down()
    assert {delivery.event.id for delivery in world.courier.deliveries} == {theirs.id}


async def test_without_cascade_they_go_on_though_the_token_is_gone(tokens: TokenCases, world: World) -> None:
    """R10: a delivery is decided by the event."""
    minted = await mint(tokens)
    event = (await world.event(await tokens.authenticate(minted.token))).event
    assert (await tokens.revoke(jti=minted.record.jti, caller=MASTER)).paused == ()
    world.clock.advance(timedelta(hours=2))
    await world.settle_down()
    assert [delivery.event.id for delivery in world.courier.deliveries] == [event.id]


async def test_cascade_also_stops_one_that_would_resume_by_itself_and_leaves_what_is_stopped(
    tokens: TokenCases, world: World
) -> None:
    minted = await mint(tokens)
    caller = await tokens.authenticate(minted.token)
    resuming = (await world.event(caller, paused_until="2027-03-02T00:00:00Z")).event
    stopped = (await world.event(caller, status="paused")).event
    deleted = (await world.event(caller)).event
    await world.events.delete(deleted.id, caller=caller)
    revoked = await tokens.revoke(jti=minted.record.jti, cascade=True, caller=MASTER)
    assert revoked.paused == (resuming.id,)
    assert (await world.store.events.get(resuming.id)).paused_until is None
    assert (await world.store.events.get(stopped.id)).paused_reason is None


async def test_cascade_of_a_sub_reaches_the_events_of_all_its_tokens(tokens: TokenCases, world: World) -> None:
    made = []
    for _ in range(3):
        minted = await mint(tokens)
        made.append((await world.event(await tokens.authenticate(minted.token))).event.id)
    other = await tokens.authenticate((await mint(tokens, sub="other")).token)
    theirs = (await world.event(other)).event
    assert set((await tokens.revoke(sub="agent", cascade=True, caller=MASTER)).paused) == set(made)
    assert (await world.events.get(theirs.id, caller=other)).event.status is EventStatus.ACTIVE


async def test_cascade_after_a_revocation_without_it_still_pauses(tokens: TokenCases, world: World) -> None:
    minted = await mint(tokens)
    event = (await world.event(await tokens.authenticate(minted.token))).event
    first = await tokens.revoke(jti=minted.record.jti, caller=MASTER)
    second = await tokens.revoke(jti=minted.record.jti, cascade=True, caller=MASTER)
    assert (second.revoked_at, second.paused) == (first.revoked_at, (event.id,))


async def test_an_owner_resumes_what_a_cascade_has_stopped(tokens: TokenCases, world: World) -> None:
    minted = await mint(tokens)
    event = (await world.event(await tokens.authenticate(minted.token))).event
    await tokens.revoke(jti=minted.record.jti, cascade=True, caller=MASTER)
    resumed = (await world.events.update(event.id, {"status": "active"}, caller=OWNER)).event
    assert (resumed.status, resumed.paused_reason) == (EventStatus.ACTIVE, None)


# --- two tokens of one sub ------------------------------------------------------------------------------


async def test_two_tokens_of_one_sub_with_other_scopes_do_not_see_each_other_s_events(
    tokens: TokenCases, world: World
) -> None:
    one = await tokens.authenticate((await mint(tokens, scope=["user:one"])).token)
    other = await tokens.authenticate((await mint(tokens, scope=["user:two"])).token)
    event = (await world.event(one)).event
    assert access.may(one, READ, event.labels)
    assert not access.may(other, READ, event.labels)


@pytest.mark.parametrize("late", [0, 29])
async def test_a_revoked_token_stays_dead_in_the_seconds_its_expiry_is_forgiven(
    tokens: TokenCases, world: World, late: int
) -> None:
    """A token is good for some seconds beyond its expiry, since clocks differ: its revocation outlives those too."""
    minted = await mint(tokens)
    await tokens.revoke(jti=minted.record.jti, caller=MASTER)
    world.clock.set(minted.record.expires_at + timedelta(seconds=late))
    never = BEGIN - timedelta(days=1)
    await world.store.retire(
        occurrences_before=never, attempts_before=never, journal_before=never, deleted_before=never, limit=10
    )
    assert not await proves(cases(world), minted.token)
