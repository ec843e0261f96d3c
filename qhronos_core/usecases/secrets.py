"""What is secret about an event, sealed as one bundle bound to its row (security.md §4)."""

import json
from datetime import datetime

from qhronos_core.domain.event import Event
from qhronos_core.domain.ids import EventId
from qhronos_core.ports import EventSecrets, SecretKeeper, Vault

_NONE = EventSecrets()


def keeper_of(vault: Vault) -> SecretKeeper:
    def seal(event_id: EventId, secrets: EventSecrets) -> bytes:
        told = {
            "hmac": secrets.hmac_secret,
            "retired": [[secret, until.isoformat()] for secret, until in secrets.retired],
            "headers": dict(secrets.headers),
        }
        return vault.seal(json.dumps(told).encode(), context=_context(event_id))

    def opened(event: Event) -> EventSecrets:
        if event.secrets is None:
            return _NONE
        told = json.loads(vault.open(event.secrets, context=_context(event.id)))
        retired = tuple((secret, datetime.fromisoformat(until)) for secret, until in told["retired"])
        return EventSecrets(told["hmac"], retired, told["headers"])

    return SecretKeeper(seal=seal, open=opened)


def _context(event_id: EventId) -> str:
    return f"events:{event_id}"
