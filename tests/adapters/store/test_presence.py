"""Which nodes serve, and who is connected to which."""

from qhronos_core.ports import PRESENT_FOR, Store
from tests.clock import FakeClock


async def test_the_last_word_of_a_node_holds_and_no_other(store: Store) -> None:
    await store.presence.hold("one", ["laptop", "phone"])
    await store.presence.hold("one", ["phone"])
    await store.presence.hold("two", ["watch"])
    assert await store.presence.elsewhere("two") == {"phone"}
    assert await store.presence.elsewhere("one") == {"watch"}
    assert await store.presence.elsewhere("three") == {"phone", "watch"}


async def test_a_node_without_clients_is_still_a_node(store: Store) -> None:
    assert await store.presence.nodes() == frozenset()
    await store.presence.hold("one", [])
    await store.presence.hold("two", ["watch"])
    assert await store.presence.nodes() == {"one", "two"}
    assert await store.presence.elsewhere("two") == frozenset()


async def test_presence_ages_out(store: Store, clock: FakeClock) -> None:
    await store.presence.hold("one", ["laptop"])
    clock.advance(PRESENT_FOR / 2)
    await store.presence.hold("two", [])
    clock.advance(PRESENT_FOR / 2)
    assert await store.presence.nodes() == {"two"}
    assert await store.presence.elsewhere("two") == frozenset()
