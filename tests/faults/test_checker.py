"""A checker that has never failed proves nothing: each figure is made to turn red."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tests.faults.rig.checker import Wanted, judge
from tests.faults.rig.receiver import Received

DUE = datetime(2027, 1, 1, 12, tzinfo=UTC)
WANTED = [Wanted("e", DUE)]
AT = DUE.timestamp() + 0.01
SENT = Received(AT, "/", "o", 1, "0", "v1,x", "h", "e", "2027-01-01T12:00:00Z", True, AT + 0.1)


def row(**fields: Any) -> dict[str, Any]:
    return {"id": "o", "event_id": "e", "scheduled_at": "2027-01-01T12:00:00Z", "status": "completed", **fields}


def test_what_went_well_is_clean() -> None:
    assert judge(WANTED, [SENT], [row()]).clean()


def test_a_refused_one_that_is_visibly_failed_is_not_lost() -> None:
    assert judge(WANTED, [replace(SENT, accepted=False)], [row(status="failed")]).clean()


def test_each_fault_is_seen() -> None:
    assert judge(WANTED, [], []).faults["lost"] == 1
    assert judge(WANTED, [], [row(status="pending")]).faults["lost"] == 1
    assert judge(WANTED, [SENT, replace(SENT, webhook_id="p")], [row()]).faults["split"] == 1
    assert judge(WANTED, [SENT, replace(SENT, webhook_id="p")], [row()]).faults["alien"] == 1
    assert judge(WANTED, [replace(SENT, at=DUE.timestamp() - 0.1)], [row()]).faults["early"] == 1
    assert judge(WANTED, [replace(SENT, accepted=False)], [row()]).faults["lying"] == 1
    twice = [{"number": 1, "outcome": "accepted"}, {"number": 2, "outcome": "accepted"}]
    assert judge(WANTED, [SENT], [row()], {"o": twice}).faults["fence breach"] == 1
    assert judge(WANTED, [SENT, SENT], [row()]).duplicates == 1


def test_a_duplicate_is_explained_by_a_fault_between_request_and_record_and_by_nothing_else() -> None:
    again = replace(SENT, at=AT + 5, answered_at=AT + 5.1)
    for blows, unexplained in (
        ([], 1),
        ([(AT - 1, AT - 0.1)], 1),
        ([(AT + 0.05, AT + 0.2)], 0),
        ([(AT + 3, AT + 6)], 1),
    ):
        verdict = judge(WANTED, [SENT, again], [row()], blows=blows)
        assert (verdict.duplicates, verdict.faults["unexplained"]) == (1, unexplained), blows
