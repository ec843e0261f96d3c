"""Tokens, for the master alone, and the audit of who did what."""

from starlette.requests import Request
from starlette.responses import Response

from qhronos_core.usecases.audit import audit_trail
from qhronos_mcp import views
from qhronos_mcp.rest.answers import shown
from qhronos_mcp.rest.asked import caller_of, core_of, fields_in, flag, id_in, instant_in
from qhronos_mcp.rest.lists import listed


async def mint_token(request: Request) -> Response:
    """The only answer that ever holds the token."""
    tokens, caller = core_of(request).tokens, caller_of(request)
    fields = await fields_in(request, judged=lambda: tokens.mint({}, caller=caller))
    return shown(views.minted(await tokens.mint(fields, caller=caller)), status=201)


async def list_tokens(request: Request) -> Response:
    tokens, caller = core_of(request).tokens, caller_of(request)
    return await listed(request, lambda page, count: tokens.list(page, caller=caller, count=count), views.token)


async def revoke_token(request: Request) -> Response:
    """At once here, within 5 s on every node. A second time answers the same."""
    revoked = await core_of(request).tokens.revoke(
        jti=id_in(request, "jti"), cascade=flag(request, "cascade"), caller=caller_of(request)
    )
    return shown(views.revoked(revoked))


async def list_audit(request: Request) -> Response:
    since, caller, store = instant_in(request, "from"), caller_of(request), core_of(request).store
    return await listed(
        request,
        lambda page, count: audit_trail(store, since=since, page=page, caller=caller, count=count),
        views.audit,
    )
