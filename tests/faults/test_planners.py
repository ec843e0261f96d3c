"""Two planners insert the same instant (F41)."""

from pathlib import Path

import pytest

from tests.adapters.store.places import OPENS, Place
from tests.faults.rig.planners import race


@pytest.fixture(params=sorted(OPENS))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return Place("sqlite", str(tmp_path / "data"))
    return Place("postgres", request.getfixturevalue("migrated_postgres_url"))


async def test_an_instant_that_three_nodes_plan_at_once_has_one_row(place: Place) -> None:
    rows, winners = await race(place, 500, seed=41)
    assert rows == {1: 500}
    assert winners["no trigger"] + winners["no edit"] > 0
