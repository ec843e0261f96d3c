"""The one door out of this process (security.md §3): webhooks, API calls and event subscriptions all leave by it.

A URL is judged when it is given and again here; so is every address it resolves to, and once more the very address that
is dialled. A pooled connection is one whose address was judged at its dial. What comes back is data, 64 KiB of it at
most, or one of five words for why there is none.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address
from time import perf_counter
from types import TracebackType
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

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
from qhronos_core.domain.errors import DestinationNotAllowedError

ANSWER_MOST: Final = 64 * 1024
CONNECT_WITHIN: Final = 5.0
_CHECK_WITHIN: Final = 2.0
_IDLE_MOST: Final = 15.0
_ADDRESSES_DIALLED: Final = 8


class FailureKind(StrEnum):
    TIMEOUT = "timeout"
    CONNECTION_FAILED = "connection_failed"
    TLS_FAILED = "tls_failed"
    BAD_ANSWER = "bad_answer"
    DESTINATION_NOT_ALLOWED = "destination_not_allowed"


class EgressFailure(Exception):
    """There is no answer. `kind` says why, and no more: a caller must not learn what listens where (S29)."""

    def __init__(self, kind: FailureKind) -> None:
        super().__init__(kind.value)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said. `headers` by lower-case name (the last of a name); `body` as sent, cut at 64 KiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    duration: float


class Egress:
    """HTTP/1.1 to judged destinations: no redirect, no proxy but the configured one, no cookie, nothing inflated."""

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        proxy_url: str | None = None,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        connect_within: float = CONNECT_WITHIN,
    ) -> None:
        """To be made inside the event loop. `tls` replaces the system's trust, for a private authority or a test."""
        self._policy = policy
        self._proxy = URL(proxy_url) if proxy_url else None
        self._resolve = resolve or SystemResolver()
        self._parsed = lru_cache(maxsize=4_096)(self._parse)
        tls = tls or ssl.create_default_context()
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_Judged(self),
                socket_factory=self._judged_socket,
                ssl=tls,
                use_dns_cache=False,
                limit=0,  # how many at once is decided before a request comes here (hosts.py)
                limit_per_host=0,
                keepalive_timeout=_IDLE_MOST,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            # The deadline is ours (request); this one bounds the way to a connection: name, dial, handshake.
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_within),
        )

    async def __aenter__(self) -> "Egress":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection; requests under way fail."""
        await self._session.close()

    async def check(self, url: str, *, field: str = "url") -> Destination:
        """The destination of a URL, judged as a send would judge it: a courtesy to whoever creates an event.

        A name that does not resolve within 2 s passes: the send decides.

        Raises:
            DestinationNotAllowedError: a send would be refused.
        """
        destination = parse_url(url, policy=self._policy, field=field)
        if destination.address is None and self._proxy is None:
            try:
                async with asyncio.timeout(_CHECK_WITHIN):
                    await self.addresses(destination.host, destination.port)
            except (TimeoutError, OSError):
                pass
        return destination

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> Answer:
        """Send one request and read its answer, all within `deadline` seconds; then the slot is free, whatever happens.

        `headers` are sent as they are, with `Host`, `Content-Length` and `Accept-Encoding: identity` of our own.

        Raises:
            EgressFailure: there is no whole status and header. Nothing else is raised but CancelledError.
        """
        began = perf_counter()
        try:
            async with asyncio.timeout(deadline):
                sent = CIMultiDict(headers)
                sent["Accept-Encoding"] = "identity"
                async with self._session.request(
                    method,
                    self._parsed(url)[1],
                    headers=sent,
                    data=body or None,
                    allow_redirects=False,
                    proxy=self._proxy,
                ) as answer:
                    return await _read(answer, began)
        except EgressFailure:
            raise
        except Exception as error:
            # Whatever a receiver makes a parser, a handshake or a resolver raise, the worker lives.
            raise EgressFailure(_kind_of(error)) from error

    def host_of(self, url: str) -> str | None:
        """The host and port a URL leads to, under which sends are counted; None: it would be refused."""
        try:
            return self._parsed(url)[0].authority
        except DestinationNotAllowedError:
            return None

    def shown(self, url: str) -> str:
        """A URL as records show it: without its query values."""
        try:
            return self._parsed(url)[0].shown
        except DestinationNotAllowedError:
            return url.partition("?")[0]

    async def addresses(self, host: str, port: int) -> list[str]:
        """Every address of a name, if every one of them may be dialled; one that may not refuses them all.

        Raises:
            DestinationNotAllowedError, OSError: refused; not resolved.
        """
        found = await self._resolve(host)
        local = names_loopback(host)  # http and any port were admitted for this name on loopback alone
        for text in found:
            address = ip_address(text)
            if local and not address.is_loopback:
                raise DestinationNotAllowedError(NOT_ALLOWED)
            self._judge(address, port)
        return list(found[:_ADDRESSES_DIALLED])

    def _judge(self, address: IPAddress, port: int) -> None:
        judge(address, port, self._policy)
        # A listener on every interface is reached by any address of this machine.
        if any(own.is_unspecified and own_port == port for own, own_port in self._policy.own_addresses) and _is_here(
            address, port
        ):
            raise DestinationNotAllowedError(NOT_ALLOWED)

    def _judged_socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, where = info
        if self._proxy is None:
            try:
                self._judge(ip_address(where[0]), where[1])
            except DestinationNotAllowedError as error:
                raise _RefusedDial from error
        return socket.socket(family, kind, protocol)

    def _parse(self, text: str) -> tuple[Destination, URL]:
        destination = parse_url(text, policy=self._policy)
        path, mark, query = destination.target.partition("?")
        return destination, URL.build(
            scheme=destination.scheme,
            authority=destination.authority,
            path=path,
            query_string=query if mark else "",
            encoded=True,
        )


class _RefusedDial(OSError):
    """DestinationNotAllowedError in the only class that passes through the dialler."""


class _Judged(AbstractResolver):
    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        egress = self._egress
        found = await egress._resolve(host) if egress._proxy else await egress.addresses(host, port)  # noqa: SLF001
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
            for address in found
        ]

    async def close(self) -> None:
        pass


async def _read(answer: aiohttp.ClientResponse, began: float) -> Answer:
    if (
        not 200 <= answer.status <= 599
        or sum(len(name) + len(value) for name, value in answer.raw_headers) > ANSWER_MOST
    ):
        answer.close()
        raise EgressFailure(FailureKind.BAD_ANSWER)
    body = bytearray()
    while len(body) <= ANSWER_MOST and (part := await answer.content.readany()):
        body += part
    if len(body) > ANSWER_MOST:
        answer.close()
        del body[ANSWER_MOST:]
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(answer.status, headers, bytes(body), perf_counter() - began)


def _kind_of(error: Exception) -> FailureKind:
    if isinstance(error, DestinationNotAllowedError) or isinstance(error.__cause__, _RefusedDial):
        return FailureKind.DESTINATION_NOT_ALLOWED
    if isinstance(error, TimeoutError):
        return FailureKind.TIMEOUT
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return FailureKind.TLS_FAILED
    if isinstance(error, OSError | aiohttp.ClientConnectionError):
        return FailureKind.CONNECTION_FAILED
    return FailureKind.BAD_ANSWER


def _is_here(address: IPAddress, port: int) -> bool:
    """Whether an address is one of this machine's: the way to it begins at itself. Nothing is sent."""
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), port))
            return bool(ip_address(probe.getsockname()[0]) == address)
        except OSError:
            return False
