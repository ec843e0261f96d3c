"""Lists and their three forms (rest.md §5): a plain array, pages by number, and a cursor."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from qhronos_core.domain.errors import InvalidInputError
from qhronos_core.ports import Listing, Page
from qhronos_mcp.rest.answers import shown
from qhronos_mcp.rest.asked import one, whole
from qhronos_mcp.views import View

T = TypeVar("T")

ARRAY_LIMIT: Final = 1000
PAGE_LIMIT: Final = 100
PAGE_DEFAULT: Final = 50
LAST_PAGE: Final = 1_000_000
CURSOR_LIMIT: Final = 512


@dataclass(frozen=True, slots=True)
class Slice:
    """Which part of a list is asked for, and in which form. `number` is set where pages are counted."""

    page: Page
    number: int | None = None
    by_cursor: bool = False

    @property
    def counted(self) -> bool:
        return self.number is not None


def slice_of(request: Request) -> Slice:
    """Raises InvalidInputError for a bad value, and for two forms asked for at once; nothing is silently reset."""
    number = whole(request, "page", least=1, most=LAST_PAGE)
    limit = whole(request, "limit", least=1, most=PAGE_LIMIT)
    cursor, after = _position(request, "cursor"), _position(request, "after")
    if cursor is not None and (number is not None or after is not None):
        raise InvalidInputError.of("cursor", "Not together with page or after.", fix=[{"page": None}])
    if cursor is not None:
        return Slice(Page(limit=limit or PAGE_DEFAULT, cursor=cursor or None), by_cursor=True)
    if number is None and limit is None:
        return Slice(Page(limit=ARRAY_LIMIT, cursor=after or None))
    if after is not None:
        raise InvalidInputError.of("after", "Not together with page or limit.")
    number, limit = number or 1, limit or PAGE_DEFAULT
    return Slice(Page(limit=limit, offset=(number - 1) * limit), number=number)


def _position(request: Request, name: str) -> str | None:
    text = one(request, name)
    if text is not None and len(text) > CURSOR_LIMIT:
        raise InvalidInputError.of(name, "Not a cursor of ours.", code="invalid_cursor", got=text)
    return text


async def listed(
    request: Request, fetch: Callable[[Page, bool], Awaitable[Listing[T]]], view: Callable[[T], View]
) -> Response:
    """The list `fetch(page, counted)` gives, each item as `view` shows it, in the form that was asked for."""
    asked = slice_of(request)
    listing = await fetch(asked.page, asked.counted)
    items = [view(item) for item in listing.items]
    if asked.by_cursor:
        return shown({"data": items, "next_cursor": listing.next_cursor})
    if asked.counted:
        counts = {"page": asked.number, "limit": asked.page.limit, "total": listing.total}
        return shown({"data": items, "pagination": counts})
    return shown(items, headers=_next_link(request, listing.next_cursor))


def _next_link(request: Request, position: str | None) -> Mapping[str, str]:
    """Where the array goes on, as an array (RFC 8288); a reference relative to this server, whatever name it is called by."""
    if position is None:
        return {}
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "after"]
    query = urlencode([*kept, ("after", position)])
    return {"link": f'<{request.url.path}?{query}>; rel="next"'}
