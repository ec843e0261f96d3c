"""S5-S7, S9, S12: what proves nothing is refused, with one answer, whatever was tried."""

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from qhronos_core.adapters.local.jwt import Jwt
from qhronos_core.domain.access import Access
from qhronos_core.domain.errors import UnauthenticatedError
from qhronos_core.domain.ids import TokenId
from qhronos_core.ports import Claims

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECRET = "the signing secret of these tests, long enough"
JTI = UUID("01953c2e-7a00-7000-8000-000000000001")
GOOD: dict[str, Any] = {
    "sub": "someone",
    "access": "write",
    "scope": ["user:a"],
    "iat": int(NOW.timestamp()),
    "exp": int(NOW.timestamp()) + 3600,
    "iss": "qhronos",
    "aud": "qhronos",
    "jti": str(JTI),
}


def signer(**settings: Any) -> Jwt:
    return Jwt(
        **{
            "key_id": "1",
            "secret": SECRET,
            "previous_secrets": {},
            "issuer": "qhronos",
            "audience": "qhronos",
            "max_life": timedelta(days=30),
            **settings,
        }
    )


def token(claims: Mapping[str, Any] = GOOD, *, secret: str = SECRET, header: Mapping[str, Any] | None = None) -> str:
    """Signed by hand, so that what PyJWT would not sign can be tried too."""
    head = {"alg": "HS256", "typ": "JWT", "kid": "1"} if header is None else header
    signed = f"{part(head)}.{part(claims)}"
    return f"{signed}.{b64(hmac.digest(secret.encode(), signed.encode(), 'sha256'))}"


def part(value: object) -> str:
    return b64(json.dumps(value).encode())


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def refused(text: str, *, by: Jwt | None = None, now: datetime = NOW) -> bool:
    """Whether it is refused with the one error there is."""
    try:
        (by or signer()).read(text, now=now)
    except UnauthenticatedError as error:
        return (str(error), error.__cause__) == (str(UnauthenticatedError()), None)
    return False


# --- what is accepted -------------------------------------------------------------------------------


def test_what_was_signed_is_read_back() -> None:
    claims = Claims(TokenId(JTI), "someone", Access.WRITE, ("user:a", "system:t"), NOW, NOW + timedelta(hours=1))
    assert signer().read(signer().sign(claims), now=NOW) == claims


def test_a_token_carries_its_claims_and_no_others() -> None:
    claims = Claims(TokenId(JTI), "someone", Access.WRITE, ("user:a",), NOW, NOW + timedelta(hours=1))
    made = signer().sign(claims)
    assert pyjwt.get_unverified_header(made) == {"alg": "HS256", "typ": "JWT", "kid": "1"}
    assert pyjwt.decode(made, options={"verify_signature": False}) == GOOD


def test_a_token_made_by_hand_is_as_good() -> None:
    assert signer().read(token(), now=NOW).sub == "someone"


def test_an_admin_needs_no_scope() -> None:
    assert signer().read(token({**GOOD, "access": "admin", "scope": []}), now=NOW).scope == ()


# --- S5: headers -------------------------------------------------------------------------------------

HEAD = {"alg": "HS256", "typ": "JWT", "kid": "1"}


@pytest.mark.parametrize(
    "header",
    [
        {**HEAD, "alg": "none"},
        {**HEAD, "alg": "None"},
        {**HEAD, "alg": "HS384"},
        {**HEAD, "alg": "HS512"},
        {**HEAD, "alg": "RS256"},
        {**HEAD, "alg": "ES256"},
        {**HEAD, "alg": ""},
        {**HEAD, "alg": None},
        {**HEAD, "alg": ["HS256"]},
        {**HEAD, "alg": {"HS256": 1}},
        {**HEAD, "crit": ["exp"]},
        {**HEAD, "crit": ["b64"], "b64": False},
        {**HEAD, "b64": False},
        {**HEAD, "b64": True},
        {**HEAD, "jku": "https://keys.example/jwks.json"},
        {**HEAD, "jwk": {"kty": "oct", "k": "AAAA"}},
        {**HEAD, "x5u": "https://keys.example/cert.pem"},
        {**HEAD, "x5c": ["AAAA"]},
        {**HEAD, "cty": "JWT"},
        {**HEAD, "zip": "DEF"},
        {**HEAD, "typ": "JWS"},
        {**HEAD, "typ": 1},
        {**HEAD, "kid": "2"},
        {**HEAD, "kid": ""},
        {**HEAD, "kid": "../../../../dev/null"},
        {**HEAD, "kid": "/proc/sys/kernel/randomize_va_space"},
        {**HEAD, "kid": "1' UNION SELECT 'x' --"},
        {**HEAD, "kid": "1\x00"},
        {**HEAD, "kid": 1},
        {**HEAD, "kid": True},
        {**HEAD, "kid": None},
        {**HEAD, "kid": ["1"]},
        {**HEAD, "kid": {"1": "1"}},
        {"alg": "HS256", "typ": "JWT"},
        {"typ": "JWT", "kid": "1"},
        {},
    ],
    ids=lambda header: json.dumps(header)[:60],
)
def test_a_header_that_is_not_ours_is_refused_though_the_signature_is_good(
    header: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setattr(socket, "create_connection", no_network)
    assert refused(token(header=header))


def test_an_unsigned_token_is_refused() -> None:
    head = part({"alg": "none", "typ": "JWT", "kid": "1"})
    for signature in ("", b64(b""), b64(b"\x00" * 32)):
        assert refused(f"{head}.{part(GOOD)}.{signature}")


def test_another_hash_with_our_secret_is_refused() -> None:
    for hashed in ("HS384", "HS512"):
        made = pyjwt.encode(GOOD, SECRET * 2, algorithm=hashed, headers={"kid": "1"})
        assert refused(made, by=signer(secret=SECRET * 2))


def test_a_public_key_is_no_secret() -> None:
    """RS256 with a PEM, and the confusion of the two: HS256 keyed with the public half."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert refused(pyjwt.encode(GOOD, key, algorithm="RS256", headers={"kid": "1"}))
    assert refused(token(secret=public.decode()))


def test_any_other_secret_is_refused() -> None:
    assert refused(token(secret=SECRET + "."))
    assert refused(token(secret=""))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_changed_character_anywhere_is_refused(place: int) -> None:
    parts = token().split(".")
    middle = len(parts[place]) // 2
    parts[place] = parts[place][:middle] + ("A" if parts[place][middle] != "A" else "B") + parts[place][middle + 1 :]
    assert refused(".".join(parts))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "..",
            "...",
            "a.b",
            "a.b.c",
            "Bearer x",
            "null",
            "{}",
            " ",
            "\x00",
            "\ud800",
            "é.é.é",
            "x" * 100_000,
        ),
        *(token() + ".", token() + " ", " " + token(), token() + "\n", token().replace(".", ".."), token()[:-1]),
        *(token() + "=", token() + "A", f"{part([])}.{part(GOOD)}.AAAA", f"{b64(b'[' * 5000)}.{part(GOOD)}.AAAA"),
        f"{b64(b'1' * 5000)}.{part(GOOD)}.AAAA",
    ],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    assert refused(text)


def test_a_payload_that_is_no_object_is_refused_though_it_is_signed() -> None:
    payloads: list[object] = [[], "text", 5, None, True]
    for payload in payloads:
        signed = f"{part(HEAD)}.{part(payload)}"
        assert refused(f"{signed}.{b64(hmac.digest(SECRET.encode(), signed.encode(), 'sha256'))}")


def test_a_secret_that_is_too_short_verifies_nothing() -> None:
    short = signer(previous_secrets={"old": "x" * 31})
    assert refused(token(secret="x" * 31, header={**HEAD, "kid": "old"}), by=short)


# --- S6: claims --------------------------------------------------------------------------------------

NOTHING = [None, "", [], {}, True, False, 0, 1, 1.5, -1, "x", ["x"], {"x": 1}, 10**30]
WRONG: dict[str, list[Any]] = {
    "sub": [None, "", 5, True, ["someone"], {}, "x" * 129, "a\nb", "a\x00b", "a\x7fb", "a\x85b"],
    "access": [None, "", "root", "READ", "read_write", "Admin", "write ", 1, True, ["write"], {"write": 1}],
    "scope": [
        *(None, "user:a", {}, {"user:a": 1}, 5, True, [], [None], [5], [["user:a"]], ["user:*"], ["User:a"], [""]),
        *(["user:a", "user:a"], ["user:a", "bad"], [f"user:{number}" for number in range(101)], ["user:a\n"]),
    ],
    "exp": [None, "", "9999999999", 1.5, True, [], {}, 0, -1, 10**30, float("inf"), float("nan"), GOOD["exp"] + 0.5],
    "iat": [None, "", str(GOOD["iat"]), 1.5, True, [], {}, -1, 10**30, float("inf"), GOOD["iat"] + 0.5],
    "iss": [None, "", "other", "Qhronos", ["qhronos"], {}, 5, True],
    "aud": [None, "", "other", "Qhronos", ["qhronos"], ["qhronos", "other"], {}, 5, True],
    "jti": [None, "", "not-a-uuid", 5, True, [], {}, JTI.hex, f"{{{JTI}}}", f"urn:uuid:{JTI}", str(JTI).upper()],
}


@pytest.mark.parametrize(("claim", "value"), [(claim, value) for claim, values in WRONG.items() for value in values])
def test_a_claim_of_a_wrong_kind_is_refused_though_the_signature_is_good(claim: str, value: object) -> None:
    assert refused(token({**GOOD, claim: value}))


@pytest.mark.parametrize("claim", GOOD)
def test_every_claim_is_required(claim: str) -> None:
    assert refused(token({name: value for name, value in GOOD.items() if name != claim}))


@pytest.mark.parametrize("extra", ["nbf", "admin", "scp", "master", "owner"])
def test_a_claim_that_is_not_known_is_refused(extra: str) -> None:
    assert refused(token({**GOOD, extra: 1}))


@settings(deadline=None)
@given(
    claim=st.sampled_from(sorted(GOOD)),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)
def test_whatever_a_claim_holds_the_answer_is_claims_or_a_refusal(claim: str, value: object) -> None:
    assert refused(token({**GOOD, claim: value})) or same_kind(GOOD[claim], value)


def same_kind(one: object, other: object) -> bool:
    return type(one) is type(other)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_whatever_the_text_the_answer_is_a_refusal(text: str) -> None:
    assert refused(text)
    assert refused(f"{text}.{part(GOOD)}.{text}")
    assert refused(f"{part(HEAD)}.{b64(text.encode('utf-8', 'surrogatepass'))}.AAAA")


# --- S7: time ----------------------------------------------------------------------------------------

IAT, EXP, DAY = GOOD["iat"], GOOD["exp"], 86_400


@pytest.mark.parametrize(
    ("iat", "exp", "second", "good"),
    [
        (IAT, EXP, 0, True),
        (IAT, EXP, 3599, True),
        (IAT, EXP, 3600, True),  # within the leeway
        (IAT, EXP, 3629, True),
        (IAT, EXP, 3630, False),
        (IAT, EXP, 3631, False),
        (IAT, EXP, 10**6, False),
        (IAT, EXP, -30, True),
        (IAT, EXP, -31, False),  # made in the future
        (IAT + 30, EXP, 0, True),
        (IAT + 31, EXP, 0, False),
        (IAT, IAT, 0, False),
        (IAT, IAT - 1, 0, False),
        (IAT, IAT + 1, 0, True),
        (IAT, IAT + 30 * DAY, 0, True),
        (IAT, IAT + 30 * DAY + 1, 0, False),  # a longer life than is ever minted
        (0, EXP, 0, False),
        (IAT - 30 * DAY, IAT, 0, True),
        (IAT - 30 * DAY, IAT - 31, 0, False),
    ],
)
def test_the_clock_decides(iat: int, exp: int, second: int, good: bool) -> None:
    made = token({**GOOD, "iat": iat, "exp": exp})
    assert refused(made, now=NOW + timedelta(seconds=second)) is not good


def test_the_clock_is_the_one_that_is_given() -> None:
    """A token of another year, read in that year: the machine's clock has no say."""
    for year in (1999, 2150):
        then = datetime(year, 6, 1, tzinfo=UTC)
        made = token({**GOOD, "iat": int(then.timestamp()), "exp": int(then.timestamp()) + 60})
        assert signer().read(made, now=then).issued_at == then
        assert refused(made, now=NOW)


# --- S9: rotation ------------------------------------------------------------------------------------


def test_a_rotated_secret_still_verifies_until_it_is_removed_and_the_new_one_signs() -> None:
    before = signer()
    claims = before.read(token(), now=NOW)
    rotated = signer(key_id="2", secret=SECRET[::-1], previous_secrets={"1": SECRET})
    assert rotated.read(token(), now=NOW) == claims
    made = rotated.sign(claims)
    assert pyjwt.get_unverified_header(made)["kid"] == "2"
    assert rotated.read(made, now=NOW) == claims
    removed = signer(key_id="2", secret=SECRET[::-1])
    assert refused(token(), by=removed)
    assert removed.read(made, now=NOW) == claims
    assert refused(made, by=before)


def test_a_kid_picks_its_own_key_and_no_other() -> None:
    ring = signer(key_id="2", secret=SECRET[::-1], previous_secrets={"1": SECRET})
    assert refused(token(header={**HEAD, "kid": "2"}), by=ring)
    assert refused(token(secret=SECRET[::-1]), by=ring)


# --- S12: nothing is told ------------------------------------------------------------------------------


def test_nothing_of_a_secret_is_in_what_is_raised_or_shown() -> None:
    reader = signer(previous_secrets={"0": SECRET * 2})
    with pytest.raises(UnauthenticatedError) as error:
        reader.read(token(secret="wrong " * 8), now=NOW)
    shown = repr(error.value) + str(error.value) + repr(reader)
    for text in (SECRET, "wrong", token(), hashlib.sha256(SECRET.encode()).hexdigest()):
        assert text not in shown
