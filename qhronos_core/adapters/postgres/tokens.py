"""Reading tokens' records and revocations."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, LiteralString
from uuid import UUID

from qhronos_core.adapters.cursors import ListOrder
from qhronos_core.adapters.postgres.filters import Where
from qhronos_core.adapters.postgres.pool import Connections
from qhronos_core.adapters.postgres.rows import revocation_of, token_of
from qhronos_core.domain.errors import TokenNotFoundError
from qhronos_core.domain.ids import TokenId
from qhronos_core.ports import Listing, Page, Revocation, TokenRecord

_TOKEN: Final[LiteralString] = "jti, sub, access, scope, issued_at, expires_at, revoked_at"
_COUNT: Final = "SELECT count(*) FROM tokens"
_GET: Final[LiteralString] = f"SELECT {_TOKEN} FROM tokens WHERE jti = %(jti)s"
_REVOCATIONS: Final = "SELECT id, created_at, jti, sub, issued_before FROM revocations ORDER BY created_at, id"


class PostgresTokens:
    def __init__(self, connections: Connections, identity: Callable[[], Awaitable[UUID]]) -> None:
        self._connections = connections
        self._identity = identity

    async def list(self, page: Page, *, count: bool = False) -> Listing[TokenRecord]:
        """Newest first."""
        order = ListOrder(await self._identity(), "tokens", None)
        where = Where()
        total = (await self._connections.rows(_COUNT))[0][0] if count else None
        if page.cursor is not None:
            at, jti = order.position(page.cursor)
            where.add("(issued_at, jti) < (%(at)s, %(jti)s)", at=at, jti=jti)
        statement: LiteralString = f"""
            SELECT {_TOKEN} FROM tokens WHERE {where.text}
             ORDER BY issued_at DESC, jti DESC LIMIT %(limit)s OFFSET %(offset)s
        """
        parameters = {**where.parameters, "limit": page.limit + 1, "offset": page.offset}
        tokens = [token_of(row) for row in await self._connections.rows(statement, parameters)]
        items = tuple(tokens[: page.limit])
        more = len(tokens) > page.limit and items
        return Listing(items, order.cursor(items[-1].issued_at, items[-1].jti) if more else None, total)

    async def get(self, jti: TokenId) -> TokenRecord:
        rows = await self._connections.rows(_GET, {"jti": jti})
        if not rows:
            raise TokenNotFoundError
        return token_of(rows[0])

    async def revocations(self) -> Sequence[Revocation]:
        return [revocation_of(row) for row in await self._connections.rows(_REVOCATIONS)]
