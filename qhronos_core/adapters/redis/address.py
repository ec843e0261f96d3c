"""Whether Redis's driver understands a URL. It would find out at the first connection, and once and again from then on."""

from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool

from qhronos_core.domain.errors import StartRefusedError


def require_usable(url: str) -> None:
    """Raises StartRefusedError where it is malformed, names no number of a database, or an option that is none."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme == "unix" or parts.path.removeprefix("/").isdecimal() or parts.path in ("", "/")
        ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]  # which connects nothing yet
    except (ValueError, TypeError):
        sound = False
    if not sound:
        raise StartRefusedError(  # and does not repeat it: it may hold a password
            "redis.url (REDIS_URL): the driver does not understand it; it is written redis://:password@host:6379/0"
        )
