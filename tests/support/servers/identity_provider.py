"""An OpenID provider with answers that the test chooses: a real HTTP server with real keys, correct or hostile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwk, jwt
from joserfc.jws import JWSRegistry

CLIENT = "remediator"


class IdentityProvider:
    """The provider. Its token endpoint answers every code with the next ID token."""

    def __init__(self) -> None:
        self.key = jwk.RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
        self.published: list[Any] = [self.key]
        """The keys of the JWKS document."""
        self.metadata: dict[str, Any] = {}
        """Replaces fields of the metadata."""
        self.token: Callable[[str], str | None] = self.right_token
        """Returns the ID token for a nonce."""
        self.nonce = ""
        self.forms: list[dict[str, str]] = []
        """The requests to the token endpoint."""
        self.headers: list[Mapping[str, str]] = []
        self.asked: list[str] = []
        """The paths of all requests."""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                provider.asked.append(self.path)
                self._answer(provider.document(self.path))

            def do_POST(self) -> None:
                provider.asked.append(self.path)
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                provider.forms.append({name: values[0] for name, values in parse_qs(body).items()})
                provider.headers.append(dict(self.headers))
                token = provider.token(provider.nonce)
                self._answer({"access_token": "a", "token_type": "Bearer"} | ({"id_token": token} if token else {}))

            def _answer(self, document: Any) -> None:
                body = json.dumps(document).encode()
                self.send_response(200 if document is not None else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def document(self, path: str) -> Any:
        """Return the metadata or the keys."""
        if path == "/.well-known/openid-configuration":
            names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            return {"issuer": self.issuer, **{name: f"{self.issuer}/{name}" for name in names}, **self.metadata}
        if path == "/jwks_uri":
            return {"keys": [key.as_dict(private=False) for key in self.published]}
        return None

    def claims(self, nonce: str, **changed: Any) -> dict[str, Any]:
        """Return correct claims with changes. None removes a claim."""
        now = int(time.time())
        right = {"iss": self.issuer, "aud": CLIENT, "sub": "1", "nonce": nonce, "iat": now, "exp": now + 300}
        person = {"email": "ann@example.com", "email_verified": True, "groups": ["sre"]}
        return {name: value for name, value in {**right, **person, **changed}.items() if value is not None}

    def sign(self, claims: Mapping[str, Any], key: Any = None, algorithm: str = "RS256", **header: Any) -> str:
        """Return a signed token."""
        key = key or self.key
        registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
        return jwt.encode({"alg": algorithm, "kid": key.kid, **header}, dict(claims), key, registry=registry)

    def right_token(self, nonce: str) -> str:
        """Return a token that the service must accept."""
        return self.sign(self.claims(nonce))
