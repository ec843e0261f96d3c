"""What the server says of itself: health, status, figures, and the description of this very face."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import StoreUnavailableError, UnavailableError
from qhronos_mcp import __version__, views
from qhronos_mcp.metrics import CONTENT_TYPE, HttpMetrics
from qhronos_mcp.middleware import facts_of
from qhronos_mcp.rest.answers import encoded, shown
from qhronos_mcp.rest.asked import core_of, flag

VERSION: Final = __version__


class NotReadyError(UnavailableError):
    code = "not_ready"

    def __init__(self) -> None:
        super().__init__(
            "This node is stopping, or its store does not answer or takes no writes. Ask again in a moment."
        )


async def health(request: Request) -> Response:
    """Alive; with `ready=true` also willing: 503 while stopping, or without a store that can be written."""
    if flag(request, "ready") and not await core_of(request).ready():
        raise NotReadyError()
    return shown({"status": "ok"})


async def status(request: Request) -> Response:
    """Little for everybody, more for whoever proves a token. No secret, and no token that works."""
    core = core_of(request)
    up = (core.clock.now() - core.started_at).total_seconds()
    told: dict[str, Any] = {
        "status": "stopping" if core.draining else "ok",
        "version": VERSION,
        "uptime_seconds": max(0, round(up)),
    }
    if (caller := facts_of(request.scope).caller) is not None:
        detail = dict(await core.status())
        detail.pop("uptime_seconds", None)
        told |= {**detail, "now": views.instant(detail["now"]), "token_info": _token_info(caller)}
    return shown(told)


async def metrics(request: Request) -> Response:
    """A scrape answers also while the store is away: that is when it is needed."""
    figures: HttpMetrics = request.app.state.metrics
    try:
        told = await core_of(request).status()
    except StoreUnavailableError:
        told = None
    return Response(figures.exposed(told), headers={"content-type": CONTENT_TYPE})


async def openapi(request: Request) -> Response:
    return Response(
        encoded(request.app.state.openapi), media_type="application/json", headers={"cache-control": "no-cache"}
    )


def _token_info(caller: Principal) -> views.View:
    return {
        "sub": caller.sub,
        "access": "master" if caller.master else caller.access.value,
        "scope": sorted(caller.scope),
        "jti": None if caller.jti is None else str(caller.jti),
        "expires_at": views.optional_epoch(caller.expires_at),
    }
