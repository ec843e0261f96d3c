"""Whatever is sent: an answer or the declared refusal, within 50 ms, and every fix it offers is accepted.

QHRONOS_FUZZ=1000000 sends that many instead of the 20,000 of every day.
"""

import os

from tests.domain.schedule.fuzz import scour

INPUTS = int(os.environ.get("QHRONOS_FUZZ", "20000"))


def test_nothing_but_the_declared_refusal_and_nothing_slow() -> None:
    outcomes = scour(INPUTS, seed=f"of {INPUTS}")

    assert outcomes[None] > INPUTS // 20  # a fuzz that only ever meets refusals tests nothing
    assert outcomes["invalid_schedule"] > INPUTS // 4
