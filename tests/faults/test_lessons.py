"""Each lesson of the original (reliability.md §5), and the tests that keep it learned: one place to look."""

import ast
import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import pytest

from qhronos_core.domain.lifecycle import COMPLETED, PENDING
from qhronos_core.domain.schedule import Timetable
from qhronos_core.ports import Delivery, Outcome
from tests.clock import FakeClock
from tests.faults.rig.nodes import a_cluster
from tests.servers import Redis
from tests.world import ACCEPT, NOON, World, a_world

TESTS: Final = Path(__file__).parents[1]

LESSONS: Final[Mapping[str, tuple[str, Sequence[str]]]] = {
    "L1": (
        "the token check is wired to every route",
        [
            "faces/rest/test_doors.py::test_every_route_is_protected_or_on_the_list",
            "faces/rest/test_known_faults.py::test_01_a_bearer_that_is_no_valid_token_is_refused_on_every_route",
        ],
    ),
    "L2": (
        "secrets are compared in constant time; malformed headers are not logged",
        [
            "architecture/test_secrets_compared.py::test_no_secret_is_compared_by_equality",
            "architecture/test_secrets_compared.py::test_the_master_token_is_compared_in_one_place",
            "faces/rest/test_process.py::test_the_log_is_one_json_line_per_request_and_holds_nothing_a_caller_wrote",
        ],
    ),
    "L3": (
        "short headers and claims of wrong types are 401",
        [
            "faces/rest/test_doors.py::test_a_header_that_is_not_a_bearer_token_is_the_same_401",
            "adapters/local/test_jwt.py::test_a_claim_of_a_wrong_kind_is_refused_though_the_signature_is_good",
            "adapters/local/test_jwt.py::test_whatever_a_claim_holds_the_answer_is_claims_or_a_refusal",
        ],
    ),
    "L4": (
        "what may be minted, and what a token reaches",
        [
            "faces/rest/test_access_cases.py::test_what_may_be_minted",
            "domain/test_access.py::test_what_a_list_holds_is_what_may_be_read_or_written_one_by_one",
            "adapters/local/test_jwt.py::test_every_claim_is_required",
        ],
    ),
    "L5": (
        "a socket's token, origin and name are checked",
        [
            "faces/test_sockets.py::test_a_token_that_may_not_write_the_event_gets_no_frame_of_it",
            "faces/test_sockets.py::test_a_page_of_a_foreign_origin_is_not_let_in",
            "faces/test_sockets.py::test_a_first_frame_that_proves_nothing_ends_the_socket",
        ],
    ),
    "L6": (
        "a stalled receiver or socket delays no other delivery",
        [
            "faults/test_receivers.py::test_what_is_slow_ends_by_its_deadline_and_its_slot_is_free_for_the_next",
            "faults/test_receivers.py::test_a_socket_that_reads_nothing_delays_no_other_delivery",
        ],
    ),
    "L7": (
        "work is not taken away before it is done",
        [
            "faults/test_kills.py::test_nodes_are_killed_at_random_while_hundreds_fall_due",
            "faults/test_planted.py::test_a_planted_bug_turns_the_checker_red",
        ],
    ),
    "L8": (
        "states move by the table alone; a record that fails is a settle that fails",
        [
            "domain/test_lifecycle.py::test_no_move_outside_the_table_can_happen",
            "domain/test_lifecycle.py::test_completed_and_cancelled_are_for_ever_and_only_a_retry_leaves_failed_and_missed",
            "faults/test_disk.py::test_refused_by_the_disk_at_any_call_a_transaction_is_undone_whole_and_the_next_one_goes",
        ],
    ),
    "L9": (
        "a paused event sends nothing at its instant",
        [
            (
                "scheduler/test_life_of_an_occurrence.py"
                "::test_a_paused_event_sends_nothing_at_its_instant_and_resuming_never_fires_the_past"
            )
        ],
    ),
    "L10": (
        "the dispatcher never writes what a caller wrote",
        ["faults/test_writers.py::test_of_fifty_writers_on_one_event_none_loses_a_field_while_it_is_dispatched"],
    ),
    "L11": (
        "Redis holds no plan",
        [
            "faults/test_lessons.py::test_flushing_redis_changes_no_list",
            "adapters/test_limits.py::test_a_flush_forgets_what_was_taken_and_nothing_breaks",
        ],
    ),
    "L12": (
        "one instant has one row, however slow the receiver",
        ["faults/test_lessons.py::test_a_receiver_slower_than_its_schedule_gets_each_instant_once"],
    ),
    "L13": (
        "a once-only instant is planned once, whenever a node starts",
        ["faults/test_lessons.py::test_restarted_every_ten_seconds_around_its_instant_a_once_only_event_has_one_row"],
    ),
    "L14": (
        "the next run is not found by walking from the start",
        ["faults/test_lessons.py::test_the_next_run_of_a_minutely_event_five_years_old_takes_no_time"],
    ),
    "L15": (
        "the payload has the occurrence's own instant and id; a replay is refused",
        [
            "adapters/http/test_couriers.py::test_a_webhook_is_as_published_and_the_reference_library_accepts_it",
            "domain/test_signature.py::test_the_reference_library_refuses_a_replay",
        ],
    ),
    "L16": (
        "the given secret signs, also after a restart, and an empty one never",
        [
            (
                "adapters/http/test_couriers.py"
                "::test_without_a_secret_nothing_is_sent_least_of_all_signed_with_an_empty_key"
            ),
            "domain/test_signature.py::test_nothing_is_ever_signed_with_an_empty_key",
            "faults/test_receivers.py::test_a_given_secret_signs_after_a_restart",
        ],
    ),
    "L17": (
        "the way out is judged",
        [
            "adapters/http/test_egress.py::test_no_spelling_of_this_machine_brings_a_byte_to_a_canary",
            "adapters/http/test_egress.py::test_a_name_that_turns_to_loopback_after_it_was_checked_reaches_nothing",
            "adapters/http/test_egress.py::test_a_redirect_is_an_answer_and_is_never_followed",
        ],
    ),
    "L18": (
        "retention removes no live event",
        ["adapters/store/test_retention.py::test_a_live_event_outlives_every_pass"],
    ),
    "L19": (
        "SIGTERM drains",
        ["faults/test_kills.py::test_a_deploy_loses_nothing_and_sends_nothing_twice"],
    ),
    "L20": (
        "a limit holds for 500 at once, and without Redis",
        [
            "faces/rest/test_rate_limits.py::test_500_callers_at_once_get_no_more_than_the_burst_and_a_hundredth",
            "adapters/test_limits.py::test_without_redis_each_node_counts_alone_and_minting_stays_limited",
        ],
    ),
    "L21": (
        "no driver's text and no secret in an answer",
        [
            "faces/rest/test_two_tenants.py::test_nothing_of_a_secret_is_in_any_answer_but_the_one_that_made_it",
            "faces/rest/test_guard.py::test_a_crash_is_a_500_that_tells_nothing",
            "faces/rest/test_guard.py::test_a_store_that_is_away_is_503_with_retry_after",
        ],
    ),
    "L22": (
        "waits grow, and the last attempt leaves a failed row that can be sent again",
        [
            (
                "scheduler/test_life_of_an_occurrence.py"
                "::test_after_the_last_attempt_it_is_failed_and_open_to_retry_with_the_same_id"
            ),
            (
                "faces/rest/test_known_faults.py"
                "::test_13_the_last_failed_attempt_leaves_a_failed_occurrence_listed_and_open_to_retry"
            ),
        ],
    ),
    "L23": (
        "the earliest due goes first",
        ["adapters/store/test_claims.py::test_the_earliest_due_are_taken_first_and_a_full_look_says_there_may_be_more"],
    ),
}


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("number", range(1, 24))
def test_each_lesson_has_a_test_that_is_there(number: int) -> None:
    for named in LESSONS[f"L{number}"][1]:
        path, _, function = named.partition("::")
        assert function in functions_of(path), named


# --- those that had no test elsewhere -----------------------------------------------------------------------


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as made:
        yield made


async def test_flushing_redis_changes_no_list(tmp_path: Path, redis_server: Redis, redis_url: str) -> None:
    """L11."""
    with a_cluster(tmp_path, redis_url=redis_url) as cluster:
        node = await asyncio.to_thread(cluster.start)
        for schedule in ("every 1h", "@daily", "in 3 days"):
            await asyncio.to_thread(node.create, schedule=schedule)
        before = [await asyncio.to_thread(node.ask, "GET", path) for path in ("/events", "/occurrences")]
        await asyncio.to_thread(redis_server.flush)
        assert [await asyncio.to_thread(node.ask, "GET", path) for path in ("/events", "/occurrences")] == before
        assert len(before[0][1]) == len(before[1][1]) == 3


async def test_a_receiver_slower_than_its_schedule_gets_each_instant_once(world: World) -> None:
    """L12: every 5 s, and each answer takes fifty; two nodes look all the while."""
    answered = asyncio.Event()

    async def slowly(_: Delivery) -> Outcome:
        await answered.wait()
        return ACCEPT

    world.courier.will(*([slowly] * 20))
    event = (await world.event(schedule="every 5s")).event
    nodes = [world.dispatcher_of("one"), world.dispatcher_of("two")]
    for _ in range(10):
        world.clock.advance(seconds=5)
        for node in nodes:
            await node.claim()
            await asyncio.sleep(0)
    answered.set()
    for node in nodes:
        await node.drain()
    sent = [delivery.occurrence.scheduled_at for delivery in world.courier.deliveries]
    rows = await world.occurrences_of(event)
    assert len(sent) == len({row.scheduled_at for row in rows if row.state is not PENDING}) == 10
    assert len({(row.scheduled_at, row.id) for row in rows}) == len({row.scheduled_at for row in rows}) == 11


async def test_restarted_every_ten_seconds_around_its_instant_a_once_only_event_has_one_row(tmp_path: Path) -> None:
    """L13."""
    clock = FakeClock(NOON - timedelta(minutes=2))
    async with a_world(tmp_path, clock=clock) as world:
        event = (await world.event(schedule=NOON.isoformat())).event
    sent = 0
    for _ in range(24):
        clock.advance(seconds=10)
        async with a_world(tmp_path, clock=clock) as world:
            dispatcher = world.dispatcher
            await dispatcher.run_once()
            await dispatcher.drain()
            sent += len(world.courier.deliveries)
            [row] = await world.occurrences_of(event)
    assert (sent, row.state, row.scheduled_at) == (1, COMPLETED, NOON)


def test_the_next_run_of_a_minutely_event_five_years_old_takes_no_time() -> None:
    """L14. Counted in steps, not in time: a walk from the start would take two and a half million."""
    anchor = NOON - timedelta(days=5 * 365)
    for schedule in ("* * * * *", "every 1m", "RRULE:FREQ=MINUTELY"):
        table = Timetable.of(schedule, timezone="UTC", anchor=anchor)
        assert table.next_after(NOON) == NOON + timedelta(minutes=1)
        assert steps_of(partial(table.next_after, NOON)) < 20_000, schedule


def steps_of(work: Callable[[], object]) -> int:
    """How many lines of Python it takes."""
    count = 0

    def trace(*_: object) -> Any:
        nonlocal count
        count += 1
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return count
