"""Hostile URLs, every spelling of this machine, the deny list entry by entry (S24, S27, S29, S30)."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qhronos_core.domain.destination import (
    DENIED,
    NOT_ALLOWED,
    Destination,
    EgressPolicy,
    check_headers,
    judge,
    parse_url,
)
from qhronos_core.domain.errors import DestinationNotAllowedError, InvalidInputError

STRICT = EgressPolicy()
LOCAL = EgressPolicy(allow_loopback=True)
HTTP = EgressPolicy(allow_http=True)

SPELLINGS_OF_LOOPBACK = [
    *("127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "127.00.0.1", "127.0.0.01", "127.000.000.001", "0127.0.0.1"),
    *("0177.0.0.1", "0177.0.0.01", "0177.1", "00000177.0.0.1", "0x7f.0.0.1", "0x7f.1", "0X7F.0x0.0x0.0x1"),
    *("0x7f000001", "0x7F000001", "0x007f000001", "2130706433", "017700000001", "4294967296", "127.0.0.0x1"),
    *("0", "0.0.0.0", "0x0", "00", "127.255.255.254", "127.127.127.127", "127.0.0.1%00", "127%2e0%2e0%2e1"),
    *(
        "%31%32%37.0.0.1",
        "１２７.０.０.１",
        "127。0。0。1",
        "127．0．0．1",
        "①②⑦.⓪.⓪.①",
        "𝟏𝟐𝟕.0.0.1",
        "ⓛocalhost",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    ),
    *(
        "localhost",
        "LOCALHOST",
        "LocalHost",
        "localhost.",
        "a.localhost",
        "localhoſt",
        "127.0.0.1\u200b",
        "127.0.0.1\u00ad",
    ),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::0001]", "[::127.0.0.1]"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:7F00:0001]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::ffff:0.0.0.0]"),
    *("[::ffff:0:127.0.0.1]", "[::ffff:0:7f00:1]"),  # IPv4-translated, RFC 2765
    *("[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002:7f00:0001::1]"),
    *("[2001::7f00:1]", "[fe80::1]", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[::1%25lo]", "[::1%lo]", "[::ffff:127.1]"),
    *("::1", "[127.0.0.1]", "[v1.127.0.0.1]", "[::1", "::1]", "[[::1]]", "[fc00::1]", "[fec0::1]", "[ff02::1]"),
]

HOSTILE_URLS = [
    *("", " ", "https", "https:", "https:/", "https://", "https:///", "https:///x", "//example.com/", "example.com"),
    *("http://example.com/", "HTTP://example.com/", "ftp://example.com/", "file:///etc/passwd", "file://localhost/x"),
    *("gopher://example.com/", "javascript:alert(1)", "data:text/plain,x", "ws://example.com/", "httpſ://example.com/"),
    *("https:example.com", "https:\\\\example.com", "https:/example.com", " https://example.com/", "https://example.com/ "),
    *("https://user@example.com/", "https://user:pw@example.com/", "https://@example.com/", "https://example.com@127.0.0.1/"),
    *("https://127.0.0.1#@example.com/", "https://127.0.0.1\\@example.com/", "https://example.com\\.evil.test/"),
    *("https://example.com/#x", "https://example.com#", "https://example.com/\r\nHost: x", "https://example.com/\tx"),
    *("https://exa\nmple.com/", "https://exa mple.com/", "https://example.com/\x00", "https://example.com/\x7f"),
    *("https://example.com/\u2028", "https://example.com/\u202e", "https://example.com/\ud800", "https://ex\ud800.com/"),
    *("https://example.com:80/", "https://example.com:0/", "https://example.com:65536/", "https://example.com:99999/"),
    *("https://example.com:22/", "https://example.com:6379/", "https://example.com:8443/", "https://example.com:/"),
    *("https://example.com:0443/", "https://example.com:+443/", "https://example.com:４４３/", "https://example.com:443:1/"),
    *("https://example.com:-1/", "https://example.com:4 43/", "https://example.com./", "https://.example.com/"),
    *("https://exa..mple.com/", "https://-example.com/", "https://example-.com/", "https://" + "a" * 64 + ".com/"),
    *("https://" + "a." * 127 + "com/", "https://exam%70le.com/", "https://example.com%2f@x/", "https://ex*mple.com/"),
    *("https://ex,ample.com/", "https://ex'ample.com/", "https://[::g]/", "https://[1::2::3]/", "https://[2606:4700::1]x/"),
    *("https://[]/", "https://[.]/", "https://1.2.3/", "https://1.2.3.4.5/", "https://256.1.1.1/", "https://1.1.1.0x1/"),
    *("https://example.0x7f/", "https://example.123/", "https://xn--/", "https://\u2100/"),
    "https://example.com/" + "x" * 2_029,
    "https://example.com/" + "é" * 700,
]  # fmt: skip


@pytest.mark.parametrize("host", SPELLINGS_OF_LOOPBACK)
@pytest.mark.parametrize("policy", [STRICT, EgressPolicy(allow_http=True, ports=frozenset({80, 8080}))])
def test_no_spelling_of_this_machine_passes(host: str, policy: EgressPolicy) -> None:
    for url in (
        f"https://{host}/",
        f"https://{host}",
        f"https://{host}:443/x?y",
        f"http://{host}/",
        f"http://{host}:80",
    ):
        with pytest.raises(DestinationNotAllowedError):
            parse_url(url, policy=policy)


def test_there_are_at_least_36_spellings() -> None:
    assert len(set(SPELLINGS_OF_LOOPBACK)) >= 36


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_a_hostile_url_is_refused_by_one_error_class(url: str) -> None:
    with pytest.raises(DestinationNotAllowedError) as caught:
        parse_url(url, policy=STRICT, field="action.params.url")
    assert caught.value.code == "destination_not_allowed"
    assert [(fault.field, fault.code) for fault in caught.value.faults] == [
        ("action.params.url", "destination_not_allowed")
    ]


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://EXAMPLE.Com:443/Path?Q=1", "https://example.com/Path?Q=1"),
        ("https://example.com?x=1", "https://example.com/?x=1"),
        ("https://example.com/?", "https://example.com/?"),
        ("https://example.com/a/../b//c;d=1?e=f&g", "https://example.com/a/../b//c;d=1?e=f&g"),
        ("https://example.com/%2F%zz", "https://example.com/%2F%zz"),
        ("https://example.com/grüße?ü={x}|y", "https://example.com/gr%C3%BC%C3%9Fe?%C3%BC=%7Bx%7D%7Cy"),
        ("https://example.com/a@b:c", "https://example.com/a@b:c"),
        ("https://example.com/?next=http://127.0.0.1/", "https://example.com/?next=http://127.0.0.1/"),
        ("https://faß.de/", "https://xn--fa-hia.de/"),
        ("https://BÜCHER.example/", "https://xn--bcher-kva.example/"),
        ("https://bücher。example/", "https://xn--bcher-kva.example/"),
        ("https://my_service.example/", "https://my_service.example/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700:0:0::1111]:443/", "https://[2606:4700::1111]/"),
        ("https://1.example/", "https://1.example/"),
        ("https://0x7f.example/", "https://0x7f.example/"),
    ],
)
def test_a_good_url_has_one_canonical_form(url: str, canonical: str) -> None:
    assert parse_url(url, policy=STRICT).text == canonical


def test_the_parsed_parts_are_what_is_dialled() -> None:
    assert parse_url("https://Example.com/a?b=c", policy=STRICT) == Destination("https", "example.com", 443, "/a?b=c")
    v6 = parse_url("https://[2606:4700::1111]:8443/", policy=EgressPolicy(ports=frozenset({8443})))
    assert (v6.host, v6.port, v6.authority) == ("2606:4700::1111", 8443, "[2606:4700::1111]:8443")
    assert v6.address == ip_address("2606:4700::1111")
    assert parse_url("https://example.com/", policy=STRICT).address is None


def test_records_show_a_destination_without_its_query_values() -> None:
    url = "https://example.com/hook?token=s3cret&mode=fast&s3cret2&=s3cret3&a=b=s3cret4"
    assert parse_url(url, policy=STRICT).shown == "https://example.com/hook?token=&mode=&=&a="
    assert parse_url("https://example.com/hook", policy=STRICT).shown == "https://example.com/hook"


@pytest.mark.parametrize(
    ("url", "policy", "allowed"),
    [
        ("http://example.com/", HTTP, True),
        ("http://example.com:80/", HTTP, True),
        ("http://example.com:8080/", HTTP, False),
        ("https://example.com:80/", STRICT, False),
        ("https://example.com:8443/", EgressPolicy(ports=frozenset({8443})), True),
        ("https://example.com:8444/", EgressPolicy(ports=frozenset({8443})), False),
        ("http://example.com/", EgressPolicy(ports=frozenset({80})), False),
        ("http://127.0.0.1:9000/", LOCAL, True),
        ("http://localhost:9000/", LOCAL, True),
        ("http://hooks.localhost:9000/", LOCAL, True),
        ("http://[::1]:9000/", LOCAL, True),
        ("http://[::ffff:127.0.0.1]:9000/", LOCAL, True),
        ("http://[::127.0.0.1]:9000/", LOCAL, False),
        ("http://0.0.0.0:9000/", LOCAL, False),
        ("http://127.1:9000/", LOCAL, False),
        ("http://example.com/", LOCAL, False),
        ("https://example.com:9000/", LOCAL, False),
        ("http://10.0.0.1/", LOCAL, False),
        ("http://localhost.example.com:9000/", LOCAL, False),
        ("https://10.1.2.3/", EgressPolicy(allow_networks=(ip_network("10.0.0.0/8"),)), True),
        ("https://10.1.2.3:81/", EgressPolicy(allow_networks=(ip_network("10.0.0.0/8"),)), False),
        ("https://[::ffff:10.1.2.3]/", EgressPolicy(allow_networks=(ip_network("10.0.0.0/8"),)), True),
        ("https://192.168.0.1/", EgressPolicy(allow_networks=(ip_network("10.0.0.0/8"),)), False),
        ("https://[fd00::1]/", EgressPolicy(allow_networks=(ip_network("fd00::/8"),)), True),
        ("https://127.0.0.1/", EgressPolicy(allow_networks=(ip_network("127.0.0.0/8"),)), True),
    ],
)
def test_only_configuration_lifts_a_rule(url: str, policy: EgressPolicy, allowed: bool) -> None:
    if allowed:
        parse_url(url, policy=policy)
    else:
        with pytest.raises(DestinationNotAllowedError):
            parse_url(url, policy=policy)


@pytest.mark.parametrize("network", DENIED, ids=str)
def test_the_first_the_last_and_a_middle_address_of_every_denied_network_are_refused(network) -> None:  # type: ignore[no-untyped-def]
    middle = network.network_address + network.num_addresses // 2
    for address in (network.network_address, middle, network.broadcast_address):
        with pytest.raises(DestinationNotAllowedError):
            judge(address, 443, STRICT)


def test_the_deny_list_is_the_published_one() -> None:
    published = """
        0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
        192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 ::/96
        ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16 5f00::/16 fc00::/7 fe80::/10 fec0::/10
        ff00::/8
    """
    assert {str(network) for network in DENIED} == set(published.split())


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"),
        *("169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0", "192.88.98.255"),
        *("192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700::1111"),
        *("2001:200::", "2003::", "64:ff9c::", "2a00:1450::1", "::ffff:1.1.1.1"),
    ],
)
def test_the_neighbours_of_denied_networks_are_allowed(address: str) -> None:
    judge(ip_address(address), 443, STRICT)


@pytest.mark.parametrize(
    "address",
    [
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "fe80::1%eth0",
        "2606:4700::1%1",
    ],
)
def test_a_mapped_address_is_judged_by_its_inner_one_and_a_scoped_one_never_passes(address: str) -> None:
    with pytest.raises(DestinationNotAllowedError):
        judge(ip_address(address), 443, STRICT)


@given(inner=st.ip_addresses(v=4), port=st.sampled_from([1, 80, 443, 8080]))
@example(inner=ip_address("127.0.0.1"), port=8080)
def test_mapping_changes_no_judgement(inner, port: int) -> None:  # type: ignore[no-untyped-def]
    policies = [STRICT, HTTP, LOCAL, EgressPolicy(allow_networks=(ip_network("10.0.0.0/7"),))]
    for policy in policies:
        assert passes(inner, port, policy) == passes(ip_address(f"::ffff:{inner}"), port, policy)


@given(address=st.ip_addresses())
def test_every_refused_address_is_refused_in_the_same_words(address) -> None:  # type: ignore[no-untyped-def]
    try:
        judge(address, 443, STRICT)
    except DestinationNotAllowedError as error:
        assert str(error) == f"url: {NOT_ALLOWED}"  # noqa: PT017
        assert any(address in network for network in DENIED) or getattr(address, "ipv4_mapped", None) is not None
    else:
        assert not any(address in network for network in DENIED)


def test_nothing_lifts_the_addresses_and_names_that_are_this_server() -> None:
    lax = EgressPolicy(
        allow_http=True,
        allow_loopback=True,
        allow_networks=(ip_network("0.0.0.0/0"), ip_network("::/0")),
        ports=frozenset({8080}),
        own_addresses=frozenset({(ip_address("127.0.0.1"), 8080), (ip_address("10.0.0.5"), 8080)}),
        own_hosts=frozenset({("q.example.com", 443)}),
    )
    for own in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "10.0.0.5", "::ffff:10.0.0.5"):
        assert not passes(ip_address(own), 8080, lax), own
    assert passes(ip_address("127.0.0.1"), 8081, lax)
    assert passes(ip_address("10.0.0.6"), 8080, lax)
    for url in (
        "https://q.example.com/",
        "https://Q.EXAMPLE.com:443/x",
        "http://127.0.0.1:8080/",
        "http://[::1]:8080/events",
    ):
        with pytest.raises(DestinationNotAllowedError):
            parse_url(url, policy=lax)
    parse_url("http://q.example.com:8080/", policy=lax)


def test_a_wildcard_listener_stands_for_all_of_loopback() -> None:
    policy = EgressPolicy(allow_loopback=True, own_addresses=frozenset({(ip_address("0.0.0.0"), 8080)}))
    assert not passes(ip_address("127.9.9.9"), 8080, policy)
    assert not passes(ip_address("::1"), 8080, policy)
    assert passes(ip_address("127.0.0.1"), 9090, policy)


def test_a_server_that_knows_itself_as_localhost_is_not_reached_by_an_address_either() -> None:
    policy = EgressPolicy(allow_loopback=True, own_hosts=frozenset({("localhost", 8080)}))
    for url in ("http://localhost:8080/", "http://127.0.0.1:8080/", "http://[::1]:8080/", "http://127.0.0.2:8080/"):
        with pytest.raises(DestinationNotAllowedError):
            parse_url(url, policy=policy)
    parse_url("http://127.0.0.1:9090/", policy=policy)


@given(
    st.text(max_size=60)
    | st.from_regex(r"https?://[a-zA-Z0-9.:\[\]@%_-]{0,40}(/[ -~é]{0,20})?(\?[ -~ü]{0,20})?", fullmatch=True)
)
@example("https://example.com/" + "é" * 300)
def test_parsing_raises_its_one_error_or_gives_a_form_that_parses_to_itself(text: str) -> None:
    for policy in (STRICT, EgressPolicy(allow_http=True, allow_loopback=True, ports=frozenset({80, 8080}))):
        try:
            once = parse_url(text, policy=policy)
        except DestinationNotAllowedError:
            continue
        assert once.text.isascii()
        assert not set(once.text) & set(' \r\n\t#\\"<>')
        assert parse_url(once.text, policy=policy) == once


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Host",
            "HOST",
            "content-length",
            "Transfer-Encoding",
            "connection",
            "Cookie",
            "webhook-id",
            "Webhook-Anything",
        ),
        *(
            "Idempotency-Key",
            "Qhronos-Attempt",
            "qhronos-x",
            "",
            "a b",
            "a:",
            "a\r\nb",
            "a\n",
            "é",
            "a\x00",
            "(x)",
            "a,b",
            "a/b",
        ),
    ],
)
def test_a_header_that_is_ours_or_no_field_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError):
        check_headers({name: "v"})


@pytest.mark.parametrize("value", ["a\r\nb", "a\n", "\r", "\x00", "a\x1bb", "\x7f", "\ud800", "x" * 8_193, "é" * 4_097])
def test_a_header_value_with_a_control_or_too_long_is_refused(value: str) -> None:
    with pytest.raises(InvalidInputError):
        check_headers({"x-ok": value})


def test_any_other_rfc_9110_name_is_accepted_as_given() -> None:
    given_headers = {
        "Authorization": " Bearer x ",
        "X-Trace!#$%&'*+.^_`|~": "a\tb",
        "content-type": "text/plain",
        "X-Empty": "",
        "X-Text": "ü",
    }
    accepted = check_headers(given_headers)
    assert list(accepted) == list(given_headers)
    assert accepted["Authorization"] == "Bearer x"


def test_a_name_twice_and_too_many_headers_are_refused_and_each_fault_is_told() -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_headers({"a": "1", "A": "2", "host": "x"}, field="action.params.headers")
    assert [fault.field for fault in caught.value.faults] == ["action.params.headers.A", "action.params.headers.host"]
    with pytest.raises(InvalidInputError):
        check_headers({f"h{number}": "x" for number in range(65)})
    assert len(check_headers({f"h{number}": "x" for number in range(64)})) == 64


def passes(address, port: int, policy: EgressPolicy) -> bool:  # type: ignore[no-untyped-def]
    try:
        judge(address, port, policy)
    except DestinationNotAllowedError:
        return False
    return True
