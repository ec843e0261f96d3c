"""Which rows wait in one lane."""

import pytest

from qhronos_core.domain.event import Action, ActionType
from qhronos_core.domain.lanes import creator_of, lane_of
from tests.adapters.store.scenes import an_event


def lane(creator: str, kind: ActionType = ActionType.INBOX, **params: str) -> int:
    return lane_of(an_event(created_by=creator, action=Action(kind, params)))


def webhook(creator: str, url: str) -> int:
    return lane(creator, ActionType.WEBHOOK, url=url)


def test_what_one_creator_sends_to_one_origin_waits_in_one_lane() -> None:
    assert webhook("ada", "https://a.example/one?x=1") == webhook("ada", "https://a.example/two/three")
    assert webhook("ada", "https://a.example/") == lane("ada", ActionType.APICALL, url="https://a.example/")


@pytest.mark.parametrize("url", ["https://b.example/", "https://a.example:8443/", "http://a.example/"])
def test_another_origin_is_another_lane_of_the_same_creator(url: str) -> None:
    one, other = webhook("ada", "https://a.example/"), webhook("ada", url)
    assert one != other
    assert creator_of(one) == creator_of(other)


def test_clients_and_the_inbox_have_lanes_of_their_own() -> None:
    lanes = {
        lane("ada"),
        lane("ada", ActionType.WEBSOCKET, client_name="desk"),
        lane("ada", ActionType.WEBSOCKET, client_name="phone"),
        webhook("ada", "https://a.example/"),
    }
    assert len(lanes) == 4
    assert len({creator_of(one) for one in lanes}) == 1


def test_two_creators_share_no_lane() -> None:
    assert creator_of(webhook("ada", "https://a.example/")) != creator_of(webhook("bob", "https://a.example/"))


def test_a_lane_is_a_number_that_both_stores_hold() -> None:
    assert all(0 <= webhook(f"sub-{n}", f"https://{n}.example/") < 2**31 for n in range(1000))
