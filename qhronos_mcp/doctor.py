"""`qhronos doctor`: looks at an installation and says what is well and what to do about the rest."""

import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from qhronos_core.config import Settings
from qhronos_core.domain.access import Access, Principal, Reach
from qhronos_core.domain.errors import QhronosError, StoreUnavailableError
from qhronos_core.domain.event import EventStatus
from qhronos_core.domain.lifecycle import FAILED
from qhronos_core.ports import EventQuery, OccurrenceQuery, Page, whole
from qhronos_core.usecases.at_rest import KeyInUse
from qhronos_core.wiring import Core, absent

OLDEST_WELL: Final = 60.0  # seconds a due row may wait while a node is up
AT_ONCE: Final = 1_000  # rows of a list
_OPERATOR: Final = Principal("master", Access.ADMIN, frozenset(), master=True, holder="master")
_EVERYTHING: Final = Reach(everything=True)


@dataclass(frozen=True, slots=True)
class Finding:
    well: bool
    says: str


def unopened(settings: Settings) -> list[Finding]:
    """What keeps an installation from being opened to be looked at; a start would make it anew, and empty."""
    return [
        Finding(
            False,
            f"{path} is missing. Put it back from your backup with all that was beside it, or look elsewhere "
            "(QHRONOS_DATA_DIR, data_dir). A start without it makes a new one, which knows nothing of the old.",
        )
        for path in absent(settings)
    ]


async def examine(core: Core) -> AsyncIterator[Finding]:
    """Every finding, the most important first. Changes nothing."""
    try:
        status = await core.status()
    except QhronosError as error:
        away = str(error) == str(StoreUnavailableError())
        mend = "The store does not answer. Start it, or mend `database` in the configuration; the log above says why."
        problem = (await core.store.status()).get("problem", error)
        yield Finding(False, mend if away and not core.settings.embedded else f"The store does not answer: {problem}")
        return
    store = status["store"]
    migrations = store.get("migrations") or ["none"]
    yield Finding(True, f"The store answers: {store.get('kind')}, schema {migrations[-1]}.")
    if store.get("durable") is False:
        yield Finding(
            False,
            "The server may lose what it has acknowledged: `fsync` or `synchronous_commit` is off there. Turn both on.",
        )
    for line in await core.store.damage():
        yield Finding(False, f"The store is damaged ({line}). Stop every server on it and put a backup in its place.")
    oldest = status["oldest_due_seconds"]
    if status["due"] and oldest > OLDEST_WELL:
        yield Finding(
            False,
            f"{status['due']} occurrences are due and wait for {oldest:.0f} s: is a server running? `qhronos serve`.",
        )
    else:
        yield Finding(True, f"{status['due']} occurrences are due now.")
    planned_by = await core.store.zones_version()
    if planned_by not in (None, status["tzdata"]):
        yield Finding(
            False,
            f"Time zones: tzdata {status['tzdata']} is installed, and planned runs follow {planned_by}: "
            "start a server, which plans them anew.",
        )
    else:
        yield Finding(True, f"Time zones: tzdata {status['tzdata']}, which planned runs follow.")
    if core.settings.lease_is_short:
        yield Finding(
            False,
            "scheduler.lease is no longer than delivery.timeout: a receiver that takes so long is sent the same"
            " occurrence again while the first attempt is under way. Make it longer.",
        )
    for finding in _secrets(core):
        yield finding
    async for finding in _keys(core):
        yield finding
    async for finding in _events(core):
        yield finding


def _secrets(core: Core) -> list[Finding]:
    if not core.settings.embedded:
        return []
    directory = core.settings.data_dir / "secrets"
    findings = [
        Finding(False, f"{file} is readable by others: chmod 600 {file}")
        for file in sorted(directory.glob("*"))
        if stat.S_IMODE(file.stat().st_mode) & 0o077
    ]
    return findings or [Finding(True, f"Secrets in {directory} are yours alone; back the at-rest key up apart.")]


async def _keys(core: Core) -> AsyncIterator[Finding]:
    """The at-rest key, and those that took part before it."""
    if core.at_rest is None:
        return
    now = await core.now()
    present, *others = await core.at_rest.keys()
    derived = not core.settings.embedded and core.settings.auth.at_rest_key is None
    kept = "derived from auth.jwt_secret: keep that in your backups" if derived else "keep it in a backup of its own"
    yield Finding(True, f"At rest: the present key {present.name} seals {_secrets_in(present)} ({kept}).")
    for key in others:
        if key.values and not key.kept:
            yield Finding(
                False,
                f"At rest: {_secrets_in(key)} cannot be used: the key that sealed them, {key.name}, is not kept. "
                "Put it back (auth.previous_at_rest_keys, or auth.previous_secrets if it was derived), "
                "then run `qhronos rotate-key`.",
            )
        elif key.values:
            yield Finding(
                False,
                f"At rest: the earlier key {key.name} still seals {_secrets_in(key)}: run `qhronos rotate-key`.",
            )
        elif key.forgettable(now):
            yield Finding(
                True, f"At rest: nothing needs the earlier key {key.name}; `qhronos rotate-key --forget` removes it."
            )
        else:
            yield Finding(
                True,
                f"At rest: nothing is sealed with the earlier key {key.name}; it is kept for an hour after its end.",
            )


def _secrets_in(key: KeyInUse) -> str:
    return f"{key.values} secret{'' if key.values == 1 else 's'}"


async def _events(core: Core) -> AsyncIterator[Finding]:
    now = await core.now()
    live = {
        scope
        async for record in whole(lambda page: core.tokens.list(page, caller=_OPERATOR), AT_ONCE)
        if record.revoked_at is None and record.expires_at > now
        for scope in record.scope
    }
    active = EventQuery(statuses=frozenset({EventStatus.ACTIVE, EventStatus.PAUSED}))
    async for event in whole(lambda page: core.store.events.list(active, _EVERYTHING, page), AT_ONCE):
        if event.labels and not event.labels & live:
            labels = ", ".join(sorted(event.labels))
            yield Finding(
                False,
                f"Event {event.id} is reached by no live token (labels {labels}): mint one, or delete it as admin.",
            )
        if event.status is EventStatus.PAUSED and event.paused_reason:
            yield Finding(False, f"Event {event.id} is paused: {event.paused_reason}. Mend the receiver and resume it.")
    failed = await core.store.occurrences.list(
        OccurrenceQuery(states=frozenset({FAILED})), _EVERYTHING, Page(limit=1), count=True
    )
    if failed.total:
        yield Finding(
            False, f"{failed.total} occurrences ended failed: list them, then POST /occurrences/retry?dry_run=true."
        )
