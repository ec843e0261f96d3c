"""The table of moves: what the design draws, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qhronos_core.domain.lifecycle import (
    CANCELLED,
    COMPLETED,
    FAILED,
    MISSED,
    MOVES,
    PENDING,
    TERMINAL,
    UNFINISHED,
    Happening,
    ImpossibleMoveError,
    State,
    after,
)


def test_there_are_seven_states_known_by_name() -> None:
    assert {str(state) for state in State} == {
        "pending", "dispatching", "dispatched", "completed", "failed", "missed", "cancelled",
    }  # fmt: skip


def test_every_state_is_either_finished_or_unfinished() -> None:
    assert set(State) == TERMINAL | UNFINISHED
    assert not TERMINAL & UNFINISHED


@given(st.sampled_from(State), st.sampled_from(Happening))
def test_no_move_outside_the_table_can_happen(state: State, happening: Happening) -> None:
    if (state, happening) in MOVES:
        assert after(state, happening) is MOVES[state, happening]
    else:
        with pytest.raises(ImpossibleMoveError):
            after(state, happening)


@given(st.lists(st.sampled_from(Happening), max_size=40))
def test_completed_and_cancelled_are_for_ever_and_only_a_retry_leaves_failed_and_missed(
    happenings: list[Happening],
) -> None:
    state = PENDING
    for happening in happenings:
        if (state, happening) not in MOVES:
            continue
        before, state = state, after(state, happening)
        assert before not in (COMPLETED, CANCELLED)
        if before in (FAILED, MISSED):
            assert happening is Happening.RETRIED
            assert state is PENDING


def test_every_unfinished_state_can_reach_every_end() -> None:
    reached: dict[State, set[State]] = {state: set() for state in UNFINISHED}
    for _ in State:
        for (state, _happening), nxt in MOVES.items():
            if state in UNFINISHED:
                reached[state] |= {nxt} | reached.get(nxt, set())
    assert all(ends >= TERMINAL for ends in reached.values())


def test_every_happening_is_in_the_table() -> None:
    assert {happening for _, happening in MOVES} == set(Happening)
