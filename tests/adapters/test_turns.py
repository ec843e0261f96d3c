"""Whose turn it is while more is due than is taken at once."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from qhronos_core.adapters.turns import Turns
from qhronos_core.domain.lanes import creator_of


class Watch:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def lane(creator: int, destination: int) -> int:
    return creator * 1024 + destination


ADA_1, ADA_2, BOB_1, CYD_1 = lane(7, 1), lane(7, 2), lane(8, 1), lane(9, 1)


def test_as_long_as_nothing_is_left_behind_nobody_is_asked_and_the_earliest_are_taken() -> None:
    turns = Turns(Watch())
    assert not turns.took([ADA_1, ADA_1, BOB_1], limit=100, shares={})
    assert not turns.must_ask()
    assert turns.next(100) == {}


def test_after_a_full_look_each_creator_gets_an_equal_share() -> None:
    turns = Turns(Watch())
    assert turns.took([ADA_1] * 100, limit=100, shares={})
    assert turns.must_ask()
    turns.found([CYD_1, ADA_1, BOB_1], since=0.0)
    assert turns.next(100) == {ADA_1: 33, BOB_1: 33, CYD_1: 33}


def test_the_share_of_a_creator_is_that_of_all_its_destinations() -> None:
    turns = Turns(Watch(), behind=True)
    turns.found([ADA_1, ADA_2, BOB_1], since=0.0)
    assert turns.next(100) == {ADA_1: 25, ADA_2: 25, BOB_1: 50}


def test_one_lane_alone_is_taken_from_as_if_there_were_none() -> None:
    turns = Turns(Watch(), behind=True)
    turns.found([ADA_1], since=0.0)
    assert turns.next(100) == {}


def test_there_is_more_as_long_as_a_lane_has_filled_its_share() -> None:
    turns = Turns(Watch(), behind=True)
    turns.found([ADA_1, BOB_1], since=0.0)
    assert turns.took([ADA_1] * 50 + [BOB_1], limit=100, shares={ADA_1: 50, BOB_1: 50})
    assert not turns.took([ADA_1] * 99, limit=100, shares={})
    assert not turns.behind


def test_a_lane_that_has_not_filled_its_share_leaves_the_others_all_but_one_place() -> None:
    """Which meets what falls due there before lanes are asked for again."""
    turns = Turns(Watch(), behind=True)
    turns.found([ADA_1, BOB_1, CYD_1], since=0.0)
    turns.took([ADA_1] * 30 + [BOB_1] * 29 + [CYD_1] * 30, limit=90, shares=turns.next(90))
    assert turns.next(90) == {ADA_1: 44, CYD_1: 44, BOB_1: 1}
    turns.took([ADA_1] * 44 + [BOB_1] + [CYD_1] * 44, limit=90, shares={ADA_1: 44, CYD_1: 44, BOB_1: 1})
    assert turns.next(90) == {ADA_1: 30, BOB_1: 30, CYD_1: 30}


def test_lanes_that_had_nothing_more_due_have_a_tenth_of_the_places_in_turn() -> None:
    turns = Turns(Watch(), behind=True)
    lanes = [lane(creator, 0) for creator in range(8)]
    turns.found(lanes, since=0.0)
    turns.took([lanes[0]] * 5, limit=40, shares=turns.next(40))
    asked = [turns.next(20) for _ in range(4)]
    assert [shares.pop(lanes[0]) for shares in asked] == [18] * 4
    assert Counter(one for shares in asked for one in shares) == Counter(lanes[1:] + lanes[1:2])


def test_a_lane_that_was_met_before_the_flood_has_its_place_in_it_at_once_and_for_a_minute() -> None:
    """F39: what falls due there need not wait until lanes are asked for."""
    watch = Watch()
    turns = Turns(watch)
    turns.took([BOB_1], limit=100, shares={})
    watch.at = 59.0
    assert turns.took([ADA_1] * 100, limit=100, shares={})
    turns.found([ADA_1], since=59.0)
    assert turns.next(100) == {ADA_1: 99, BOB_1: 1}
    watch.at = 61.0
    turns.found([ADA_1], since=61.0)
    assert turns.next(100) == {}


def test_so_many_lanes_are_remembered_and_no_more() -> None:
    turns = Turns(Watch())
    for creator in range(1000):
        turns.took([lane(creator, 0)], limit=100, shares={})
    turns.took([ADA_1] * 100, limit=100, shares={})
    turns.found([ADA_1], since=0.0)
    assert sum(len(turns.next(100)) - 1 for _ in range(26)) >= 255
    assert len(turns._seen) == 256


def test_where_no_lane_filled_its_share_nothing_is_behind() -> None:
    turns = Turns(Watch(), behind=True)
    turns.found([ADA_1, BOB_1], since=0.0)
    assert not turns.took([ADA_1], limit=100, shares=turns.next(100))
    assert turns.next(100) == {}


def test_creators_who_are_passed_over_are_asked_for_nothing_and_leave_nothing_to_come_back_for() -> None:
    turns = Turns(Watch())
    assert turns.must_ask(without={7})
    turns.found([ADA_1, ADA_2, BOB_1], since=0.0)
    assert turns.next(100, without={7}) == {BOB_1: 100}
    assert turns.took([BOB_1] * 100, limit=100, shares={BOB_1: 100}, without={7})
    assert not turns.took([BOB_1], limit=100, shares={BOB_1: 100}, without={7})
    assert turns.next(100, without={7}) == {BOB_1: 1}
    assert turns.next(100, without={7, 8}) == {}
    assert turns.behind


def test_a_lane_whose_turn_has_not_come_is_not_forgotten() -> None:
    turns = Turns(Watch(), behind=True)
    turns.found([ADA_1, BOB_1], since=0.0)
    assert turns.took([], limit=1, shares=turns.next(1))
    assert turns.behind


def test_asking_takes_a_twentieth_of_the_time_at_most() -> None:
    watch = Watch()
    turns = Turns(watch, behind=True)
    watch.at = 0.5
    turns.found([ADA_1, BOB_1], since=0.0)
    watch.at = 10.4
    assert not turns.must_ask()
    watch.at = 10.5
    assert turns.must_ask()


@given(
    lanes=st.sets(st.builds(lane, st.integers(0, 5), st.integers(0, 1023)), min_size=2, max_size=40),
    limit=st.integers(1, 10),
    looks=st.integers(1, 60),
)
def test_creators_have_their_turns_and_destinations_theirs_within_each(lanes: set[int], limit: int, looks: int) -> None:
    turns = Turns(Watch(), behind=True)
    turns.found(list(lanes), since=0.0)
    by_lane, by_creator = Counter(dict.fromkeys(lanes, 0)), Counter({creator_of(one): 0 for one in lanes})
    for _ in range(looks):
        shares = turns.next(limit)
        assert 0 < sum(shares.values()) <= limit
        assert min(shares.values()) > 0
        by_lane.update(shares)
        by_creator.update({creator_of(one) for one in shares})
        turns.took(
            list(Counter(shares).elements()), limit=limit, shares=shares
        )  # there is more due in each than asked for
    assert max(by_creator.values()) - min(by_creator.values()) <= 1
    for creator in by_creator:
        served = [times for one, times in by_lane.items() if creator_of(one) == creator]
        assert max(served) - min(served) <= limit
        if len(served) > limit:
            assert max(served) - min(served) <= 1
