"""What surrounds every request: an id, the log's one line, the counters, guarding headers, and who may speak to us at all.

Plain ASGI, no `BaseHTTPMiddleware`: streams pass through unbuffered, and a request costs no task of its own.
"""

import ipaddress
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qhronos_core.config import Settings
from qhronos_core.domain.access import Access, Principal
from qhronos_core.domain.errors import ForbiddenError, UnavailableError
from qhronos_core.ports import RateLimit, RateVerdict
from qhronos_mcp.metrics import HttpMetrics

_LOG: Final = structlog.get_logger("qhronos.access")
_FACTS: Final = "qhronos.facts"
_OWN_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

CROWDED: Final = "qhronos.crowded"  # in the scope of a request whose connection is one too many
MCP_PATH: Final = "/mcp"
"""Screened in mcp_server/http.py, since the protocol's answer to a foreign Host is 421 (mcp.md §2)."""


@dataclass(slots=True)
class Facts:
    """What becomes known of one request while it is answered; the log, the counters and the headers read it."""

    request_id: str
    route: str = "unknown"  # the template, never the path as sent: a closed set
    caller: Principal | None = None
    verdict: RateVerdict | None = None
    code: str | None = None  # of the problem it was answered with


def facts_of(scope: Scope) -> Facts:
    facts = scope.get(_FACTS)
    if not isinstance(facts, Facts):
        facts = scope[_FACTS] = Facts(uuid4().hex)
    return facts


# --- the envelope -----------------------------------------------------------------------------------

_API_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_ALWAYS: Final[Mapping[str, str]] = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "content-security-policy": _API_POLICY,
    "cache-control": "no-store",
}


class Envelope:
    """The outermost layer. Every answer leaves with its request id and the guarding headers (security.md S41, S51).

    An endpoint that sets one of these headers itself has its way: only the page loosens its policy, and only what does
    not depend on the caller may be cached.
    """

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics, tls: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._always = dict(_ALWAYS)
        if tls:
            self._always["strict-transport-security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        facts = scope[_FACTS] = Facts(given if _OWN_ID.fullmatch(given) else uuid4().hex)
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._dress(MutableHeaders(raw=message["headers"]), facts)
            await send(message)

        with self._metrics.in_flight():
            try:
                await self._app(scope, receive, dressed)
            finally:
                took = time.perf_counter() - began
                self._metrics.answered(scope["method"], facts.route, status, took)
                _LOG.info("request", **_line(scope, facts, status, took))

    def _dress(self, headers: MutableHeaders, facts: Facts) -> None:
        for name, value in self._always.items():
            headers.setdefault(name, value)
        headers["x-request-id"] = facts.request_id
        if facts.verdict is not None and facts.verdict.limit.per_minute:
            headers.update(limit_headers(facts.verdict))


def _line(scope: Scope, facts: Facts, status: int, took: float) -> dict[str, Any]:
    """One access-log entry: nothing that a caller wrote, but the ids it proved (security.md §5)."""
    line: dict[str, Any] = {
        "request_id": facts.request_id,
        "method": scope["method"] if scope["method"] in KNOWN_METHODS else "other",
        "route": facts.route,
        "status": status,
        "duration_ms": round(took * 1000, 2),
    }
    if facts.caller is not None:
        line |= {"sub": facts.caller.sub, "jti": "master" if facts.caller.master else str(facts.caller.jti)}
    if facts.code is not None:
        line["code"] = facts.code
    return line


KNOWN_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


# --- how much -----------------------------------------------------------------------------------------

FAILED_AUTHENTICATIONS: Final = RateLimit(per_minute=600, burst=200)


def allowance(caller: Principal, settings: Settings) -> tuple[str, RateLimit]:
    """The bucket of this caller, and its size: one per token, whatever the face and the address."""
    limits = settings.rate_limits
    if caller.master:
        return "token:master", RateLimit(limits.master.per_minute, limits.master.burst)
    chosen = limits.admin if caller.access is Access.ADMIN else limits.read_write
    return f"token:{caller.jti or caller.holder}", RateLimit(chosen.per_minute, chosen.burst)


def limit_headers(verdict: RateVerdict) -> dict[str, str]:
    """The two drafts of RateLimit headers that clients read today; seconds are whole, rounded up."""
    limit, reset = verdict.limit, -int(-verdict.reset_after // 1)
    refill = -(-limit.burst * 60 // limit.per_minute)
    return {
        "ratelimit-policy": f'"default";q={limit.burst};w={refill}',
        "ratelimit": f'"default";r={verdict.remaining};t={reset}',
        "x-ratelimit-limit": str(limit.burst),
        "x-ratelimit-remaining": str(verdict.remaining),
        "x-ratelimit-reset": str(reset),
    }


def address_bucket(scope: Scope) -> str:
    """The bucket of failed authentications: one per IPv4 address, or per /64 of IPv6, which is one customer."""
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0]) if client else None
    except ValueError:
        address = None
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        return f"failed:{inner}" if inner else f"failed:{ipaddress.ip_network((address, 64), strict=False)}"
    return f"failed:{address or 'unknown'}"


# --- from where ---------------------------------------------------------------------------------------

_HOST: Final = re.compile(
    r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?)(?::([0-9]{1,5}))?"
)
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")


def hosts_of(settings: Settings) -> tuple[str, ...]:
    """The names this server answers to, each bare (any port) or with the port it was given with; lower case."""
    server = settings.server
    bound = f"[{server.host}]" if ":" in server.host else server.host
    names = list(server.allowed_hosts) or [*LOCAL_NAMES, *([bound] if server.loopback else [])]
    if server.public_url is not None:
        names.append(_authority(server.public_url))
    return tuple(dict.fromkeys(name.lower().removesuffix(":*") for name in names))


def origins_of(settings: Settings) -> tuple[str, ...]:
    """The origins of web pages that may call, beside a page of our own."""
    server = settings.server
    url = server.public_url
    origins = [*server.allowed_origins, *([f"{urlsplit(url).scheme}://{_authority(url)}"] if url else [])]
    return tuple(dict.fromkeys(origin.rstrip("/").lower() for origin in origins))


def _authority(url: str) -> str:
    """Without the scheme's own port, which no client sends."""
    parts = urlsplit(url)
    return parts.netloc.removesuffix({"https": ":443", "http": ":80"}[parts.scheme])


class CrowdedError(UnavailableError):
    code = "crowded"

    def __init__(self) -> None:
        super().__init__("This node has as many connections as it can hold. Send the request again in a moment.")


class Doors:
    """Which Host and which Origin this server answers to. Both are compared without regard to case."""

    def __init__(self, hosts: tuple[str, ...], origins: tuple[str, ...]) -> None:
        self._hosts = frozenset(hosts)
        self._origins = frozenset(origins)

    def admit_host(self, scope: Scope) -> bool:
        """Not where it is missing, repeated or foreign."""
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) != 1:
            return False
        host = hosts[0].lower()
        parts = _HOST.fullmatch(host)
        return parts is not None and not self._hosts.isdisjoint({host, parts[1]})

    def admit_origin(self, scope: Scope) -> bool:
        """None, one that is listed, or our own: the scheme and Host of this very request."""
        headers = Headers(scope=scope)
        origins = [origin.lower() for origin in headers.getlist("origin")]
        if len(origins) != 1:
            return not origins
        scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
        return origins[0] == f"{scheme}://{headers['host'].lower()}" or origins[0] in self._origins


class Guard:
    """Host and Origin (security.md S37, S43): what a page of a stranger sends through a visitor's browser gets nothing.

    A missing, repeated or foreign Host is 403, and so is an Origin that is neither listed nor our own.
    """

    def __init__(self, app: ASGIApp, *, hosts: tuple[str, ...], origins: tuple[str, ...]) -> None:
        self._app = app
        self._doors = Doors(hosts, origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get(CROWDED) and scope["path"] != "/health":
            raise CrowdedError
        if scope["type"] not in ("http", "websocket") or scope["path"] == MCP_PATH:
            await self._app(scope, receive, send)
            return
        if self._doors.admit_host(scope) and self._doors.admit_origin(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            raise ForbiddenError(
                "This server does not answer to that Host or Origin. Its operator lists them in server.allowed_hosts"
                " and server.allowed_origins."
            )
        else:  # before the handshake is accepted: the server answers 403
            await send({"type": "websocket.close", "code": 4403, "reason": ""})
