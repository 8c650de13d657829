"""OpenID Connect: the authorization code flow with PKCE, and the verification of ID tokens."""

from __future__ import annotations

import hashlib
import math
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from remediator.clients.webhook import Hook, split
from remediator.config import read_secret
from remediator.core import untrusted_json
from remediator.core.access_settings import Oidc
from remediator.core.listen import is_loopback
from remediator.errors import BadAnswer, ClientError, ConfigurationError, InputError

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Public-key signatures only: neither ``none`` nor a shared secret."""
_LEEWAY = 30
"""Accepted difference between the clocks, in seconds."""
_OLDEST = 600
"""Maximum age of an ID token at sign-in, in seconds. It was issued during this sign-in."""
_LONGEST_LIFE = 7 * 24 * 3600
"""Maximum time until an ID token expires, in seconds."""
_METADATA_LIFE = timedelta(hours=1)
"""Time after which the metadata of the provider is read again."""
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


@dataclass(frozen=True, slots=True)
class Identity:
    """The person that the provider identified."""

    id: str
    groups: frozenset[str]


class OidcClient:
    """The client of one identity provider.

    Args:
        settings: issuer and client credentials.
        redirect: our URL to which the provider redirects the browser.

    Raises:
        ConfigurationError: the extra ``oidc`` is not installed.
    """

    def __init__(self, settings: Oidc, redirect: str) -> None:
        self._settings = settings
        self._redirect = redirect
        self._metadata: Mapping[str, Any] = {}
        self._read_at = float("-inf")
        try:
            from joserfc import jwk, jwt  # noqa: PLC0415 - comes with the extra only
        except ImportError:
            raise ConfigurationError("access.oidc needs the extra 'oidc': pip install 'remediator[oidc]'") from None
        self._jwk: Any = jwk
        self._jwt: Any = jwt

    async def _call(self, method: str, url: str, **more: Any) -> Any:
        base, path = split(url, "the identity provider")
        async with aclosing(Hook("the identity provider", base)) as hook:
            try:
                answer = await hook.call(method, path, **more)
                return untrusted_json.decode(answer.body)
            except ValueError:
                raise BadAnswer("the answer of the identity provider is not JSON") from None

    async def _discover(self) -> Mapping[str, Any]:
        now = time.monotonic()
        if now - self._read_at > _METADATA_LIFE.total_seconds():
            issuer = self._settings.issuer
            found = await self._call("GET", f"{issuer}/.well-known/openid-configuration")
            if not isinstance(found, dict) or str(found.get("issuer", "")).rstrip("/") != issuer.rstrip("/"):
                raise BadAnswer("the issuer of the identity provider differs from access.oidc.issuer")
            missing = [name for name in _ENDPOINTS if not isinstance(found.get(name), str)]
            if missing:
                raise BadAnswer(f"the metadata of the identity provider lacks {', '.join(missing)}")
            in_clear = [name for name in _ENDPOINTS if not self._is_safe(found[name])]
            if in_clear:
                names = ", ".join(in_clear)
                raise BadAnswer(
                    f"the metadata of the identity provider has URLs without https in: {names}; correct the provider"
                )
            self._metadata, self._read_at = found, now
        return self._metadata

    def _is_safe(self, url: str) -> bool:
        """Return whether the connection is protected: HTTPS, or HTTP on loopback for an issuer on loopback."""
        parts, issuer = urlsplit(url), urlsplit(self._settings.issuer)
        on_loopback = is_loopback(parts.hostname or "") and is_loopback(issuer.hostname or "")
        return parts.scheme == "https" or (parts.scheme == "http" and on_loopback)

    async def authorize(self, state: str, nonce: str, verifier: str) -> str:
        """Return the URL of the provider to redirect a person to.

        Raises:
            ClientError: the provider does not answer, or its metadata is invalid.
        """
        metadata = await self._discover()
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._redirect,
            "scope": " ".join(self._settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joined = "&" if "?" in metadata["authorization_endpoint"] else "?"
        return f"{metadata['authorization_endpoint']}{joined}{urlencode(query)}"

    async def redeem(
        self, code: str, verifier: str, nonce: str, now: datetime, *, answered_by: str | None = None
    ) -> Identity:
        """Exchange a code for an ID token and return the person.

        Args:
            code: the code in the answer of the provider.
            verifier: the secret of the PKCE challenge.
            nonce: the value that the ID token must repeat.
            now: the time.
            answered_by: the parameter ``iss`` of the answer (RFC 9207). A code of another provider is never sent on.

        Raises:
            ClientError: the provider does not answer, or its metadata is invalid.
            InputError: the code is rejected, the token is not valid, or it does not identify a person.
        """
        metadata = await self._discover()
        required = metadata.get("authorization_response_iss_parameter_supported") is True
        if (required or answered_by is not None) and answered_by != metadata["issuer"]:
            raise InputError("the answer is not from this identity provider: wrong iss")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect,
            "client_id": self._settings.client_id,
            "code_verifier": verifier,
        }
        headers = {"Accept": "application/json"}
        if self._settings.client_secret_file is not None:
            key = f"{quote(self._settings.client_id, safe='')}:{quote(read_secret(self._settings.client_secret_file))}"
            headers["Authorization"] = f"Basic {b64encode(key.encode()).decode()}"
        try:
            answer = await self._call("POST", metadata["token_endpoint"], form=form, headers=headers)
        except ClientError as error:
            raise InputError(f"the identity provider rejected the code: {error}") from None
        token = answer.get("id_token") if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise InputError("the answer of the identity provider contains no ID token")
        claims = await self._claims(token, metadata)
        self._check_claims(claims, nonce, now)
        return self._identity(claims)

    async def _claims(self, token: str, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        known = await self._call("GET", metadata["jwks_uri"])
        try:
            keys = self._jwk.KeySet.import_key_set(known)
            claims: Mapping[str, Any] = self._jwt.decode(token, keys, algorithms=_ALGORITHMS).claims
        except Exception as error:  # noqa: BLE001 - whatever the library finds wrong, the token is not accepted
            raise InputError(f"the ID token is not valid: {type(error).__name__}") from None
        return claims

    def _check_claims(self, claims: Mapping[str, Any], nonce: str, now: datetime) -> None:
        """Check that the token was issued by our provider, for us, for this sign-in, and now."""
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        seconds = now.timestamp()
        checks = {
            "issuer": str(claims.get("iss", "")).rstrip("/") == self._settings.issuer.rstrip("/"),
            "audience": self._settings.client_id in audiences,
            "party": claims.get("azp", None if len(audiences) > 1 else self._settings.client_id)
            == self._settings.client_id,
            "nonce": claims.get("nonce") == nonce,
            "expiry": _within(claims.get("exp"), seconds - _LEEWAY, seconds + _LONGEST_LIFE),
            "time": _within(claims.get("iat"), seconds - _OLDEST, seconds + _LEEWAY),
        }
        wrong = [name for name, right in checks.items() if not right]
        if wrong:
            raise InputError(f"the ID token is not valid for this sign-in: wrong {', '.join(wrong)}")

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        who = claims.get(self._settings.id_claim)
        if not isinstance(who, str) or not who.strip() or len(who) > 200 or not who.isprintable():
            raise InputError(
                f"the ID token has no usable claim {self._settings.id_claim!r}: check the setting access.oidc.id_claim"
            )
        verified = claims.get("email_verified")
        # some providers send the value as text
        if self._settings.id_claim == "email" and verified is not True and verified != "true":
            raise InputError(
                "this e-mail address is not verified: the identity provider must send email_verified: true"
            )
        groups = claims.get(self._settings.groups_claim, ())
        listed = groups if isinstance(groups, list) else []
        return Identity(who.strip(), frozenset(item for item in listed if isinstance(item, str)))


def _within(value: object, low: float, high: float) -> bool:
    """Return whether a claim is a finite number in this range."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and low < value < high
    )
