"""The one door out of this process (security.md §3): webhooks, API calls and event subscriptions all leave by it.

A URL is judged when it is given and again here; so is every address it resolves to, and once more the very address that
is dialled. A pooled connection is one whose address was judged at its dial. What comes back is data, 64 KiB of it at
most, or one of five words for why there is none. Redirects, proxies of the environment, cookies, netrc and inflating
are not switched off here: they do not exist.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from time import perf_counter
from types import TracebackType
from typing import Final

from qhronos_core.adapters.http.http1 import Connection, EgressFailure, FailureKind, request_bytes
from qhronos_core.adapters.http.pool import Gates, Pool
from qhronos_core.adapters.http.proxy import Proxy
from qhronos_core.adapters.http.resolver import Resolve, SystemResolver
from qhronos_core.domain.destination import (
    NOT_ALLOWED,
    Destination,
    EgressPolicy,
    IPAddress,
    judge,
    names_loopback,
    parse_url,
)
from qhronos_core.domain.errors import DestinationNotAllowedError, Fault

__all__ = ["Answer", "Egress", "EgressFailure", "FailureKind"]

CONNECT_WITHIN: Final = 5.0
_CHECK_WITHIN: Final = 2.0
_ADDRESSES_DIALLED: Final = 8
_REMEMBERED: Final = 4_096


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said. `headers` by lower-case name (the last of a name); `body` as sent, cut at 64 KiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    duration: float


class Egress:
    def __init__(
        self,
        policy: EgressPolicy,
        *,
        proxy_url: str | None = None,
        per_address: int | None = None,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        connect_within: float = CONNECT_WITHIN,
    ) -> None:
        """`per_address`: most requests at once to one address and port. `tls`: in place of the system's trust."""
        self._policy = policy
        self._proxy = Proxy(proxy_url) if proxy_url else None
        self._resolve = resolve or SystemResolver()
        self._tls = tls or ssl.create_default_context()
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.set_alpn_protocols(["http/1.1"])
        self._connect_within = connect_within
        self._pool = Pool(Gates(None if self._proxy else per_address))
        self._destination = lru_cache(maxsize=_REMEMBERED)(lambda url: parse_url(url, policy=policy))
        self._reached: dict[str, str] = {}  # by authority: the address and port last dialled

    async def __aenter__(self) -> "Egress":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cut every connection; requests under way fail, later ones too."""
        self._pool.close()
        await asyncio.sleep(0)  # in which the transports let go of their sockets

    async def check(self, url: str, *, field: str = "url") -> Destination:
        """The destination of a URL, judged as a send would judge it: a courtesy to whoever creates an event.

        A name that does not resolve within 2 s passes: the send decides.

        Raises:
            DestinationNotAllowedError: a send would be refused.
        """
        destination = parse_url(url, policy=self._policy, field=field)
        if self._proxy is None:
            try:
                async with asyncio.timeout(_CHECK_WITHIN):
                    await self._addresses(destination)
            except DestinationNotAllowedError as error:
                raise DestinationNotAllowedError(faults=(Fault(field, error.code, NOT_ALLOWED),)) from None
            except (OSError, ValueError):
                pass
        return destination

    def host_of(self, url: str) -> str | None:
        """The host and port a URL leads to, under which sends are counted; None: it would be refused."""
        try:
            return self._destination(url).authority
        except DestinationNotAllowedError:
            return None

    def address_of(self, host: str) -> str | None:
        """The address and port at which a host (as `host_of` names it) was last found, if it ever was."""
        return self._reached.get(host)

    def shown(self, url: str) -> str:
        """A URL as records show it: without its query values."""
        try:
            return self._destination(url).shown
        except DestinationNotAllowedError:
            return url.partition("?")[0]

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> Answer:
        """Send one request and read its answer, all within `deadline` seconds; then the slot is free, whatever happens.

        `headers` are sent as they are, with `Host`, `Content-Length` and `Accept-Encoding: identity` of our own.

        Raises:
            EgressFailure: there is no whole answer. Nothing else is raised but CancelledError.
        """
        began = perf_counter()
        try:
            destination = self._destination(url)
            via_proxy = self._proxy is not None and destination.scheme == "http"
            message = request_bytes(
                method,
                destination.text if via_proxy else destination.target,
                destination.authority,
                headers,
                body,
                more=self._proxy.fields if self._proxy and via_proxy else "",
            )
            async with asyncio.timeout(deadline):
                connection = await self._pool.take(destination.origin) or await self._dial(destination)
                try:
                    status, answered, content = await connection.exchange(message)
                finally:
                    self._pool.give(destination.origin, connection)
        except EgressFailure:
            raise
        except Exception as error:
            # Whatever a receiver makes a handshake, a resolver or a parser raise, the worker lives.
            raise EgressFailure(_kind_of(error)) from error
        return Answer(status, answered, content, perf_counter() - began)

    async def _dial(self, destination: Destination) -> Connection:
        """Try the addresses of a destination in turn, each in its share of the time that is left."""
        async with asyncio.timeout(self._connect_within) as bound:
            addresses = await self._addresses(destination)
            reached = self._reached.get(destination.authority)
            addresses.sort(
                key=lambda address: f"{address} {destination.port}" != reached
            )  # what answered last time first
            failure: Exception = OSError("no address")
            for tried, address in enumerate(addresses):
                left = (bound.when() or 0.0) - asyncio.get_running_loop().time()
                try:
                    async with asyncio.timeout(left / (len(addresses) - tried)):
                        connection = await self._connect(destination, address)
                except ssl.SSLError:
                    raise
                except OSError as error:
                    failure = error
                    continue
                while len(self._reached) >= _REMEMBERED:
                    del self._reached[next(iter(self._reached))]
                self._reached[destination.authority] = connection.where
                return connection
            raise failure

    async def _addresses(self, destination: Destination) -> list[str]:
        """Every address of a host, if every one of them may be dialled; one that may not refuses them all."""
        if self._proxy is not None:
            return [self._proxy.host] if self._proxy.literal else list(await self._resolve(self._proxy.host))
        found = (destination.host,) if destination.address else await self._resolve(destination.host)
        local = names_loopback(destination.host)  # http and any port were admitted for it on loopback alone
        for address in found:
            self._judge(ip_address(address), destination.port)
            if local and not names_loopback(address):
                raise DestinationNotAllowedError(NOT_ALLOWED)
        return list(found[:_ADDRESSES_DIALLED])

    def _judge(self, address: IPAddress, port: int) -> None:
        judge(address, port, self._policy)
        # A listener on every interface is reached by any address of this machine.
        everywhere = any(own.is_unspecified and own_port == port for own, own_port in self._policy.own_addresses)
        if everywhere and _is_here(address, port):
            raise DestinationNotAllowedError(NOT_ALLOWED)

    async def _connect(self, destination: Destination, address: str) -> Connection:
        """Dial this very address, judged once more: nothing connects that does not pass here."""
        proxy = self._proxy
        port = proxy.port if proxy else destination.port
        if proxy is None:
            self._judge(ip_address(address), port)
        connection = Connection(address, port)
        await self._pool.enter(connection)
        try:
            name = proxy.tls_name if proxy else destination.tls_name
            await connection.open(self._tls if name else None, name)
            if proxy is not None and destination.tls_name:
                outer, connection = connection, await proxy.tunnel(connection, destination, self._tls)
                self._pool.replace(outer, connection)
        except BaseException:
            self._pool.drop(connection)
            raise
        return connection


def _kind_of(error: Exception) -> FailureKind:
    if isinstance(error, DestinationNotAllowedError):
        return FailureKind.DESTINATION_NOT_ALLOWED
    if isinstance(error, TimeoutError):
        return FailureKind.TIMEOUT
    if isinstance(error, ssl.SSLError):
        return FailureKind.TLS_FAILED
    return FailureKind.CONNECTION_FAILED if isinstance(error, OSError) else FailureKind.BAD_ANSWER


def _is_here(address: IPAddress, port: int) -> bool:
    """Whether an address is one of this machine's: the way to it begins at itself. Nothing is sent."""
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), port))
            return bool(ip_address(probe.getsockname()[0]) == address)
        except OSError:
            return False
