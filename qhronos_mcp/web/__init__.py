"""The page a person looks at, and the readable form of the REST description. Static, and without data of its own.

The page asks for a token, keeps it in memory, and calls REST like any other client. Nothing is loaded from elsewhere
and nothing runs inline: its policy says so to the browser (security.md S51).
"""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from qhronos_mcp.middleware import facts_of
from qhronos_mcp.web.docs import docs_page

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES: Final[Mapping[str, tuple[str, str]]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/assets/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/assets/page.css": ("page.css", "text/css; charset=utf-8"),
    "/assets/icon.svg": ("icon.svg", "image/svg+xml"),
}


class StaticPage:
    """Bytes that are the same for everybody: kept in memory, revalidated by their hash (RFC 9110 §13)."""

    def __init__(self, path: str, content: bytes, media: str) -> None:
        self.path = path
        self._content = content
        self._etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        self._headers = {
            "content-type": media,
            "content-security-policy": PAGE_POLICY,
            "cache-control": "no-cache",
            "etag": self._etag,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        facts_of(scope).route = self.path
        if request.method not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"allow": "GET, HEAD"})
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        # a 304 replaces the stored headers, so it carries the page's own policy again
        fresh = Response(status_code=304, headers=self._headers)
        response = fresh if self._etag in known else Response(self._content, headers=self._headers)
        await response(scope, receive, send)


def web_routes(openapi: Mapping[str, Any]) -> list[Route]:
    here = files(__package__)
    pages = [StaticPage(path, (here / name).read_bytes(), media) for path, (name, media) in _FILES.items()]
    pages.append(StaticPage("/docs", docs_page(openapi), "text/html; charset=utf-8"))
    return [Route(page.path, page) for page in pages]
