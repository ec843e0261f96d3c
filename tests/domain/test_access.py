"""Rules R1-R12 against the oracle, and the corner cases of access.md §6 that are decided in the domain."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qhronos_core.domain import access
from qhronos_core.domain.access import READ, WRITE, Access, Principal
from qhronos_core.domain.errors import EventNotFoundError, ForbiddenError
from qhronos_core.domain.event import Event, EventStatus
from qhronos_core.domain.ids import EventId
from tests import access_oracle as oracle
from tests.access_oracle import Who

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def principal(who: Who) -> Principal:
    if who.kind == "master":
        return Principal.of_master()
    return Principal(who.sub, Access(who.kind), frozenset(who.scopes), jti=UUID(int=1), holder="1")


def event(labels: Sequence[str] = (), **fields: Any) -> Event:
    return Event(
        id=EventId(UUID(int=7)),
        created_by="someone",
        name="an event",
        schedule="@daily",
        anchor_at=NOON,
        created_at=NOON,
        updated_at=NOON,
        labels=frozenset(labels),
        **fields,
    )


def outcome(caller: Principal, labels: Sequence[str], action: str) -> str:
    try:
        access.require(caller, READ if action in oracle.READING else WRITE, event(labels))
    except EventNotFoundError:
        return "absent"
    except ForbiddenError:
        return "forbidden"
    return "allowed"


# --- the table --------------------------------------------------------------------------------------


def test_every_row_of_the_decision_table_is_decided_as_the_oracle_says() -> None:
    rows = list(oracle.rows())
    wrong = [row for row in rows if outcome(principal(row[0]), row[1], row[2]) != row[3]]
    assert wrong == []
    assert len(rows) > 5_000
    assert {row[3] for row in rows} == {"allowed", "forbidden", "absent"}


def test_what_a_list_holds_is_what_may_be_read_or_written_one_by_one() -> None:
    for who in oracle.principals():
        caller = principal(who)
        for labels in map(frozenset, oracle.subsets(oracle.LABELS)):
            assert access.reach(caller, READ).holds(labels) == oracle.sees(who, list(labels)), (who, labels)
            assert access.reach(caller, WRITE).holds(labels) == oracle.changes(who, list(labels)), (who, labels)
            assert access.may(caller, READ, labels) == oracle.sees(who, list(labels))
            assert access.may(caller, WRITE, labels) == oracle.changes(who, list(labels))


TAG_SETS = [
    (),
    ("test",),
    ("User:a", "user:", "a:b:c", "user:a b"),
    *oracle.subsets(oracle.LABELS),
    *((*labels, "test") for labels in oracle.subsets(oracle.LABELS)),
]


def test_the_labels_of_a_new_event_are_those_of_the_oracle() -> None:
    for who in oracle.principals():
        for tags in TAG_SETS:
            assert made(principal(who), tags) == oracle.labels_made(who, tags), (who, tags)


def test_the_labels_after_an_update_are_those_of_the_oracle() -> None:
    for who in oracle.principals():
        caller = principal(who)
        for labels in oracle.subsets(oracle.LABELS):
            for tags in TAG_SETS:
                assert kept(caller, labels, tags) == oracle.labels_kept(who, labels, tags), (who, labels, tags)


def made(caller: Principal, tags: Sequence[str]) -> frozenset[str] | None:
    try:
        return access.labels_at_creation(caller, tuple(tags))
    except ForbiddenError:
        return None


def kept(caller: Principal, labels: Sequence[str], tags: Sequence[str]) -> frozenset[str] | str:
    if (first := outcome(caller, labels, "update")) != "allowed":
        return first
    try:
        return access.labels_after_update(caller, tuple(tags), frozenset(labels))
    except ForbiddenError:
        return "forbidden"


# --- scopes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["user:rizqme", "u:R", "a_b-9:x@y.z_-", "r" * 32 + ":" + "I" * 128],
)
def test_a_scope_is_a_scope(text: str) -> None:
    assert access.is_scope(text)
    assert oracle.is_label(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "user", "user:", ":a", "User:a", "9user:a", "_u:a", "user:a b", "user:*", "user:%", "a:b:c"),
        *(" user:a", "user:a ", "user:a\n", "user:a\x00", "usér:a", "user:é", "user:а", "ｕser:a", "user：a"),
        *("r" * 33 + ":a", "user:" + "I" * 129, "user:a,b", "user:a/b", "user:a\u200b"),
    ],
)
def test_what_looks_like_a_scope_is_none(text: str) -> None:
    assert not access.is_scope(text)
    assert not oracle.is_label(text)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=40), st.from_regex(r"[a-zA-Z0-9_:@. -]{0,40}", fullmatch=True)))
def test_product_and_oracle_agree_about_any_text(text: str) -> None:
    assert access.is_scope(text) == oracle.is_label(text)


@settings(deadline=None)
@given(
    st.sets(st.sampled_from(["user:a", "User:a", "user:a2", "user:A", "user:a.", "user:a-"])),
    st.sets(st.sampled_from(["user:a", "User:a", "user:a2", "user:A", "user:a.", "user:a-"])),
)
def test_labels_are_compared_byte_for_byte(scopes: set[str], labels: set[str]) -> None:
    """No wildcard, prefix, case folding, trimming or normalisation."""
    reader = Principal("r", Access.READ, frozenset(scopes))
    assert access.may(reader, READ, frozenset(labels)) == any(scope in labels for scope in scopes)


# --- corner cases: access.md §6 ----------------------------------------------------------------------

A = Principal("a", Access.WRITE, frozenset({"user:a"}))
A_AND_T = Principal("a", Access.WRITE, frozenset({"user:a", "system:t"}))
READER = Principal("r", Access.READ, frozenset({"user:a"}))
ADMIN = Principal("a", Access.ADMIN, frozenset())
MASTER = Principal.of_master()


def test_plain_tags_take_the_scopes_of_who_creates() -> None:
    assert access.labels_at_creation(A, ("test",)) == {"user:a"}


def test_plain_tags_of_a_token_with_two_scopes_take_both_so_that_only_a_holder_of_both_writes() -> None:
    labels = access.labels_at_creation(A_AND_T, ("test",))
    assert labels == {"user:a", "system:t"}
    assert access.may(READER, READ, labels)
    assert not access.may(A, WRITE, labels)
    assert access.may(A_AND_T, WRITE, labels)


def test_a_label_among_the_tags_stands_for_all_of_them() -> None:
    assert access.labels_at_creation(A_AND_T, ("user:a", "test")) == {"user:a"}


@pytest.mark.parametrize("tags", [("user:b",), ("user:a", "user:b")])
def test_nobody_gives_an_event_to_another_scope(tags: tuple[str, ...]) -> None:
    with pytest.raises(ForbiddenError):
        access.labels_at_creation(A, tags)


def test_an_update_to_plain_tags_keeps_the_labels() -> None:
    assert access.labels_after_update(A, ("x",), frozenset({"user:a"})) == {"user:a"}


def test_an_update_to_another_s_label_is_forbidden() -> None:
    with pytest.raises(ForbiddenError):
        access.labels_after_update(A, ("user:b",), frozenset({"user:a"}))


def test_one_shared_label_reads_and_does_not_write() -> None:
    assert outcome(A, ("user:a", "user:b"), "get") == "allowed"
    assert outcome(A, ("user:a", "user:b"), "update") == "forbidden"


def test_a_reader_is_forbidden_on_its_own_and_told_nothing_of_others() -> None:
    assert outcome(READER, ("user:a",), "update") == "forbidden"
    assert outcome(READER, ("user:a",), "acknowledge") == "forbidden"
    assert outcome(READER, ("user:b",), "update") == "absent"
    with pytest.raises(ForbiddenError):
        access.require_writer(READER)
    with pytest.raises(ForbiddenError):
        access.labels_at_creation(READER, ("user:a",))


def test_the_inbox_of_a_reader_has_nothing_to_claim() -> None:
    assert not access.reach(READER, WRITE).holds(frozenset({"user:a"}))


def test_the_admin_of_the_first_tutorial_creates_and_reads_back() -> None:
    admin = Principal("your-user-id", Access.ADMIN, frozenset({"user:your-username"}))
    labels = access.labels_at_creation(admin, ("system:backup",))
    assert labels == {"system:backup"}
    assert access.may(admin, READ, labels)


def test_an_admin_s_plain_event_carries_its_sub_and_admins_read_everything() -> None:
    assert access.labels_at_creation(ADMIN, ("test",)) == {"user:a"}
    assert access.may(ADMIN, READ, frozenset({"user:b"}))


def test_an_admin_whose_sub_is_no_identifier_makes_events_without_labels() -> None:
    odd = Principal("Ann Other", Access.ADMIN, frozenset())
    assert access.labels_at_creation(odd, ("test",)) == frozenset()


def test_the_master_s_plain_event_is_for_admins_and_the_master_only() -> None:
    labels = access.labels_at_creation(MASTER, ("test",))
    assert labels == frozenset()
    assert access.may(MASTER, WRITE, labels)
    assert access.may(ADMIN, WRITE, labels)
    assert not access.may(A, READ, labels)


def test_a_sub_equal_to_another_s_label_grants_nothing() -> None:
    posing = Principal("user:b", Access.WRITE, frozenset({"user:a"}))
    assert outcome(posing, ("user:b",), "get") == "absent"


def test_two_tokens_of_one_sub_with_other_scopes_do_not_see_each_other_s() -> None:
    other = Principal("a", Access.WRITE, frozenset({"user:z"}))
    assert outcome(other, sorted(access.labels_at_creation(A, ())), "get") == "absent"


def test_unchanged_tags_do_not_help_a_token_that_no_longer_holds_them_all() -> None:
    assert outcome(A, ("user:a", "system:t"), "update") == "forbidden"


def test_a_deleted_event_is_absent_for_everyone() -> None:
    for caller in (MASTER, ADMIN, A):
        with pytest.raises(EventNotFoundError):
            access.require(caller, READ, event(("user:a",), status=EventStatus.DELETED))


def test_an_event_out_of_reach_is_refused_in_the_words_of_one_that_never_was() -> None:
    out_of_reach = event(("user:b",))
    with pytest.raises(EventNotFoundError) as refused:
        access.require(A, READ, out_of_reach)
    never = EventNotFoundError()
    assert str(refused.value) == str(never)
    assert type(refused.value) is type(never)


def test_in_words_a_reader_of_one_user_sees_that_user_and_nobody_like_it() -> None:
    reader = Principal("x", Access.READ, frozenset({"user:rizqme"}))
    assert access.may(reader, READ, frozenset({"user:rizqme", "system:backup"}))
    for labels in (("user:rizqme2",), ("system:rizqme",), ()):
        assert not access.may(reader, READ, frozenset(labels))
    assert access.labels_among(("User:rizqme",)) == frozenset()


# --- masters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", [A, READER, ADMIN, Principal.of_local_owner("local", node="p1")])
def test_only_the_master_mints(caller: Principal) -> None:
    with pytest.raises(ForbiddenError):
        access.require_master(caller)
    access.require_master(MASTER)
    access.require_master(Principal.of_master(confined=True))


@pytest.mark.parametrize("caller", [A, READER])
def test_the_audit_is_for_admins_and_the_master(caller: Principal) -> None:
    with pytest.raises(ForbiddenError):
        access.require_admin(caller)
    access.require_admin(ADMIN)
    access.require_admin(MASTER)


def test_a_confined_master_does_nothing_but_mint() -> None:
    """R7 with `auth.master_may_use_api: false`: 403 wherever it asks."""
    confined = Principal.of_master(confined=True)
    asks: list[Any] = [
        lambda: access.reach(confined, READ),
        lambda: access.reach(confined, WRITE),
        lambda: access.require(confined, READ, event()),
        lambda: access.require_writer(confined),
        lambda: access.require_admin(confined),
        lambda: access.labels_at_creation(confined, ()),
        lambda: access.labels_after_update(confined, (), frozenset()),
    ]
    for ask in asks:
        with pytest.raises(ForbiddenError):
            ask()
    assert not access.may(confined, READ, frozenset({"user:a"}))
    assert not access.may(confined, WRITE, frozenset())


def test_the_local_owner_is_an_admin_with_a_scope_of_its_own_where_its_name_makes_one() -> None:
    owner = Principal.of_local_owner("local", node="p1")
    assert owner.sees_all
    assert owner.scope == {"user:local"}
    assert Principal.of_local_owner("Ann Other", node="p1").scope == frozenset()


def test_expired_or_not_is_no_question_of_these_rules() -> None:
    """R10: a call is judged at the call; a principal that got in is judged by what it may, not by when."""
    assert access.may(replace(A, expires_at=0), READ, frozenset({"user:a"}))
