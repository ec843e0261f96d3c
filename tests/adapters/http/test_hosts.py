"""Caps and the breaker, with time as an argument: nothing here waits."""

from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qhronos_core.adapters.http.hosts import (
    FAILURES_TO_OPEN,
    FIRST_PROBE_AFTER,
    LENT_MOST,
    PROBE_AFTER_MOST,
    WAIT_MOST,
    Hosts,
)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def fail(hosts: Hosts, times: int, now: datetime = NOON) -> None:
    for _ in range(times):
        assert hosts.admit("a", now) is None
        hosts.report("a", answered=False, now=now)


def test_no_more_than_the_cap_are_sent_at_once_and_one_that_ends_makes_room() -> None:
    hosts = Hosts(3)
    assert [hosts.admit("a", NOON) for _ in range(3)] == [None] * 3
    refused = hosts.admit("a", NOON)
    assert refused is not None
    assert NOON < refused < NOON + SECOND
    assert hosts.admit("b", NOON) is None
    hosts.report("a", answered=True, now=NOON)
    assert hosts.admit("a", NOON) is None


def test_a_send_that_was_never_made_gives_its_place_back() -> None:
    hosts = Hosts(1)
    assert hosts.admit("a", NOON) is None
    hosts.withdraw("a")
    assert hosts.admit("a", NOON) is None


def test_those_that_wait_are_spread_at_the_pace_of_the_host() -> None:
    hosts = Hosts(10)
    for at in (NOON + SECOND * n for n in range(100)):  # each send takes a second
        assert hosts.admit("a", at) is None
        hosts.report("a", answered=True, now=at + SECOND)
    now = NOON + SECOND * 200
    for _ in range(10):
        assert hosts.admit("a", now) is None
    given_back = [hosts.admit("a", now) for _ in range(100)]
    waits = [(at - now).total_seconds() for at in given_back if at is not None]
    assert waits == sorted(set(waits))  # no two at one instant
    assert waits[0] == pytest.approx(0.1, rel=0.05)
    assert waits[-1] == pytest.approx(10, rel=0.05)  # 100 more, ten a second


def test_no_more_than_its_rate_begin_within_a_second_and_those_that_wait_are_spread() -> None:
    hosts = Hosts(100, per_second=5)
    waits = [hosts.admit("a", NOON) for _ in range(15)]
    assert waits[:5] == [None] * 5
    assert waits[5:] == [NOON + SECOND + SECOND / 5 * n for n in range(10)]
    assert hosts.admit("b", NOON) is None
    assert hosts.admit("a", NOON + SECOND * 0.999) is not None
    assert hosts.admit("a", NOON + SECOND) is None


@given(st.integers(1, 5), st.lists(st.integers(0, 400), min_size=1, max_size=200))
def test_whatever_comes_when_the_rate_holds_in_every_second(most: int, steps: list[int]) -> None:
    hosts, now, begun = Hosts(1_000, per_second=most), NOON, []
    for step in steps:
        now += timedelta(milliseconds=step)
        if hosts.admit("a", now) is None:
            begun.append(now)
    for first, beyond in zip(begun, begun[most:], strict=False):
        assert beyond - first >= SECOND
    assert begun[0] == NOON + timedelta(milliseconds=steps[0])


def test_a_clock_that_was_set_back_holds_up_no_host() -> None:
    hosts = Hosts(10, per_second=1)
    assert hosts.admit("a", NOON) is None
    assert hosts.admit("a", NOON - timedelta(hours=1)) is None


def test_nobody_waits_much_longer_than_an_estimate_is_worth() -> None:
    hosts = Hosts(1)
    assert hosts.admit("a", NOON) is None
    waits = [hosts.admit("a", NOON) for _ in range(10_000)]
    assert all(at is not None and NOON < at <= NOON + WAIT_MOST + SECOND for at in waits)


def test_five_failures_in_a_row_open_the_breaker_and_four_do_not() -> None:
    hosts = Hosts(10)
    fail(hosts, FAILURES_TO_OPEN - 1)
    assert hosts.admit("a", NOON) is None
    hosts.report("a", answered=True, now=NOON)
    fail(hosts, FAILURES_TO_OPEN - 1)  # the row was broken
    assert hosts.admit("a", NOON) is None
    hosts.report("a", answered=False, now=NOON)
    assert hosts.admit("a", NOON) == NOON + FIRST_PROBE_AFTER
    assert hosts.admit("b", NOON) is None


def test_of_what_an_open_breaker_holds_back_some_is_left_to_others_before_each_probe() -> None:
    """F18, and not in a storm where all that is due goes to a receiver that is down for all (F35)."""
    hosts = Hosts(10)
    assert not hosts.lends("a")
    fail(hosts, FAILURES_TO_OPEN - 1)
    assert not hosts.lends("a")
    fail(hosts, 1)
    assert [hosts.lends("a") for _ in range(LENT_MOST + 1)] == [True] * LENT_MOST + [False]
    assert not hosts.lends("b")
    fail(hosts, 1, NOON + FIRST_PROBE_AFTER)  # the probe
    assert hosts.lends("a")


def test_a_node_that_nobody_answers_is_cut_off_for_a_minute_and_one_that_anybody_answers_is_not() -> None:
    hosts = Hosts(10)
    fail(hosts, FAILURES_TO_OPEN - 1)
    assert not hosts.is_cut_off(NOON)
    fail(hosts, 1)
    assert hosts.is_cut_off(NOON + FIRST_PROBE_AFTER - SECOND)
    assert not hosts.is_cut_off(NOON + FIRST_PROBE_AFTER)
    assert hosts.admit("b", NOON) is None
    hosts.report("b", answered=True, now=NOON)
    assert not hosts.is_cut_off(NOON)


def test_one_probe_a_minute_at_first_then_less_often_and_only_one_at_a_time() -> None:
    hosts, now = Hosts(10), NOON
    fail(hosts, FAILURES_TO_OPEN)
    waited = []
    for _ in range(5):
        opens = hosts.admit("a", now)
        assert opens is not None
        waited.append(opens - now)
        now = opens
        assert hosts.admit("a", now) is None  # the probe
        for _ in range(20):
            later = hosts.admit("a", now)
            assert later is not None
            assert later > now
        hosts.report("a", answered=False, now=now)
        now += WAIT_MOST + SECOND  # past those that were told to come back during the probe
    minutes = [round(wait / timedelta(minutes=1), 1) for wait in waited]
    assert minutes[0] == 1
    assert waited[1:] == sorted(waited[1:])
    assert max(waited) <= PROBE_AFTER_MOST


def test_a_probe_that_is_answered_closes_the_breaker_and_those_that_waited_come_spread_out() -> None:
    hosts = Hosts(10)
    fail(hosts, FAILURES_TO_OPEN)
    back = [hosts.admit("a", NOON) for _ in range(1_000)]
    assert back[0] == NOON + FIRST_PROBE_AFTER
    assert len(set(back)) == 1_000
    assert hosts.admit("a", NOON + FIRST_PROBE_AFTER) is None
    hosts.report("a", answered=True, now=NOON + FIRST_PROBE_AFTER)
    assert [hosts.admit("a", NOON + FIRST_PROBE_AFTER) for _ in range(10)] == [None] * 10


def test_a_withdrawn_probe_leaves_the_next_one_to_another() -> None:
    hosts = Hosts(10)
    fail(hosts, FAILURES_TO_OPEN)
    then = NOON + FIRST_PROBE_AFTER
    assert hosts.admit("a", then) is None
    assert hosts.admit("a", then) is not None
    hosts.withdraw("a")
    assert hosts.admit("a", then) is None


def test_what_was_sent_before_it_opened_neither_prolongs_it_nor_lets_a_second_probe_through() -> None:
    hosts = Hosts(10)
    for _ in range(10):
        assert hosts.admit("a", NOON) is None
    for _ in range(9):
        hosts.report("a", answered=False, now=NOON)
    then = NOON + FIRST_PROBE_AFTER
    assert hosts.admit("a", NOON) == then
    assert hosts.admit("a", then) is not None  # the tenth is still under way
    hosts.withdraw("a")
    assert hosts.admit("a", then) is None


def test_an_answer_to_a_send_from_before_closes_it() -> None:
    hosts = Hosts(10)
    for _ in range(6):
        assert hosts.admit("a", NOON) is None
    for _ in range(5):
        hosts.report("a", answered=False, now=NOON)
    assert hosts.admit("a", NOON) is not None
    hosts.report("a", answered=True, now=NOON)
    assert hosts.admit("a", NOON) is None


def test_many_names_of_one_address_share_its_cap() -> None:
    hosts = Hosts(5, address_of=lambda host: "192.0.2.1:443" if host.startswith("evil") else None)
    admitted = [number for number in range(100) if hosts.admit(f"evil{number}", NOON) is None]
    assert len(admitted) == 5
    assert hosts.admit("good", NOON) is None
    hosts.report(f"evil{admitted[0]}", answered=True, now=NOON)
    assert hosts.admit("evil99", NOON) is None


def test_a_million_hosts_are_not_all_remembered() -> None:
    hosts = Hosts(5)
    for number in range(30_000):
        assert hosts.admit(f"host{number}", NOON) is None
        hosts.report(f"host{number}", answered=True, now=NOON)
    assert len(hosts._hosts) <= 10_000


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_a_host_that_fails_half_the_time_is_always_tried_again(answers: list[bool]) -> None:
    hosts, now, sent = Hosts(2), NOON, 0
    for answered in answers:
        while (later := hosts.admit("a", now)) is not None:
            assert now < later <= now + PROBE_AFTER_MOST + WAIT_MOST
            now = later
        sent += 1
        hosts.report("a", answered=answered, now=now)
    assert sent == len(answers)


def test_while_another_waits_none_holds_more_than_its_share_of_the_places() -> None:
    hosts = Hosts(4)
    assert [hosts.admit("a", NOON, creator=1) for _ in range(4)] == [None] * 4
    turn = hosts.admit("a", NOON, creator=2)
    assert turn is not None
    hosts.report("a", creator=1, answered=True, now=turn)
    assert hosts.admit("a", turn, creator=1) is not None  # three are its own, and two would be its share
    assert hosts.admit("a", turn, creator=2) is None
    hosts.report("a", creator=1, answered=True, now=turn)
    assert hosts.admit("a", turn, creator=1) is None  # nobody else waits now


def test_a_place_is_not_kept_for_who_does_not_come_back() -> None:
    hosts = Hosts(2)
    assert [hosts.admit("a", NOON, creator=1) for _ in range(2)] == [None] * 2
    assert hosts.admit("a", NOON, creator=2) is not None
    for _ in range(2):
        hosts.report("a", creator=1, answered=True, now=NOON + SECOND)
    assert [hosts.admit("a", NOON + 5 * SECOND, creator=1) for _ in range(2)] == [None] * 2


@pytest.mark.parametrize("tenants", [1, 4])
def test_a_flood_to_a_host_that_many_use_delays_the_others_by_a_share(tenants: int) -> None:
    """Two thousand of one creator wait for ten places and 0.1 s each; every other sends there now and then."""
    hosts, number, chance = Hosts(10), count(), Random(7)
    to_come = [(NOON, next(number), 0, NOON) for _ in range(2000)]
    for creator in range(1, 1 + tenants):
        instants = [NOON + SECOND * (1 + place * 0.7) for place in range(20)]
        to_come += [(at, next(number), creator, at) for at in instants]
    heapify(to_come)
    under_way: list[tuple[datetime, int, int]] = []
    waited: dict[bool, list[timedelta]] = {True: [], False: []}
    while to_come:
        now, _, creator, wanted = heappop(to_come)
        while under_way and under_way[0][0] <= now:
            ended, _, whose = heappop(under_way)
            hosts.report("a", creator=whose, answered=True, now=ended)
        turn = hosts.admit("a", now, creator=creator)
        if turn is not None:
            heappush(to_come, (turn, next(number), creator, wanted))
            continue
        heappush(under_way, (now + SECOND * chance.uniform(0.02, 0.18), next(number), creator))
        waited[creator == 0].append(now - wanted)
    assert max(waited[False]) < SECOND / 2
    assert max(waited[True]) < SECOND * 30  # 20 s alone


class Traffic(RuleBasedStateMachine):
    """Any interleaving of sends, ends and time, checked against a plain count."""

    PER_HOST = 3

    def __init__(self) -> None:
        super().__init__()
        self.hosts = Hosts(self.PER_HOST, address_of={"a": "x", "b": "x"}.get)
        self.now = NOON
        self.under_way = {"a": 0, "b": 0, "c": 0}
        self.of_creators: list[tuple[str, int]] = []
        self.failures = {"a": 0, "b": 0, "c": 0}

    @rule(host=st.sampled_from("abc"), creator=st.integers(1, 3))
    def send(self, host: str, creator: int) -> None:
        later = self.hosts.admit(host, self.now, creator=creator)
        if later is None:
            self.under_way[host] += 1
            self.of_creators.append((host, creator))
            if self.failures[host] >= FAILURES_TO_OPEN:
                assert self.under_way[host] == 1  # a probe is alone
        else:
            assert self.now < later <= self.now + PROBE_AFTER_MOST + WAIT_MOST

    @precondition(lambda self: self.of_creators)
    @rule(data=st.data(), answered=st.booleans())
    def end(self, data: st.DataObject, answered: bool) -> None:
        host, creator = self.of_creators.pop(data.draw(st.integers(0, len(self.of_creators) - 1)))
        self.under_way[host] -= 1
        self.hosts.report(host, creator=creator, answered=answered, now=self.now)
        self.failures[host] = 0 if answered else self.failures[host] + 1

    @precondition(lambda self: self.of_creators)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        host, creator = self.of_creators.pop(data.draw(st.integers(0, len(self.of_creators) - 1)))
        self.under_way[host] -= 1
        self.hosts.withdraw(host, creator=creator)

    @rule(seconds=st.integers(0, 400))
    def pass_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: not any(self.under_way.values()))
    @rule(host=st.sampled_from("abc"))
    def an_idle_host_is_admitted_sooner_or_later(self, host: str) -> None:
        self.now += PROBE_AFTER_MOST + SECOND
        assert self.hosts.admit(host, self.now) is None
        self.hosts.withdraw(host)

    @invariant()
    def never_above_the_cap(self) -> None:
        assert all(count <= self.PER_HOST for count in self.under_way.values())
        assert self.under_way["a"] + self.under_way["b"] <= self.PER_HOST


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
