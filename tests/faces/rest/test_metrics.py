"""S34, security.md §5: figures are useful, and their labels come from closed sets."""

import re
from typing import Any

import pytest

from qhronos_core.domain.errors import StoreUnavailableError
from qhronos_mcp.rest.routes import OPERATIONS
from tests.faces.rest.house import METRICS_TOKEN, House

LABELS = {"method", "route", "status", "le"}


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
