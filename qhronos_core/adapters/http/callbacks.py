"""Callback endpoints of MCP Events, behind the one door: https to public addresses, and no operator's exception but one.

`events.dev_origins` lifts the rules on scheme and address for exactly those origins; all else stays as it is, also on the
same machine.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Final

from qhronos_core.adapters.http.egress import Egress, EgressFailure, FailureKind
from qhronos_core.domain.destination import Destination, EgressPolicy, parse_url
from qhronos_core.domain.errors import DestinationNotAllowedError, StartRefusedError
from qhronos_core.ports import Called

_ANYWHERE: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_ERRORS: Final = {
    FailureKind.TIMEOUT: "timeout",
    FailureKind.TLS_FAILED: "tls_error",
    FailureKind.CONNECTION_FAILED: "connection_refused",
    FailureKind.DESTINATION_NOT_ALLOWED: "connection_refused",  # a blocked address looks like a dead one
}


def hardened(policy: EgressPolicy) -> EgressPolicy:
    """What callbacks may reach: what webhooks may, but never by http and never on this machine."""
    return replace(policy, allow_http=False, allow_loopback=False)


def lifted(policy: EgressPolicy, origins: Iterable[str]) -> EgressPolicy:
    """What the development origins may reach: their ports, at any address.

    Raises:
        StartRefusedError: one of them is no origin.
    """
    shape = replace(policy, allow_http=True, allow_loopback=True, allow_networks=_ANYWHERE, own_hosts=frozenset())
    every = replace(shape, ports=frozenset(range(1, 65_536)))
    ports = set()
    for origin in origins:
        try:
            destination = parse_url(origin, policy=every)
        except DestinationNotAllowedError as error:
            raise StartRefusedError(f"events.dev_origins: {error.faults[0].why}") from None
        if destination.target != "/":
            raise StartRefusedError("events.dev_origins: an origin is a scheme, a host and a port, without a path")
        ports.add(destination.port)
    return replace(shape, ports=frozenset(ports), own_hosts=policy.own_hosts)


class EgressCallbacks:
    """Implements `ports.Callbacks`. `egress` was made with a hardened policy, `development` with a lifted one."""

    def __init__(self, egress: Egress, development: Egress, policy: EgressPolicy, origins: Iterable[str]) -> None:
        self._egress = egress
        self._development = development
        self._ports = policy
        # Judges form alone: where a URL leads is judged when it is dialled.
        self._form = replace(
            policy,
            allow_http=True,
            allow_loopback=True,
            allow_networks=_ANYWHERE,
            ports=frozenset(range(1, 65_536)),
            own_addresses=frozenset(),
            own_hosts=frozenset(),
        )
        self._origins = frozenset(self._parsed(origin).origin for origin in origins)

    def refusal(self, url: str) -> str | None:
        try:
            destination = self._parsed(url)
        except DestinationNotAllowedError as error:
            return error.faults[0].why
        if destination.origin in self._origins:
            return None
        if destination.scheme != "https":
            return "Only https is allowed."
        if not self._ports.admits_port(destination.port):
            return "This port is not allowed. Use the scheme's own."
        return None

    def host_of(self, url: str) -> str:
        return self._parsed(url).authority

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes, deadline: float) -> Called:
        try:
            known = self._parsed(url).origin in self._origins
        except DestinationNotAllowedError:
            return Called(error="connection_refused")
        egress = self._development if known else self._egress
        try:
            answer = await egress.request("POST", url, headers=headers, body=body, deadline=deadline)
        except EgressFailure as failure:
            if failure.kind is FailureKind.BAD_ANSWER:
                return Called(status=502)  # something answered, but not in HTTP: as good as a failing server
            return Called(error=_ERRORS[failure.kind])
        return Called(answer.status, body=answer.body)

    def _parsed(self, url: str) -> Destination:
        return parse_url(url, policy=self._form, field="delivery.url")
