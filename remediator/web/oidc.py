"""OpenID Connect: the authorization code flow with PKCE, and what is believed of an ID token."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from remediator.clients.endpoints import read_secret
from remediator.clients.webhook import Hook, split
from remediator.config import Oidc
from remediator.errors import BadAnswer, ClientError, ConfigurationError, InputError

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures with a public key only: neither ``none`` nor one with a shared secret."""
_LEEWAY = 30
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the provider vouches for."""

    id: str
    groups: frozenset[str]


class OidcClient:
    """One provider.

    Args:
        settings: where it is, and who we are to it.
        redirect: our address to which it sends people back.

    Raises:
        ConfigurationError: the extra for it is not installed.
    """

    def __init__(self, settings: Oidc, redirect: str) -> None:
        self._settings = settings
        self._redirect = redirect
        self._metadata: Mapping[str, Any] = {}
        try:
            from joserfc import jwk, jwt  # noqa: PLC0415 - comes with the extra only
        except ImportError:
            raise ConfigurationError("access.oidc: install remediator with the extra 'oidc'") from None
        self._jwk: Any = jwk
        self._jwt: Any = jwt

    async def _call(self, method: str, url: str, **more: Any) -> Any:
        base, path = split(url, "the identity provider")
        hook = Hook("the identity provider", base)
        try:
            answer = await hook.call(method, path, **more)
            return json.loads(answer.body)
        except ValueError:
            raise BadAnswer("the identity provider did not answer in JSON") from None
        finally:
            await hook.aclose()

    async def _discover(self) -> Mapping[str, Any]:
        if not self._metadata:
            issuer = self._settings.issuer
            found = await self._call("GET", f"{issuer}/.well-known/openid-configuration")
            if not isinstance(found, dict) or str(found.get("issuer", "")).rstrip("/") != issuer.rstrip("/"):
                raise BadAnswer("the identity provider calls itself something else than access.oidc.issuer")
            missing = [name for name in _ENDPOINTS if not isinstance(found.get(name), str)]
            if missing:
                raise BadAnswer(f"the identity provider does not say its {', '.join(missing)}")
            self._metadata = found
        return self._metadata

    async def authorize(self, state: str, nonce: str, verifier: str) -> str:
        """Where to send a person.

        Raises:
            ClientError: the provider cannot be asked.
        """
        metadata = await self._discover()
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
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
        return f"{metadata['authorization_endpoint']}{joined}{urlencode(asked)}"

    async def redeem(self, code: str, verifier: str, nonce: str, now: datetime) -> Identity:
        """Who the person is that came back with a code.

        Raises:
            ClientError: the provider cannot be asked, or says no.
            InputError: its token is not to be believed, or does not say who it is.
        """
        metadata = await self._discover()
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
            raise InputError(f"the identity provider did not accept the code: {error}") from None
        token = answer.get("id_token") if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise InputError("the identity provider gave no ID token")
        claims = await self._claims(token, metadata)
        self._believe(claims, nonce, now)
        return self._identity(claims)

    async def _claims(self, token: str, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        known = await self._call("GET", metadata["jwks_uri"])
        try:
            keys = self._jwk.KeySet.import_key_set(known)
            claims: Mapping[str, Any] = self._jwt.decode(token, keys, algorithms=_ALGORITHMS).claims
        except Exception as error:  # noqa: BLE001 - whatever a library finds wrong with a token: it is not believed
            raise InputError(f"the ID token is not valid: {type(error).__name__}") from None
        return claims

    def _believe(self, claims: Mapping[str, Any], nonce: str, now: datetime) -> None:
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        seconds = now.timestamp()
        believed = {
            "issuer": str(claims.get("iss", "")).rstrip("/") == self._settings.issuer.rstrip("/"),
            "audience": self._settings.client_id in audiences,
            "party": len(audiences) == 1 or claims.get("azp") == self._settings.client_id,
            "nonce": claims.get("nonce") == nonce,
            "expiry": isinstance(claims.get("exp"), int | float) and claims["exp"] > seconds - _LEEWAY,
            "time": isinstance(claims.get("iat"), int | float) and claims["iat"] < seconds + _LEEWAY,
        }
        wrong = [name for name, right in believed.items() if not right]
        if wrong:
            raise InputError(f"the ID token is not for this sign-in: {', '.join(wrong)}")

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        who = claims.get(self._settings.id_claim)
        if not isinstance(who, str) or not who.strip() or len(who) > 200 or not who.isprintable():
            raise InputError(f"the ID token has no usable claim {self._settings.id_claim!r}")
        if self._settings.id_claim == "email" and claims.get("email_verified", True) not in (True, "true"):
            raise InputError("the provider has not verified this e-mail address")
        groups = claims.get(self._settings.groups_claim, ())
        listed = groups if isinstance(groups, list) else []
        return Identity(who.strip(), frozenset(item for item in listed if isinstance(item, str)))
