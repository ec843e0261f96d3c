"""API calls: the request an event asks for, sent as it is, unsigned (rest.md §6)."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from qhronos_core.adapters.http.answers import USER_AGENT, json_bytes, sent, timeout_of
from qhronos_core.adapters.http.egress import Egress
from qhronos_core.domain.event import Event
from qhronos_core.ports import Delivery, EventSecrets, Outcome

TOLD_APART: Final = 4  # characters of a secret from which on it is known from ordinary text
HIDDEN: Final = b"***"


class ApicallCourier:
    """Text is sent as UTF-8, anything else as JSON; nothing in either is expanded."""

    def __init__(self, egress: Egress, *, timeout: timedelta = timedelta(seconds=15)) -> None:
        self._egress = egress
        self._timeout = timeout

    def host_of(self, event: Event) -> str | None:
        return self._egress.host_of(event.action.params["url"])

    async def deliver(self, delivery: Delivery) -> Outcome:
        params = delivery.event.action.params
        body, content_type = _body(params.get("body"))
        headers = _headers(params.get("headers") or {}, delivery.secrets)
        given = {name.lower() for name in headers}
        if content_type is not None and "content-type" not in given:
            headers["Content-Type"] = content_type
        if "user-agent" not in given:
            headers["User-Agent"] = USER_AGENT
        headers["Idempotency-Key"] = str(delivery.occurrence.id)
        headers["Qhronos-Attempt"] = str(delivery.attempt)
        outcome = await sent(
            self._egress,
            str(params.get("method", "POST")),
            str(params["url"]),
            headers=headers,
            body=body,
            timeout=timeout_of(params.get("timeout"), self._timeout),
            now=delivery.now,
        )
        return replace(outcome, response=_without(delivery.secrets, outcome.response))


def _without(secrets: EventSecrets, response: bytes | None) -> bytes | None:
    """What a receiver answered, without the secrets it was sent: it is kept and shown, and echoing is common."""
    if not response or not secrets.headers:
        return response
    parts = {part for value in secrets.headers.values() for part in (value, value.rpartition(" ")[2])}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= TOLD_APART:
            response = response.replace(part.encode(), HIDDEN)
    return response


def _headers(given: dict[str, str], secrets: EventSecrets) -> dict[str, str]:
    """The caller's headers, the values of secret ones in their places."""
    secret = {name.lower(): value for name, value in secrets.headers.items()}
    headers = {name: secret.pop(name.lower(), value) for name, value in given.items()}
    headers.update((name, value) for name, value in secrets.headers.items() if name.lower() in secret)
    return headers


def _body(given: Any) -> tuple[bytes, str | None]:
    if given is None:
        return b"", None
    if isinstance(given, str):
        return given.encode(), "text/plain; charset=utf-8"
    return json_bytes(given), "application/json"
