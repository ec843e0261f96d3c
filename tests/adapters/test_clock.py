"""A node's clock follows the store's, and nothing else: neither slow answers nor busy moments move it."""

from datetime import UTC, datetime, timedelta

import pytest

from qhronos_core.adapters.clock import SystemClock

MS = timedelta(milliseconds=1)


class StandingClock(SystemClock):
    """The machine's clock at `machine`, which moves when told."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = super().now()

    def now(self) -> datetime:
        return self.machine + self._offset


@pytest.mark.parametrize("answered_after", [MS, 30 * MS, 5_000 * MS])
def test_slow_answers_of_a_store_with_the_same_time_move_nothing(answered_after: timedelta) -> None:
    clock = StandingClock()
    for _ in range(1_000):
        asked_at = clock.now()
        clock.machine += answered_after
        clock.adjust(asked_at + answered_after / 4, asked_at=asked_at)
    assert clock.now() == clock.machine


@pytest.mark.parametrize("wrong", [timedelta(hours=2), -timedelta(hours=2), 40 * MS, -40 * MS])
def test_a_clock_that_is_wrong_is_right_after_one_answer_but_for_the_time_that_took(wrong: timedelta) -> None:
    clock = StandingClock()
    asked_at = clock.now()
    clock.machine += 4 * MS
    clock.adjust(clock.machine - 2 * MS + wrong, asked_at=asked_at)
    assert abs(clock.now() - (clock.machine + wrong)) <= 4 * MS


def test_a_quicker_answer_makes_it_more_exact() -> None:
    clock, ahead = StandingClock(), timedelta(seconds=10)
    for took in (100 * MS, 10 * MS, MS):
        asked_at = clock.now()
        clock.machine += took
        clock.adjust(clock.machine - took / 2 + ahead, asked_at=asked_at)
        assert abs(clock.now() - (clock.machine + ahead)) <= took


def test_a_machine_whose_clock_is_set_back_is_followed() -> None:
    clock = StandingClock()
    clock.machine -= timedelta(hours=1)
    asked_at = clock.now()
    clock.adjust(asked_at + timedelta(hours=1), asked_at=asked_at)
    assert clock.now() == clock.machine + timedelta(hours=1)


def test_alone_it_tells_the_machines_time_in_utc() -> None:
    clock = SystemClock()
    before, first, second = datetime.now(UTC), clock.now(), clock.now()
    assert before <= first <= second
    assert first.tzinfo is UTC


def test_monotonic_time_is_not_adjusted() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    clock.adjust(clock.now() - timedelta(days=1), asked_at=clock.now())
    assert 0 <= clock.monotonic() - before < 1
