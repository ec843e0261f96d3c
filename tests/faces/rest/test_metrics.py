"""S34, security.md §5: figures are useful, and their labels come from closed sets."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from qhronos_core.domain.errors import StoreUnavailableError
from qhronos_mcp.rest.routes import OPERATIONS
from tests.faces.rest.house import METRICS_TOKEN, House
from tests.world import ACCEPT, GONE, HOOK, NO_ANSWER, REFUSE

LABELS = {"method", "route", "status", "le", "action", "outcome", "state", "kind"}


async def figures(house: House) -> str:
    answer = await house.client(METRICS_TOKEN).get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.text


async def test_answers_are_counted_by_method_route_and_status(house: House) -> None:
    event = await house.event()
    await house.master.get(f"/events/{event['id']}")
    await house.master.get("/events/x")
    await house.client().get("/events")
    text = await figures(house)
    assert 'qhronos_http_requests_total{method="POST",route="/events",status="201"} 1.0' in text
    assert 'qhronos_http_requests_total{method="GET",route="/events/{id}",status="200"} 1.0' in text
    assert 'qhronos_http_requests_total{method="GET",route="/events/{id}",status="400"} 1.0' in text
    assert 'qhronos_http_requests_total{method="GET",route="/events",status="401"} 1.0' in text
    assert "qhronos_store_up 1.0" in text


async def test_no_label_holds_what_a_caller_wrote(house: House) -> None:
    canary = "canary5f2a"
    await house.event(name=canary, tags=[canary], key=canary)
    for path in (f"/{canary}", f"/events/{canary}", f"/events?tags={canary}"):
        await house.master.get(path)
    await house.master.request(canary.upper(), "/events")
    text = await figures(house)
    assert canary not in text.lower()
    assert set(re.findall(r'(\w+)="', text)) <= LABELS
    routes = {operation.path for operation in OPERATIONS} | {"unknown"}
    assert set(re.findall(r'route="([^"]+)"', text)) <= routes


async def test_what_is_due_is_told(house: House) -> None:
    await house.event(schedule="in 1 hour")
    house.world.clock.advance(seconds=3600 + 90)
    text = await figures(house)
    assert "qhronos_due 1.0" in text
    assert "qhronos_oldest_due_seconds 90.0" in text


async def test_a_scrape_answers_while_the_store_is_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError()

    monkeypatch.setattr(house.world.store.occurrences, "backlog", away)
    text = await figures(house)
    assert "qhronos_store_up 0.0" in text
    assert "qhronos_due NaN" in text


async def test_two_apps_do_not_share_their_figures(house: House, tmp_path: Any) -> None:
    from tests.faces.rest.house import a_house

    async with a_house(tmp_path / "other") as other:
        await other.event()
        assert 'route="/events"' in await figures(other)
        assert 'route="/events"' not in await figures(house)


# --- what the core does --------------------------------------------------------------------------------


def figure(text: str, name: str) -> float:
    [value] = re.findall(rf"^qhronos_{re.escape(name)} (\S+)$", text, re.M)
    return float(value)


async def test_before_anything_has_happened_every_figure_is_there(house: House) -> None:
    text = await figures(house)
    assert figure(text, 'attempts_total{action="webhook",outcome="accepted"}') == 0
    assert figure(text, 'occurrences_finished_total{state="missed"}') == 0
    assert figure(text, 'subscription_deliveries_total{outcome="given_up"}') == 0
    for histogram in ("lateness_seconds", "claim_seconds", "settle_seconds", "journal_delay_seconds"):
        assert figure(text, f"{histogram}_count") == figure(text, histogram + '_bucket{le="+Inf"}') == 0
    for name in ('open{kind="streams"}', 'open{kind="waits"}', 'open{kind="sockets"}', "breakers_open"):
        assert figure(text, name) == 0


async def test_every_figure_is_described_and_every_described_one_is_there(house: House) -> None:
    text = await figures(house)
    shown = {f"{name}_total" if kind == "counter" else name for name, kind in families(text)}
    page = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
    described = [
        re.findall(r"`(qhronos_\w+)`", line.split("|")[1]) for line in page.splitlines() if line.startswith("| `")
    ]
    assert shown == {name for names in described for name in names}


def families(text: str) -> list[tuple[str, str]]:
    return [(name.removesuffix("_total"), kind) for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", text, re.M)]


async def test_attempts_are_counted_by_action_and_outcome_and_ends_by_state(house: House) -> None:
    world = house.world
    world.courier.will(REFUSE, ACCEPT, GONE, NO_ANSWER)
    retry = {"max_attempts": 2, "delays": ["10s"]}
    await house.event(schedule="in 1 hour", action=HOOK, retry=retry)
    world.clock.advance(seconds=3_602)
    await world.settle_down()
    world.clock.advance(seconds=20)  # refused, then accepted
    await world.settle_down()
    for _ in range(2):  # gone; no answer
        await house.event(schedule="in 1 hour", action=HOOK, retry={"max_attempts": 1})
        world.clock.advance(seconds=3_600)
        await world.settle_down()
    text = await figures(house)
    told = {
        outcome: figure(text, f'attempts_total{{action="webhook",outcome="{outcome}"}}')
        for outcome in ("accepted", "refused", "no_answer", "lease_lost")
    }
    assert told == {"accepted": 1, "refused": 2, "no_answer": 1, "lease_lost": 0}
    assert figure(text, 'occurrences_finished_total{state="completed"}') == 1
    assert figure(text, 'occurrences_finished_total{state="failed"}') == 2
    assert figure(text, "lateness_seconds_count") == 4
    assert figure(text, 'lateness_seconds_bucket{le="1.0"}') == 2
    assert figure(text, 'lateness_seconds_bucket{le="2.5"}') == 3
    assert figure(text, 'claim_occurrences_bucket{le="1.0"}') == figure(text, "claim_seconds_count")
    assert figure(text, "claim_occurrences_sum") == 4
    assert figure(text, "settle_occurrences_sum") == 4
    assert figure(text, "late_outcomes_total") == 0


async def test_a_lost_lease_an_acknowledgement_a_deletion_and_what_was_missed_are_counted(house: House) -> None:
    world = house.world
    await house.event(schedule="in 1 hour", action=HOOK)
    world.clock.advance(seconds=3_600)
    await world.store.claim_due(node="dead", lease=timedelta(seconds=5), limit=10, judge=world.judge)
    world.clock.advance(seconds=6)
    await world.settle_down()
    item = await house.inbox_occurrence()
    assert (await house.master.post(f"/occurrences/{item['id']}/ack", json={"outcome": "done"})).status_code == 200
    waiting = await house.inbox_occurrence()
    await house.master.delete(f"/events/{waiting['event_id']}")
    minutely = await house.event(schedule="* * * * *", catch_up="none")
    await world.settle_down()
    world.clock.advance(seconds=3_600)
    await world.settle_down()
    missed = (await house.master.get(f"/events/{minutely['id']}/occurrences?status=missed")).json()
    text = await figures(house)
    assert figure(text, 'attempts_total{action="webhook",outcome="lease_lost"}') == 1
    assert figure(text, 'attempts_total{action="webhook",outcome="accepted"}') == 1
    assert figure(text, 'occurrences_finished_total{state="completed"}') == 2
    assert figure(text, 'occurrences_finished_total{state="cancelled"}') == 1
    assert figure(text, 'occurrences_finished_total{state="missed"}') == len(missed) > 50
