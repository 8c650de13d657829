"""Attacks on a running service by a hostile identity provider, or by a page between provider and browser."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwe, jwk, jws

from tests.support.servers import DEADLINE
from tests.support.servers.identity_provider import CLIENT, IdentityProvider
from tests.support.servers.remediator import Remediator

pytestmark = pytest.mark.promise(6)
SESSION = "remediator_session"
ATTEMPT = "remediator_sign_in"


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    """Return the provider on loopback."""
    made = IdentityProvider()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def service(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remediator]:
    """Return the service as a process that reads client addresses from a header, so each test has its own address."""
    made = Remediator(tmp_path_factory.mktemp("service"))
    made.playbooks = []
    (made.folder / "oidc.secret").write_text("the secret of this client")
    oidc = {"issuer": provider.issuer, "client_id": CLIENT, "client_secret_file": "oidc.secret"}
    proxy = {"addresses": ["127.0.0.1"], "header": "", "address_header": "X-Forwarded-For"}
    made.settings["public_url"] = made.url
    made.settings["access"] = {
        "oidc": oidc,
        "group_roles": {"sre": "approver"},
        "anonymous_role": "none",
        "proxy": proxy,
    }
    made.start()
    yield made
    made.stop()


NUMBERS = iter(range(1, 250))


@pytest.fixture
def browser(service: Remediator, provider: IdentityProvider) -> Iterator[httpx.Client]:
    """Return a browser and a provider that behaves correctly."""
    provider.published, provider.token = [provider.key], provider.right_token
    headers = {"X-Forwarded-For": f"198.51.100.{next(NUMBERS)}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=30) as client:
        yield client


def begin(browser: httpx.Client, provider: IdentityProvider) -> str:
    """Begin a sign-in and return its state."""
    answer = browser.get("/sign-in/oidc")
    assert answer.status_code == 303, answer.text
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    provider.nonce = query["nonce"][0]
    return query["state"][0]


def finish(browser: httpx.Client, state: str, **more: str) -> httpx.Response:
    """Return from the provider with a code."""
    return browser.get("/sign-in/oidc/back", params={"code": "any", "state": state, **more})


def signed_in(browser: httpx.Client) -> bool:
    """Return whether the browser has the right to read."""
    return browser.get("/api/v1/runs").status_code == 200


def test_the_right_token_signs_in_once(browser: httpx.Client, provider: IdentityProvider) -> None:
    """A right token signs in once, with PKCE and the secret of the client. The attacks below change one part of it."""
    state = begin(browser, provider)
    assert finish(browser, state).status_code == 303 and signed_in(browser)
    assert len(provider.forms[-1]["code_verifier"]) >= 43
    assert provider.headers[-1]["Authorization"].startswith("Basic ")
    browser.cookies.delete(SESSION)
    assert finish(browser, state).status_code == 400 and not signed_in(browser)  # the attempt is used up


def test_refused_answers_are_throttled_and_audited(
    browser: httpx.Client, service: Remediator, provider: IdentityProvider
) -> None:
    """Refused answers are throttled, so a client cannot make the service send many codes to the provider."""
    provider.token = lambda nonce: None
    statuses, before = [], len(provider.forms)
    for _ in range(13):
        statuses.append(finish(browser, begin(browser, provider)).status_code)
    assert statuses == [403] * 10 + [429] * 3
    assert len(provider.forms) == before + 10
    assert service.audit_has("contains no ID token")


def test_the_denial_of_the_provider_is_an_event(
    browser: httpx.Client, service: Remediator, provider: IdentityProvider
) -> None:
    """A denial by the provider, or an answer to another sign-in, is an audit event."""
    state = begin(browser, provider)
    answer = browser.get("/sign-in/oidc/back", params={"error": "access_denied", "state": state})
    assert answer.status_code == 403 and service.audit_has("the identity provider denied the sign-in")
    assert 'method="oidc",result="failed"' in service.metrics()


NOW = time.time
CLAIMS: dict[str, Callable[[IdentityProvider], dict[str, Any]]] = {
    "nonce of another sign-in": lambda idp: {"nonce": "another"},
    "no nonce": lambda idp: {"nonce": None},
    "nonce of another type": lambda idp: {"nonce": [idp.nonce]},
    "another issuer": lambda idp: {"iss": "https://evil.example"},
    "issuer with a path": lambda idp: {"iss": f"{idp.issuer}/tenant"},
    "no issuer": lambda idp: {"iss": None},
    "another audience": lambda idp: {"aud": "another-client"},
    "audience with a prefix": lambda idp: {"aud": f"{CLIENT}-2"},
    "no audience": lambda idp: {"aud": None},
    "two audiences without a party": lambda idp: {"aud": [CLIENT, "another-client"]},
    "another party": lambda idp: {"aud": [CLIENT, "another-client"], "azp": "another-client"},
    "another party for one audience": lambda idp: {"azp": "another-client"},
    "expired": lambda idp: {"exp": int(NOW()) - 40},
    "never expires": lambda idp: {"exp": int(NOW()) + 30 * 24 * 3600},
    "no expiry": lambda idp: {"exp": None},
    "expiry as a text": lambda idp: {"exp": "9999999999"},
    "infinite expiry": lambda idp: {"exp": 1e400},
    "issued long ago": lambda idp: {"iat": int(NOW()) - 3600},
    "issued in the future": lambda idp: {"iat": int(NOW()) + 120},
    "no time of issue": lambda idp: {"iat": None},
    "time of issue as true": lambda idp: {"iat": True},
    "address not verified": lambda idp: {"email_verified": False},
    "address not verified, as a text": lambda idp: {"email_verified": "false"},
    "verification absent": lambda idp: {"email_verified": None},
    "verified by a number": lambda idp: {"email_verified": 1},
    "no address": lambda idp: {"email": None},
    "address of several people": lambda idp: {"email": ["ann@example.com", "bob@example.com"]},
    "address with a line break": lambda idp: {"email": "ann@example.com\nbob@example.com"},
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_token_with_a_wrong_claim_is_refused(browser: httpx.Client, provider: IdentityProvider, name: str) -> None:
    """A token with a valid signature but one wrong claim signs nobody in."""
    provider.token = lambda nonce: provider.sign(provider.claims(nonce, **CLAIMS[name](provider)))
    answer = finish(browser, begin(browser, provider))
    assert answer.status_code == 403 and 'role="alert"' in answer.text, answer.text
    assert SESSION not in browser.cookies and not signed_in(browser)


def part(data: Any) -> str:
    """Return a part of a token."""
    return urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


def without_signature(provider: IdentityProvider, nonce: str, algorithm: str) -> str:
    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(provider.claims(nonce))}."


def with_the_public_key_as_secret(provider: IdentityProvider, nonce: str) -> str:
    public = jwk.OctKey.import_key(provider.key.as_pem(private=False), {"kid": "first"})
    return provider.sign(provider.claims(nonce), public, "HS256")


def with_the_client_secret(provider: IdentityProvider, nonce: str) -> str:
    secret = jwk.OctKey.import_key(b"the secret of this client", {"kid": "first"})
    return provider.sign(provider.claims(nonce), secret, "HS256")


def with_a_key_in_the_header(provider: IdentityProvider, nonce: str) -> str:
    own = jwk.RSAKey.generate_key(2048, {"kid": "first"})
    return provider.sign(provider.claims(nonce), own, jwk=own.as_dict(private=False))


def with_a_link_to_keys(provider: IdentityProvider, nonce: str) -> str:
    own = jwk.RSAKey.generate_key(2048, {"kid": "first"})
    return provider.sign(provider.claims(nonce), own, jku=f"{provider.issuer}/own")


def with_a_key_of_nobody(provider: IdentityProvider, nonce: str) -> str:
    return provider.sign(provider.claims(nonce), jwk.RSAKey.generate_key(2048, {"kid": "other"}))


def with_a_critical_header(provider: IdentityProvider, nonce: str) -> str:
    return provider.sign(provider.claims(nonce), crit=["exp"], exp=1)


def changed_after_signing(provider: IdentityProvider, nonce: str) -> str:
    head, _, signature = provider.sign(provider.claims(nonce)).split(".")
    return f"{head}.{part(provider.claims(nonce, email='bob@example.com'))}.{signature}"


def encrypted(provider: IdentityProvider, nonce: str) -> str:
    return jwe.encrypt_compact(
        {"alg": "RSA-OAEP", "enc": "A128GCM"}, json.dumps(provider.claims(nonce)).encode(), provider.key
    )


def two_bodies(provider: IdentityProvider, nonce: str) -> str:
    body = json.dumps(provider.claims(nonce))[:-1] + ', "email": "bob@example.com"}'
    return jws.serialize_compact({"alg": "RS256", "kid": "other"}, body.encode(), jwk.RSAKey.generate_key(2048))


TOKENS: dict[str, Callable[[IdentityProvider, str], str | None]] = {
    "no signature": lambda idp, nonce: without_signature(idp, nonce, "none"),
    "no signature, NONE": lambda idp, nonce: without_signature(idp, nonce, "NONE"),
    "no signature, RS256": lambda idp, nonce: without_signature(idp, nonce, "RS256"),
    "the public key as a shared secret": with_the_public_key_as_secret,
    "the client secret as a shared secret": with_the_client_secret,
    "a key in the header": with_a_key_in_the_header,
    "a link to keys in the header": with_a_link_to_keys,
    "a key of nobody": with_a_key_of_nobody,
    "an unknown critical header": with_a_critical_header,
    "changed after signing": changed_after_signing,
    "encrypted for the public key, not signed": encrypted,
    "another key and a repeated claim": two_bodies,
    "no token": lambda idp, nonce: None,
    "nonsense": lambda idp, nonce: "a.b.c",
    "many parts": lambda idp, nonce: "." * 5000,
}


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_without_a_signature_of_the_provider_is_refused(
    browser: httpx.Client, provider: IdentityProvider, name: str
) -> None:
    """Confused algorithms, keys inside the token and changed tokens are refused, and no key is fetched for them."""
    asked = len(provider.asked)
    provider.token = lambda nonce: TOKENS[name](provider, nonce)
    answer = finish(browser, begin(browser, provider))
    assert answer.status_code == 403 and 'role="alert"' in answer.text, answer.text
    assert SESSION not in browser.cookies and not signed_in(browser)
    assert "/own" not in provider.asked[asked:] and "Traceback" not in answer.text


def test_a_key_counts_only_while_the_provider_publishes_it(browser: httpx.Client, provider: IdentityProvider) -> None:
    """After a rotation, a token of the old key is refused at once, and one of the new key is accepted."""
    old, new = provider.key, jwk.RSAKey.generate_key(2048, {"kid": "second", "use": "sig"})
    provider.published = [new]
    provider.token = lambda nonce: provider.sign(provider.claims(nonce), old)
    assert finish(browser, begin(browser, provider)).status_code == 403 and not signed_in(browser)
    provider.token = lambda nonce: provider.sign(provider.claims(nonce), new)
    assert finish(browser, begin(browser, provider)).status_code == 303 and signed_in(browser)


def test_the_answer_must_be_of_this_browser_and_this_provider(
    browser: httpx.Client, service: Remediator, provider: IdentityProvider
) -> None:
    """With a foreign or missing state, or a second provider (RFC 9207), the service does not send the code on."""
    with httpx.Client(
        base_url=service.url, headers={"X-Forwarded-For": "198.51.100.251"}, timeout=DEADLINE
    ) as attacker:
        foreign = begin(attacker, provider)
    begin(browser, provider)
    before = len(provider.forms)
    for state in (foreign, "", "ä", "x" * 5000):
        assert finish(browser, state).status_code == 400
    browser.cookies.delete(ATTEMPT)
    assert finish(browser, foreign).status_code == 400
    assert finish(browser, begin(browser, provider), iss="https://evil.example").status_code == 403
    assert len(provider.forms) == before and not signed_in(browser)
    assert finish(browser, begin(browser, provider), iss=provider.issuer).status_code == 303


@pytest.mark.parametrize("back", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_a_sign_in_redirects_only_to_a_page_of_this_service(
    browser: httpx.Client, service: Remediator, provider: IdentityProvider, back: str
) -> None:
    """A sign-in link cannot redirect to another site."""
    answer = browser.get("/sign-in/oidc", params={"next": back})
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    provider.nonce = query["nonce"][0]
    assert query["redirect_uri"] == [f"{service.url}/sign-in/oidc/back"]
    assert finish(browser, query["state"][0]).headers["location"] == "/"


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": "http://id.example.com/token"},
        {"jwks_uri": "http://id.example.com/keys"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": "file:///etc/passwd"},
    ],
    ids=str,
)
def test_metadata_that_leads_elsewhere_is_refused(
    tmp_path: Path, provider: IdentityProvider, metadata: dict[str, Any]
) -> None:
    """Metadata of another issuer or with an unprotected address is refused."""
    made = Remediator(tmp_path)
    made.playbooks = []
    made.settings |= {"public_url": made.url, "access": {"oidc": {"issuer": provider.issuer, "client_id": CLIENT}}}
    provider.metadata = metadata
    try:
        made.start()
        with httpx.Client(base_url=made.url, timeout=DEADLINE) as client:
            answer = client.get("/sign-in/oidc")
        assert answer.status_code == 502 and "location" not in answer.headers, answer.text
    finally:
        provider.metadata = {}
        made.stop()
