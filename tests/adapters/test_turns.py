"""Whose turn it is while more is due than is taken at once."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from qhronos_core.adapters.turns import Turns


class Watch:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_as_long_as_nothing_is_left_behind_nobody_is_asked_and_the_earliest_are_taken() -> None:
    turns = Turns(Watch())
    assert not turns.took([7, 7, 8], shared=(), share=100)
    assert not turns.must_ask
    assert turns.next(100) == ((), 100)


def test_after_a_full_look_each_lane_gets_an_equal_share() -> None:
    turns = Turns(Watch())
    assert turns.took([7] * 100, shared=(), share=100)
    assert turns.must_ask
    turns.found([9, 7, 8], since=0.0)
    assert turns.next(100) == ((7, 8, 9), 33)


def test_one_lane_alone_is_taken_from_as_if_there_were_none() -> None:
    turns = Turns(Watch(), behind=True)
    turns.found([7], since=0.0)
    assert turns.next(100) == ((), 100)


def test_there_is_more_as_long_as_a_lane_has_filled_its_share() -> None:
    turns = Turns(Watch(), behind=True)
    assert turns.took([7] * 50 + [8], shared=(7, 8), share=50)
    assert not turns.took([7] * 49 + [8], shared=(7, 8), share=50)
    assert not turns.behind


def test_asking_takes_a_twentieth_of_the_time_at_most() -> None:
    watch = Watch()
    turns = Turns(watch, behind=True)
    watch.at = 0.5
    turns.found([7, 8], since=0.0)
    watch.at = 10.4
    assert not turns.must_ask
    watch.at = 10.5
    assert turns.must_ask


@given(
    lanes=st.sets(st.integers(0, 2**31 - 1), min_size=2, max_size=40),
    limit=st.integers(1, 10),
    looks=st.integers(1, 30),
)
def test_none_of_many_lanes_is_served_twice_more_than_another(lanes: set[int], limit: int, looks: int) -> None:
    turns = Turns(Watch(), behind=True)
    turns.found(list(lanes), since=0.0)
    served: Counter[int] = Counter(dict.fromkeys(lanes, 0))
    for _ in range(looks):
        chosen, share = turns.next(limit)
        assert len(chosen) * share <= limit
        served.update(dict.fromkeys(chosen, share))
    assert max(served.values()) - min(served.values()) <= limit
    if len(lanes) > limit:
        assert max(served.values()) - min(served.values()) <= 1
