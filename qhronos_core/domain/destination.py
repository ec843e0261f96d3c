"""Where a request may go: the judgement of URLs, addresses and caller-given headers (security.md §3, S24-S30).

A URL is parsed once, by the parser here; the parsed form is what is stored and dialled, so no second parser can read it
otherwise. A URL is judged when it is given; every address it leads to is judged again, by `judge`, when it is dialled.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

from qhronos_core.domain.errors import DestinationNotAllowedError, Fault, InvalidInputError

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

URL_MOST: Final = 2_048
HEADERS_MOST: Final = 64
HEADER_VALUE_MOST: Final = 8_192

# One text for every refused address: the caller cannot tell a private host that listens from one that does not (S29).
NOT_ALLOWED: Final = "This destination is not allowed. Use a public https URL."

# Explicit, since `ipaddress.is_global` calls NAT64, 6to4, ::127.0.0.1 and multicast global.
DENIED: Final[tuple[IPNetwork, ...]] = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32"),
        *("2002::/16", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
)

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?",
    re.IGNORECASE | re.ASCII,  # without ASCII the long s, U+017F, would pass for an s
)
_ORIGIN: Final = re.compile("https?://[^/?]*", re.IGNORECASE | re.ASCII)
_AUTHORITY: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[1-9][0-9]{0,4}))?")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_FORBIDDEN: Final = re.compile(
    "[\x00-\x20\x7f-\xa0\\\\#\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ud800-\udfff]"
)
_ENCODED: Final = re.compile(r"[^!$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]")

_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2, token
_FIELD_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "cookie", "idempotency-key"})
_OUR_PREFIXES: Final = ("webhook-", "qhronos-")


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """What configuration at start allows; nothing a caller sends changes it (S30).

    ports: allowed beside 443, and beside 80 where `http` is allowed.
    allow_networks: lift the deny list for these addresses; the rules on scheme and port stay.
    allow_loopback: lifts it for loopback, and admits `http` and any port there.
    own_addresses, own_hosts: (address, port) and (name, port) pairs that are this server itself. Nothing lifts them.
        An own wildcard or loopback address (or name) stands for all of loopback on that port.
    """

    allow_http: bool = False
    allow_loopback: bool = False
    allow_networks: tuple[IPNetwork, ...] = ()
    ports: frozenset[int] = frozenset()
    own_addresses: frozenset[tuple[IPAddress, int]] = frozenset()
    own_hosts: frozenset[tuple[str, int]] = frozenset()

    def admits_port(self, port: int) -> bool:
        return port == 443 or (port == 80 and self.allow_http) or port in self.ports


@dataclass(frozen=True)
class Destination:
    """A URL that passed the rules, in its one canonical form. `target` is path and query as sent on the wire."""

    scheme: str
    host: str  # lower-case ASCII; an IPv6 literal without its brackets
    port: int
    target: str

    @cached_property
    def authority(self) -> str:
        """As in the `Host` field: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"

    @cached_property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def tls_name(self) -> str | None:
        """The name a certificate must be for; None without TLS."""
        return self.host if self.scheme == "https" else None

    @property
    def text(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @cached_property
    def shown(self) -> str:
        """The URL without its query values, for records: `?token=abc&x` is shown as `?token=`."""
        path, mark, query = self.target.partition("?")
        keys = "&".join(f"{name}=" for name, equals, _ in (part.partition("=") for part in query.split("&")) if equals)
        return f"{self.scheme}://{self.authority}{path}{mark}{keys}"

    @property
    def address(self) -> IPAddress | None:
        """The host as an address, where it is a literal."""
        return ip_address(self.host) if is_address(self.host) else None


_DEFAULT_PORT: Final = {"http": 80, "https": 443}


def parse_url(text: str, *, policy: EgressPolicy, field: str = "url") -> Destination:
    """The destination a URL names, if the policy lets requests go there. A name is judged here as a name only.

    Raises:
        DestinationNotAllowedError: not a URL by these rules, or refused. `field` names it in the fault.
    """
    if len(text) > URL_MOST:
        raise _refused(f"A URL has at most {URL_MOST:,} characters.", field)
    if _FORBIDDEN.search(text):
        raise _refused("A URL holds no space, control character, backslash or fragment (#).", field)
    if (url := _URL.fullmatch(text)) is None:
        raise _refused("A URL begins with https:// and a host.", field)
    if "@" in url["authority"]:
        raise _refused("A URL holds no user name or password. Send credentials in secret_headers.", field)
    if (authority := _AUTHORITY.fullmatch(url["authority"])) is None:
        raise _refused("The host of this URL is not a name, an IPv4 address or an IPv6 address in brackets.", field)
    scheme = url["scheme"].lower()
    host = _literal_v6(authority["v6"], field) if authority["v6"] else _host_name(authority["name"], field)
    port = int(authority["port"] or _DEFAULT_PORT[scheme])
    target = _percent_encoded(url["path"] or "/")
    if url["query"] is not None:
        target += "?" + _percent_encoded(url["query"])
    destination = Destination(scheme, host, port, target)
    if len(destination.text) > URL_MOST:
        raise _refused(f"A URL has at most {URL_MOST:,} characters, those that need encoding encoded.", field)
    _judge_url(destination, policy, field)
    return destination


def origin_of(text: str) -> str:
    """Scheme and authority of a URL that passed the rules, as it was spelled but for case; of any other text all of it."""
    found = _ORIGIN.match(text)
    return found[0].lower() if found else text


def judge(address: IPAddress, port: int, policy: EgressPolicy) -> None:
    """Return if this very address and port may be dialled.

    An IPv4-mapped address is judged as the IPv4 address in it.

    Raises:
        DestinationNotAllowedError: with one text, whatever the reason.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise _refused(NOT_ALLOWED)
        address = address.ipv4_mapped or address
    loopback = address.is_loopback
    for own, own_port in policy.own_addresses:
        own_address = (own.ipv4_mapped or own) if isinstance(own, IPv6Address) else own
        everywhere = own_address.is_unspecified or own_address.is_loopback
        if own_port == port and (address == own_address or (everywhere and (loopback or address.is_unspecified))):
            raise _refused(NOT_ALLOWED)
    if loopback and any(own == port and names_loopback(name) for name, own in policy.own_hosts):
        raise _refused(NOT_ALLOWED)
    if loopback and policy.allow_loopback:
        return
    if not 0 < port < 65_536 or not policy.admits_port(port):
        raise _refused(NOT_ALLOWED)
    if any(address in network for network in policy.allow_networks):
        return
    if any(address in network for network in DENIED):
        raise _refused(NOT_ALLOWED)


def is_address(host: str) -> bool:
    """Whether a host is an address itself, not a name that leads to one."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def names_loopback(host: str) -> bool:
    """Whether a host may lead to this machine only (RFC 6761 §6.3, or a literal): what `allow_loopback` is about."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    if not is_address(host):
        return False
    address = ip_address(host)
    return ((address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address).is_loopback


def check_headers(headers: Mapping[str, str], *, field: str = "headers") -> dict[str, str]:
    """The caller's header fields, as they will be sent: names as given, values stripped of surrounding blanks.

    Raises:
        InvalidInputError: a name that RFC 9110 does not know or that is ours to set, a value with a
            control character, a name twice, or too much. Every faulty one is listed.
    """
    faults: list[Fault] = []
    if len(headers) > HEADERS_MOST:
        faults.append(Fault(field, "invalid_header", f"At most {HEADERS_MOST} headers can be given."))
    seen: set[str] = set()
    for name, value in headers.items():
        lowered = name.lower()
        if not _FIELD_NAME.fullmatch(name):
            why = "A header's name is made of letters, digits and !#$%&'*+-.^_`|~ (RFC 9110)."
        elif lowered in _OURS or lowered.startswith(_OUR_PREFIXES):
            why = "This header is set by Qhronos and cannot be given."
        elif lowered in seen:
            why = "This header is given twice; names are compared without case."
        elif _FIELD_CONTROL.search(value):
            why = "A header's value holds no line break and no control character."
        elif len(value.encode()) > HEADER_VALUE_MOST:
            why = f"A header's value has at most {HEADER_VALUE_MOST:,} bytes."
        else:
            seen.add(lowered)
            continue
        faults.append(Fault(f"{field}.{name[:100]}", "invalid_header", why))
    if faults:
        raise InvalidInputError(faults=faults)
    return {name: value.strip(" \t") for name, value in headers.items()}


def _judge_url(destination: Destination, policy: EgressPolicy, field: str) -> None:
    host, port = destination.host, destination.port
    if not 0 < port < 65_536:
        raise _refused("A port is a number from 1 to 65535.", field)
    if (host, port) in policy.own_hosts:
        raise _refused(NOT_ALLOWED, field)
    local = names_loopback(host)
    if local and not policy.allow_loopback and destination.address is None:
        raise _refused(NOT_ALLOWED, field)
    local = local and policy.allow_loopback
    if not local and destination.scheme != "https" and not policy.allow_http:
        raise _refused("Only https is allowed.", field)
    if not local and not policy.admits_port(port):
        raise _refused("This port is not allowed. Use the scheme's own.", field)
    if (address := destination.address) is not None:
        try:
            judge(address, port, policy)
        except DestinationNotAllowedError:
            raise _refused(NOT_ALLOWED, field) from None


def _literal_v6(text: str, field: str) -> str:
    try:
        return IPv6Address(text).compressed
    except AddressValueError:
        raise _refused("The host of this URL is not an IPv6 address.", field) from None


def _host_name(text: str, field: str) -> str:
    host = text.lower() if text.isascii() else _ascii_name(text, field)
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused("The host of this URL is not a name in DNS. It has no trailing dot.", field)
    if _NUMBER.fullmatch(labels[-1]):
        # Anything that ends in a number some resolver takes for an address: only plain dotted decimal is one here.
        try:
            return str(IPv4Address(host))
        except AddressValueError:
            raise _refused("An IPv4 address is written as four decimal numbers.", field) from None
    return host


def _ascii_name(text: str, field: str) -> str:
    import idna  # its tables are large, and few hosts need them

    try:
        return idna.encode(text, uts46=True, transitional=False).decode()
    except (idna.IDNAError, UnicodeError):
        raise _refused("The host of this URL is not a name that IDNA allows.", field) from None


def _percent_encoded(text: str) -> str:
    return _ENCODED.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)


def _refused(why: str, field: str = "url") -> DestinationNotAllowedError:
    return DestinationNotAllowedError(faults=(Fault(field, DestinationNotAllowedError.code, why),))
