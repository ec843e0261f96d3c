"""The machine's clock, and what it learns of the store's."""

from datetime import UTC, timedelta

from qhronos_core.adapters.clock import JUMP, SystemClock

SOON = timedelta(milliseconds=250)  # longer than anything here takes


def test_alone_it_tells_the_machines_time_in_utc() -> None:
    clock = SystemClock()
    first, second = clock.now(), clock.now()
    assert first <= second
    assert first.tzinfo is UTC


def test_the_first_answer_of_the_store_is_believed() -> None:
    clock = SystemClock()
    clock.adjust(clock.now() + timedelta(hours=1))
    assert abs(clock.now() - SystemClock().now() - timedelta(hours=1)) < SOON


def test_later_answers_move_it_a_little_so_that_a_slow_one_does_no_harm() -> None:
    clock = SystemClock()
    clock.adjust(clock.now())
    clock.adjust(clock.now() + timedelta(seconds=1))
    assert abs(clock.now() - SystemClock().now() - timedelta(seconds=0.2)) < SOON


def test_many_answers_that_agree_are_believed_in_the_end() -> None:
    clock = SystemClock()
    clock.adjust(clock.now())
    for _ in range(50):
        clock.adjust(SystemClock().now() + timedelta(seconds=1))
    assert abs(clock.now() - SystemClock().now() - timedelta(seconds=1)) < SOON


def test_a_store_whose_clock_was_set_is_followed_at_once() -> None:
    clock = SystemClock()
    clock.adjust(clock.now())
    for jump in (timedelta(minutes=10), -timedelta(minutes=10)):
        assert abs(jump) > JUMP
        clock.adjust(SystemClock().now() + jump)
        assert abs(clock.now() - SystemClock().now() - jump) < SOON


def test_monotonic_time_is_not_adjusted() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    clock.adjust(clock.now() - timedelta(days=1))
    assert 0 <= clock.monotonic() - before < 1
