"""What a stranger who has read only the written rules found by driving a running server; one test per finding."""

from uuid import uuid4

from tests.faces.rest.house import DAILY, House


def _but_the_time(answer: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in answer.items() if name != "now"}


async def test_what_is_out_of_reach_and_what_never_was_are_the_same_to_the_byte(house: House) -> None:
    theirs = await house.event(await house.as_("write", "user:b"))
    stranger = await house.as_("write", "user:a")
    for method, path in (
        ("GET", "/events/{}"),
        ("PUT", "/events/{}"),
        ("DELETE", "/events/{}"),
        ("POST", "/events/{}/trigger"),
        ("GET", "/events/{}/occurrences"),
        ("GET", "/events/{}/preview"),
    ):
        hidden = await stranger.request(method, path.format(theirs["id"]), json={})
        absent = await stranger.request(method, path.format(uuid4()), json={})
        assert hidden.status_code == absent.status_code == 404
        assert _but_the_time(hidden.json()) == _but_the_time(absent.json()), (method, path)


async def test_no_body_and_an_empty_object_are_the_same_request(house: House) -> None:
    event = await house.event()
    client = house.master
    client.headers["Idempotency-Key"] = "once"
    first = await client.post(f"/events/{event['id']}/trigger", json={})
    again = await client.post(f"/events/{event['id']}/trigger")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.content == first.content


async def test_null_takes_the_status_back_to_its_default(house: House) -> None:
    event = await house.event(status="paused")
    answer = await house.master.put(f"/events/{event['id']}", json={"status": None})
    assert (answer.status_code, answer.json()["status"]) == (200, "active")
    again = await house.master.put(f"/events/{event['id']}", json={"status": None})
    assert (again.json()["result"], again.json()["updated_at"]) == ("unchanged", answer.json()["updated_at"])
    made = await house.master.post("/events", json={**DAILY, "status": None})
    assert (made.status_code, made.json()["status"]) == (201, "active")


async def test_later_sent_twice_puts_off_once_and_another_delay_puts_off_anew(house: House) -> None:
    event = await house.event()
    made = (await house.master.post(f"/events/{event['id']}/trigger")).json()
    await house.world.settle_down()
    path = f"/occurrences/{made['id']}/ack"
    first = await house.master.post(path, json={"outcome": "later", "delay": "5m"})
    assert (first.status_code, first.json()["status"]) == (200, "pending")
    house.world.clock.advance(seconds=10)
    again = await house.master.post(path, json={"outcome": "later"})
    assert (again.status_code, again.json()) == (200, first.json())
    longer = await house.master.post(path, json={"outcome": "later", "delay": "1h"})
    assert longer.json()["due_at"] > first.json()["due_at"]
