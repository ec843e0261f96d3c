"""The egress proxy an operator configures (smokescreen and the like): everything goes through it, and it judges addresses."""

import asyncio
import base64
import ssl
from urllib.parse import unquote, urlsplit

from qhronos_core.adapters.http.http1 import Connection, EgressFailure, FailureKind
from qhronos_core.domain.destination import Destination, is_address

_DENIED = frozenset({403, 407})


class Proxy:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.literal = is_address(self.host)
        self.tls_name = self.host if parts.scheme == "https" else None
        self.port = parts.port or (443 if self.tls_name else 80)
        self.fields = ""
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.fields = f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n"

    async def tunnel(self, through: Connection, destination: Destination, tls: ssl.SSLContext) -> Connection:
        """A connection to the destination itself, its TLS verified by `tls`, inside one to the proxy.

        Raises:
            EgressFailure: the proxy denies the destination, or does not reach it.
        """
        host = f"[{destination.host}]" if ":" in destination.host else destination.host
        authority = f"{host}:{destination.port}"
        request = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{self.fields}\r\n"
        reply = await through.exchange(request.encode(), tunnel=True)
        if not 200 <= reply.status <= 299:
            denied = reply.status in _DENIED
            raise EgressFailure(FailureKind.DESTINATION_NOT_ALLOWED if denied else FailureKind.CONNECTION_FAILED)
        inner = Connection(through.address, through.port)
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(through.transport, inner, tls, server_hostname=destination.host)
        if transport is None:
            raise EgressFailure(FailureKind.CONNECTION_FAILED)
        inner.connection_made(transport)
        return inner
