"""What is secret about an event, sealed as one bundle bound to its row (security.md §4)."""

import json
from datetime import datetime
from functools import lru_cache
from typing import Final

from qhronos_core.domain.event import Event
from qhronos_core.domain.ids import EventId
from qhronos_core.ports import EventSecrets, SealedIn, SecretKeeper, Vault

_NONE: Final = EventSecrets()
_KEPT_OPEN: Final = 1_024  # bundles, of the events sent last: a busy one is not opened at every attempt


def keeper_of(vault: Vault) -> SecretKeeper:
    def seal(event_id: EventId, secrets: EventSecrets) -> bytes:
        told = {
            "hmac": secrets.hmac_secret,
            "retired": [[secret, until.isoformat()] for secret, until in secrets.retired],
            "headers": dict(secrets.headers),
        }
        return vault.seal(json.dumps(told).encode(), context=SealedIn.EVENTS.context(event_id))

    @lru_cache(maxsize=_KEPT_OPEN)
    def opened_bundle(event_id: EventId, sealed: bytes) -> EventSecrets:
        told = json.loads(vault.open(sealed, context=SealedIn.EVENTS.context(event_id)))
        retired = tuple((secret, datetime.fromisoformat(until)) for secret, until in told["retired"])
        return EventSecrets(told["hmac"], retired, told["headers"])

    def opened(event: Event) -> EventSecrets:
        return _NONE if event.secrets is None else opened_bundle(event.id, event.secrets)

    return SecretKeeper(seal=seal, open=opened)
