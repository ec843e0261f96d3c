"""Sealing anew: everything, whatever happens meanwhile, and nothing lost (security.md §4, S33)."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from qhronos_core.adapters.local.at_rest import AtRestFiles
from qhronos_core.adapters.local.secrets import ensure_secrets
from qhronos_core.adapters.local.vault import AesVault, derived_key, head_of
from qhronos_core.domain.event import Event
from qhronos_core.domain.subscription import Subscription, SubscriptionSecrets
from qhronos_core.ports import (
    Changes,
    EventSave,
    EventSecrets,
    KeyMissingError,
    SealedIn,
    SealedValue,
    Store,
    Vault,
    VaultError,
)
from qhronos_core.usecases import at_rest
from qhronos_core.usecases.at_rest import AtRest, Progress
from qhronos_core.usecases.secrets import keeper_of
from qhronos_core.usecases.subscriptions import opened
from qhronos_mcp import rotation
from tests.adapters.store.conftest import clock as clock
from tests.adapters.store.conftest import place as place
from tests.adapters.store.conftest import store as store
from tests.adapters.store.scenes import a_webhook, kept
from tests.adapters.store.test_subscriptions import a_subscription
from tests.clock import FakeClock

OLD, NEW, LOST = (bytes([n]) * 32 for n in (1, 2, 3))


def secrets_of(n: int) -> EventSecrets:
    return EventSecrets(f"whsec_{n}", (), {"Authorization": f"Bearer {n}"})


async def sealed_events(store: Store, vault: Vault, count: int, *, first: int = 0) -> list[Event]:
    keeper = keeper_of(vault)
    events = []
    for n in range(first, first + count):
        event = a_webhook(hmac_secret_set=True)
        events.append(replace(event, secrets=keeper.seal(event.id, secrets_of(n))))
    await kept(store, *events)
    return events


async def a_sealed_subscription(store: Store, vault: Vault, name: str = "sub_1") -> Subscription:
    sealed = vault.seal(b'["whsec_s", []]', context=SealedIn.SUBSCRIPTIONS.context(name))
    subscription = a_subscription(name, secrets=sealed)
    assert await store.subscriptions.start(subscription, most=100)
    return subscription


async def anew(store: Store, vault: Vault) -> Progress:
    return [progress async for progress in AtRest(store, vault, None).seal_anew()][-1]


async def test_everything_is_sealed_anew_and_opens_with_the_new_key_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_rest, "BATCH", 3)
    events = await sealed_events(store, AesVault(OLD), 7)
    subscription = await a_sealed_subscription(store, AesVault(OLD))
    assert await anew(store, AesVault(NEW, retired=[OLD])) == Progress(8, 8, finished=True)
    alone = AesVault(NEW)
    for n, event in enumerate(events):
        now = await store.events.get(event.id)
        assert keeper_of(alone).open(now) == secrets_of(n)
        assert now.version == event.version
    row = await store.subscriptions.get(subscription.id)
    assert row is not None
    assert opened(alone, row) == SubscriptionSecrets("whsec_s")
    assert await anew(store, alone) == Progress(0, finished=True)


async def test_a_run_that_ended_half_way_is_finished_by_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_rest, "BATCH", 2)
    await sealed_events(store, AesVault(OLD), 6)
    vault = AesVault(NEW, retired=[OLD])
    async for progress in AtRest(store, vault, None).seal_anew():
        assert progress.sealed_anew == 2
        break
    assert dict(await store.sealed.heads(9)) == {head_of(OLD): 4, head_of(NEW): 2}
    assert await anew(store, vault) == Progress(4, 4, finished=True)


class Meddling:
    """A store in which something happens between the reading of a batch and its writing."""

    def __init__(self, store: Store, meddle: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._meddle: Callable[[], Awaitable[None]] | None = meddle

    @property
    def sealed(self) -> "Meddling":
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store.sealed, name)

    async def replace(self, values: Sequence[tuple[SealedValue, bytes]]) -> int:
        if self._meddle is not None:
            meddle, self._meddle = self._meddle, None
            await meddle()
        return await self._store.sealed.replace(values)


async def test_a_secret_changed_meanwhile_by_a_node_with_the_old_key_is_kept_and_sealed_anew(store: Store) -> None:
    """A write between the read and the re-seal is neither lost nor left behind."""
    one, other = await sealed_events(store, AesVault(OLD), 2)

    async def meddle() -> None:
        sealed = keeper_of(AesVault(OLD)).seal(one.id, secrets_of(77))
        await store.commit(Changes(saves=[EventSave(replace(one, secrets=sealed, version=2), one)]))
        await sealed_events(store, AesVault(OLD), 1, first=9)  # and a new one, behind where we are

    meddling: Any = Meddling(store, meddle)
    progress = await anew(meddling, AesVault(NEW, retired=[OLD]))
    assert (progress.sealed_anew, progress.finished) == (3, True)
    keeper = keeper_of(AesVault(NEW))
    assert keeper.open(await store.events.get(one.id)) == secrets_of(77)
    assert keeper.open(await store.events.get(other.id)) == secrets_of(1)
    assert dict(await store.sealed.heads(9)) == {head_of(NEW): 3}


async def test_two_runs_at_once_do_no_harm(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_rest, "BATCH", 2)
    events = await sealed_events(store, AesVault(OLD), 5)
    vault = AesVault(NEW, retired=[OLD])

    async def other_run() -> None:
        await anew(store, vault)

    meddling: Any = Meddling(store, other_run)
    assert (await anew(meddling, vault)).finished
    for n, event in enumerate(events):
        assert keeper_of(AesVault(NEW)).open(await store.events.get(event.id)) == secrets_of(n)


async def test_what_cannot_be_opened_is_counted_left_alone_and_keeps_nothing_else(store: Store) -> None:
    (lost,) = await sealed_events(store, AesVault(LOST), 1)
    one, other = await sealed_events(store, AesVault(OLD), 2)
    swapped = [(SealedValue(SealedIn.EVENTS, str(each.id), each.secrets or b""), each) for each in (one, other)]
    await store.sealed.replace([(swapped[0][0], other.secrets or b"")])  # S33: a ciphertext of another row
    await sealed_events(store, AesVault(OLD), 3, first=3)
    vault = AesVault(NEW, retired=[OLD])
    assert await anew(store, vault) == Progress(6, 4, unopened=1, damaged=1, finished=True)
    keeper = keeper_of(AesVault(NEW, retired=[OLD]))
    with pytest.raises(KeyMissingError):
        keeper.open(await store.events.get(lost.id))
    with pytest.raises(VaultError, match="another row"):
        keeper.open(await store.events.get(one.id))


async def test_the_key_derived_from_a_former_signing_secret_is_an_earlier_key(store: Store) -> None:
    before, now = derived_key("a" * 32), derived_key("b" * 32)
    await sealed_events(store, AesVault(before), 1)
    keys = await AtRest(store, AesVault(now, retired=[before]), None).keys()
    assert [(key.values, key.current, key.kept) for key in keys] == [(0, True, True), (1, False, True)]


# --- where the key is a file of ours --------------------------------------------------------------


@dataclass
class Embedded:
    files: AtRestFiles
    store: Store
    clock: FakeClock
    directory: Path

    def process(self) -> AesVault:
        """A process that starts now: its vault."""
        keys = AtRestFiles(self.directory.parent)
        found = keys.keys()
        return AesVault(found.current, retired=found.retired, renewed=keys.renewed)

    def at_rest(self) -> AtRest:
        return AtRest(self.store, self.process(), self.files)

    async def rotate(self) -> str:
        said: list[str] = []
        assert await rotation.rotate(self.at_rest(), said.append)
        return "\n".join(said)


@pytest.fixture
def embedded(store: Store, clock: FakeClock, tmp_path: Path) -> Embedded:
    ensure_secrets(tmp_path / "home")
    return Embedded(AtRestFiles(tmp_path / "home"), store, clock, tmp_path / "home" / "secrets")


async def test_a_rotation_makes_a_key_seals_with_it_and_forgets_the_old_one_an_hour_later(embedded: Embedded) -> None:
    serving = embedded.process()
    (event,) = await sealed_events(embedded.store, serving, 1)
    before = embedded.at_rest().current
    said = await embedded.rotate()
    now = embedded.at_rest().current
    assert now != before
    assert f"{now} is the at-rest key now; {before} is kept" in said
    assert "Sealed anew: 1." in said
    # A process that has served all the time: it opens and seals with the new one, unasked.
    assert keeper_of(serving).open(await embedded.store.events.get(event.id)) == secrets_of(0)
    assert serving.head()[1:].hex() == now
    for file in embedded.directory.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600

    assert await embedded.at_rest().forget() == []
    embedded.clock.advance(timedelta(hours=1))
    assert [key.name for key in await embedded.at_rest().forget()] == [before]
    assert not (embedded.directory / "retired_at_rest_keys").exists()
    assert keeper_of(embedded.process()).open(await embedded.store.events.get(event.id)) == secrets_of(0)


async def test_a_retired_key_that_still_seals_something_is_never_forgotten(embedded: Embedded) -> None:
    (event,) = await sealed_events(embedded.store, embedded.process(), 1)
    embedded.files.renew(embedded.clock.now())
    embedded.clock.advance(timedelta(days=9))
    assert await embedded.at_rest().forget() == []
    assert keeper_of(embedded.process()).open(await embedded.store.events.get(event.id)) == secrets_of(0)


async def test_killed_after_its_new_key_a_rotation_is_finished_without_another(embedded: Embedded) -> None:
    await sealed_events(embedded.store, embedded.process(), 2)
    embedded.files.renew(embedded.clock.now())
    made = embedded.at_rest().current
    said = await embedded.rotate()
    assert "sealed with earlier keys" in said
    assert embedded.at_rest().current == made
    assert [key.values for key in await embedded.at_rest().keys()] == [2, 0]


async def test_killed_before_its_new_key_nothing_is_lost(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two files: the present key is among the retired ones, and stays the present one."""
    (event,) = await sealed_events(embedded.store, embedded.process(), 1)
    before = embedded.at_rest().current

    def killed(_bytes: int) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("qhronos_core.adapters.local.at_rest.secrets.token_urlsafe", killed)
        with pytest.raises(KeyboardInterrupt):
            embedded.files.renew(embedded.clock.now())
    assert embedded.at_rest().current == before
    embedded.clock.advance(timedelta(days=1))
    assert await embedded.at_rest().forget() == []
    assert keeper_of(embedded.process()).open(await embedded.store.events.get(event.id)) == secrets_of(0)
    await embedded.rotate()
    assert keeper_of(embedded.process()).open(await embedded.store.events.get(event.id)) == secrets_of(0)


async def test_rotated_again_and_again_all_keys_in_between_go_on_opening(embedded: Embedded) -> None:
    held = embedded.process()
    event = (await sealed_events(embedded.store, held, 1))[0]
    for _ in range(3):
        await embedded.rotate()
    assert keeper_of(embedded.process()).open(event) == secrets_of(0)  # as an attempt under way still has it
    assert len(embedded.files.retired()) == 3
