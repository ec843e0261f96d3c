"""S32: a secret per event, made where none is given, told once; for a day after a change both sign."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from qhronos_core.adapters.local.vault import AesVault
from qhronos_core.domain.errors import InvalidInputError
from qhronos_core.domain.event import Event
from qhronos_core.domain.signature import key_of
from qhronos_core.ports import EventSecrets
from qhronos_core.usecases.events import EventCases, EventRules
from qhronos_core.usecases.secrets import keeper_of
from tests.world import HOOK, OWNER, World, a_world, anywhere

KEEPER = keeper_of(AesVault(bytes(range(32))))
GIVEN = "a secret of at least twenty-four bytes"


@dataclass
class Secretly:
    world: World
    cases: EventCases

    async def makes(self, **fields: Any) -> tuple[Event, str | None]:
        given = {"name": "hook", "schedule": "0 9 * * *", "action": HOOK, **fields}
        answer = await self.cases.create(given, caller=OWNER)
        return answer.event, answer.secret_once

    async def changes(self, event: Event, **fields: Any) -> str | None:
        return (await self.cases.update(event.id, fields, caller=OWNER)).secret_once

    async def secrets(self, event: Event) -> EventSecrets:
        return KEEPER.open(await self.world.store.events.get(event.id))

    async def signing(self, event: Event) -> list[str | None]:
        """Those that sign now, the present one first."""
        secrets = await self.secrets(event)
        now = self.world.clock.now()
        return [secrets.hmac_secret, *(old for old, until in reversed(secrets.retired) if until > now)]


@pytest.fixture
async def secretly(tmp_path: Path) -> AsyncIterator[Secretly]:
    async with a_world(tmp_path) as world:
        cases = EventCases(world.store, world.signals, keeper=KEEPER, check_destination=anywhere, rules=EventRules())
        yield Secretly(world, cases)


async def test_one_that_is_given_is_used_and_not_told_again(secretly: Secretly) -> None:
    event, told = await secretly.makes(hmac_secret=GIVEN)
    assert told is None
    assert await secretly.signing(event) == [GIVEN]


@pytest.mark.parametrize("fields", [{}, {"hmac_secret": None}])
async def test_none_is_made_strong_and_told_once(secretly: Secretly, fields: dict[str, Any]) -> None:
    event, told = await secretly.makes(**fields)
    other = (await secretly.makes(**fields))[1]
    assert told is not None
    assert told != other
    assert len(key_of(told)) == 32
    assert await secretly.signing(event) == [told]
    assert await secretly.changes(event, name="renamed") is None


async def test_an_empty_one_is_refused_at_the_making_and_later(secretly: Secretly) -> None:
    with pytest.raises(InvalidInputError):
        await secretly.makes(hmac_secret="")
    event, told = await secretly.makes()
    with pytest.raises(InvalidInputError):
        await secretly.changes(event, hmac_secret="")
    assert await secretly.signing(event) == [told]


async def test_for_a_day_after_a_change_both_sign_and_then_the_new_one_alone(secretly: Secretly) -> None:
    event, old = await secretly.makes()
    new = await secretly.changes(event, hmac_secret=None)
    assert await secretly.signing(event) == [new, old]
    secretly.world.clock.advance(timedelta(hours=24) - timedelta(seconds=1))
    assert await secretly.signing(event) == [new, old]
    secretly.world.clock.advance(timedelta(seconds=1))
    assert await secretly.signing(event) == [new]


async def test_changed_back_each_signs_once(secretly: Secretly) -> None:
    event, _ = await secretly.makes(hmac_secret=GIVEN)
    other = await secretly.changes(event, hmac_secret=None)
    await secretly.changes(event, hmac_secret=GIVEN)
    assert await secretly.signing(event) == [GIVEN, other]
    await secretly.changes(event, hmac_secret=GIVEN)
    assert await secretly.signing(event) == [GIVEN, other]


async def test_however_often_it_is_changed_its_signatures_stay_few(secretly: Secretly) -> None:
    """A receiver bounds a header line: a hundred changes in a day must not make it refuse."""
    event, _ = await secretly.makes()
    told = [await secretly.changes(event, hmac_secret=None) for _ in range(10)]
    assert await secretly.signing(event) == told[:-6:-1]


async def test_an_event_that_signs_nothing_has_none(secretly: Secretly) -> None:
    event, told = await secretly.makes(action={"type": "inbox"})
    assert (told, event.secrets, event.hmac_secret_set) == (None, None, False)
    assert await secretly.changes(event, hmac_secret=None) is None
    changed, told = await secretly.makes(action={"type": "inbox"})
    assert await secretly.changes(changed, action=HOOK) is not None
