"""Tokens that were minted, and what was revoked."""

from uuid import UUID

import pytest

from qhronos_core.domain.access import Access
from qhronos_core.domain.errors import InvalidInputError, TokenNotFoundError
from qhronos_core.domain.ids import TokenId, new_token_id
from qhronos_core.ports import Changes, EventQuery, Page, Revocation, Store, TokenRecord
from tests.adapters.store.scenes import ALL, after, an_event, kept
from tests.clock import NOON


def a_token(minute: int = 0, access: Access = Access.WRITE) -> TokenRecord:
    issued = after(minutes=minute)
    return TokenRecord(
        new_token_id(issued), "ada", access, ("user:ada", "team:x"), issued, after(days=1, minutes=minute)
    )


async def test_a_token_is_read_back_as_it_was_minted(store: Store) -> None:
    tokens = [a_token(access=access) for access in Access]
    await store.commit(Changes(tokens=tokens))
    for token in tokens:
        assert await store.tokens.get(token.jti) == token


async def test_a_token_nobody_minted_is_not_found(store: Store) -> None:
    with pytest.raises(TokenNotFoundError):
        await store.tokens.get(new_token_id(NOON))


async def test_a_token_written_again_is_the_same_token_revoked(store: Store) -> None:
    token = a_token()
    await store.commit(Changes(tokens=[token]))
    revoked = TokenRecord(
        token.jti, token.sub, token.access, token.scope, token.issued_at, token.expires_at, after(minutes=5)
    )
    await store.commit(Changes(tokens=[revoked]))
    assert await store.tokens.get(token.jti) == revoked
    assert (await store.tokens.list(Page())).items == (revoked,)


async def test_tokens_are_listed_newest_first_page_by_page(store: Store) -> None:
    tokens = [a_token(minute // 2) for minute in range(7)]
    await store.commit(Changes(tokens=tokens))

    seen: list[TokenRecord] = []
    cursor = None
    while True:
        listing = await store.tokens.list(Page(limit=2, cursor=cursor))
        seen += listing.items
        cursor = listing.next_cursor
        if cursor is None:
            break

    assert seen == sorted(tokens, key=lambda token: (token.issued_at, token.jti), reverse=True)
    assert (await store.tokens.list(Page(limit=2, offset=6))).items == tuple(seen[6:])
    assert (await store.tokens.list(Page(limit=2, offset=6), count=True)).total == 7


async def test_a_cursor_of_another_list_is_refused(store: Store) -> None:
    await kept(store, an_event(), an_event())
    cursor = (await store.events.list(EventQuery(), ALL, Page(limit=1))).next_cursor
    with pytest.raises(InvalidInputError):
        await store.tokens.list(Page(cursor=cursor))


async def test_revocations_are_of_a_token_of_somebody_or_of_all_before_an_instant(store: Store) -> None:
    revocations = [
        Revocation(UUID(int=3), NOON, jti=TokenId(UUID(int=9))),
        Revocation(UUID(int=2), after(seconds=1), sub="ada"),
        Revocation(UUID(int=1), after(seconds=2), issued_before=after(minutes=-1)),
        Revocation(UUID(int=4), after(seconds=3), sub="bob", issued_before=after(minutes=-2)),
    ]
    assert await store.tokens.revocations() == []
    await store.commit(Changes(revocations=revocations))
    assert list(await store.tokens.revocations()) == revocations
