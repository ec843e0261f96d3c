"""Webhooks: one signed POST per attempt, by Standard Webhooks 1.0 (rest.md §6)."""

from datetime import timedelta

from qhronos_core.adapters.http.answers import USER_AGENT, json_bytes, sent, timeout_of
from qhronos_core.adapters.http.egress import Egress
from qhronos_core.domain.errors import InvalidInputError
from qhronos_core.domain.event import Event
from qhronos_core.domain.occurrence import AttemptOutcome
from qhronos_core.domain.payload import payload
from qhronos_core.domain.signature import key_of, original_signature, sign
from qhronos_core.ports import Delivery, EventSecrets, Outcome

NO_SECRET = "no_signing_secret"


class WebhookCourier:
    """The same id and bytes on every attempt of one version of an event; a new timestamp, signature and attempt number."""

    def __init__(self, egress: Egress, *, timeout: timedelta = timedelta(seconds=15)) -> None:
        self._egress = egress
        self._timeout = timeout

    def host_of(self, event: Event) -> str | None:
        return self._egress.host_of(event.action.params["url"])

    async def deliver(self, delivery: Delivery) -> Outcome:
        params = delivery.event.action.params
        url = str(params["url"])
        try:
            keys = self._keys(delivery)
        except InvalidInputError:
            keys = []
        if not keys:  # never unsigned, and never under an empty key
            return Outcome(AttemptOutcome.NO_ANSWER, error=NO_SECRET, destination=self._egress.shown(url))
        told = payload(delivery.event, delivery.occurrence)
        body, message_id = json_bytes(told), told["occurrence_id"]
        timestamp = int(delivery.now.timestamp())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(body, keys=keys, message_id=message_id, timestamp=timestamp),
            "Idempotency-Key": message_id,
            "Qhronos-Attempt": str(delivery.attempt),
            "X-Qhronos-Signature": original_signature(body, keys[0]),
        }
        timeout = timeout_of(params.get("timeout"), self._timeout)
        return await sent(self._egress, "POST", url, headers=headers, body=body, timeout=timeout, now=delivery.now)

    def _keys(self, delivery: Delivery) -> list[bytes]:
        """The present key, then those that a receiver may still hold."""
        secrets: EventSecrets = delivery.secrets
        if secrets.hmac_secret is None:
            return []
        retired = [secret for secret, until in reversed(secrets.retired) if until > delivery.now]
        return [key_of(secret) for secret in (secrets.hmac_secret, *retired)]
