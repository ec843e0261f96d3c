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


# --- secret headers -------------------------------------------------------------------------------


def call(url: str, **headers: str) -> dict[str, Any]:
    return {"type": "apicall", "params": {"url": url, "headers": headers, "secret_headers": ["X-Key"]}}


@pytest.mark.parametrize("url", ["https://a.example/other", "https://a.example?x=1", "HTTPS://A.example/in"])
async def test_a_stored_header_goes_on_to_the_origin_it_was_given_for(secretly: Secretly, url: str) -> None:
    event, _ = await secretly.makes(action=call("https://a.example/in", **{"X-Key": "canary"}))
    await secretly.changes(event, action=call(url, **{"X-Key": "***"}))
    assert (await secretly.secrets(event)).headers == {"X-Key": "canary"}


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/in",
        "http://a.example/in",
        "https://a.example:8443/in",
        "https://a.example.evil.example/in",
    ],
)
async def test_a_stored_header_is_never_sent_to_another_origin_by_who_does_not_know_it(
    secretly: Secretly, url: str
) -> None:
    event, _ = await secretly.makes(action=call("https://a.example/in", **{"X-Key": "canary"}))
    for dry_run in (True, False):
        with pytest.raises(InvalidInputError) as refused:
            await secretly.cases.update(
                event.id, {"action": call(url, **{"X-Key": "***"})}, caller=OWNER, dry_run=dry_run
            )
        assert [fault.field for fault in refused.value.faults] == ["action.params.headers.X-Key"]
        assert "Send it again" in refused.value.faults[0].why
    assert await secretly.world.store.events.get(event.id) == event
    await secretly.changes(event, action=call(url, **{"X-Key": "new"}))
    assert (await secretly.secrets(event)).headers == {"X-Key": "new"}


async def test_a_stored_header_is_forgotten_where_the_action_no_longer_names_it(secretly: Secretly) -> None:
    """So that it cannot be had by way of another action."""
    event, _ = await secretly.makes(action=call("https://a.example/in", **{"X-Key": "canary"}))
    await secretly.changes(event, action={"type": "inbox"})
    assert (await secretly.secrets(event)).headers == {}
    with pytest.raises(InvalidInputError):
        await secretly.changes(event, action=call("https://a.example/in", **{"X-Key": "***"}))
