"""What is sealed can be read and replaced as bytes, under nobody's feet."""

from dataclasses import replace

from qhronos_core.ports import Changes, EventSave, SealedIn, SealedValue, Store
from tests.adapters.store.scenes import a_webhook, an_event, kept
from tests.adapters.store.test_subscriptions import a_subscription

OLD, NEW = b"\x01old-key.", b"\x01new-key."


async def every(store: Store, head: bytes, *, limit: int = 2) -> list[SealedValue]:
    """Batch by batch."""
    found: list[SealedValue] = []
    while batch := await store.sealed.without(head, after=found[-1] if found else None, limit=limit):
        found += batch
    return found


async def test_every_sealed_value_is_met_once_and_none_of_the_key_that_is_left_out(store: Store) -> None:
    old = [a_webhook(secrets=OLD + bytes([n])) for n in range(5)]
    await kept(store, *old, a_webhook(secrets=NEW + b"x"), an_event())
    for name in ("sub_1", "sub_2"):
        await store.subscriptions.start(a_subscription(name, secrets=OLD + name.encode()), most=9)
    await store.subscriptions.start(a_subscription("sub_3", secrets=NEW), most=9)
    await store.subscriptions.start(a_subscription("sub_4", secrets=OLD), most=9)
    await store.subscriptions.end("sub_4")  # a tombstone keeps no secret
    for limit in (1, 2, 100):
        found = await every(store, NEW, limit=limit)
        assert sorted((value.table, value.row, value.sealed) for value in found) == sorted(
            [
                *((SealedIn.EVENTS, str(event.id), event.secrets or b"") for event in old),
                (SealedIn.SUBSCRIPTIONS, "sub_1", OLD + b"sub_1"),
                (SealedIn.SUBSCRIPTIONS, "sub_2", OLD + b"sub_2"),
            ]
        )
    assert dict(await store.sealed.heads(len(OLD))) == {OLD: 7, NEW: 2}


async def test_what_was_changed_meanwhile_is_not_replaced_and_the_rest_is(store: Store) -> None:
    event, other = a_webhook(secrets=OLD + b"1"), a_webhook(secrets=OLD + b"2")
    await kept(store, event, other)
    await store.subscriptions.start(a_subscription(secrets=OLD + b"3"), most=1)
    read = await every(store, NEW)
    changed = replace(event, secrets=OLD + b"changed", version=2)
    await store.commit(Changes(saves=[EventSave(changed, event)]))
    assert await store.sealed.replace([(value, NEW + value.sealed[-1:]) for value in read]) == 2
    assert (await store.events.get(event.id)).secrets == OLD + b"changed"
    assert await store.events.get(other.id) == replace(other, secrets=NEW + b"2")  # its version too is what it was
    row = await store.subscriptions.get("sub_1")
    assert row is not None
    assert row.secrets == NEW + b"3"
    assert await store.sealed.replace([]) == 0


async def test_a_change_of_something_else_does_not_bring_back_what_was_replaced(store: Store) -> None:
    event, bare = a_webhook(secrets=OLD), an_event()
    await kept(store, event, bare)
    (value,) = await every(store, NEW)
    await store.sealed.replace([(value, NEW)])
    renamed = [EventSave(replace(each, name="another", version=2), each) for each in (event, bare)]
    await store.commit(Changes(saves=renamed))
    assert (await store.events.get(event.id)).secrets == NEW
    assert (await store.events.get(bare.id)).secrets is None
    now = await store.events.get(event.id)
    await store.commit(Changes(saves=[EventSave(replace(now, secrets=OLD + b"2", version=3), now)]))
    assert (await store.events.get(event.id)).secrets == OLD + b"2"
