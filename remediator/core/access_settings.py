"""Settings of identity and roles: people, proxy, single sign-on and Slack."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from remediator.core.approval import Role
from remediator.core.listen import is_loopback
from remediator.core.types import FieldError, FilePath, PositiveDuration, SecretFile, Strict
from remediator.core.urls import checked_url

UNIX_PEER = "unix"
"""Value of ``access.proxy.addresses`` for connections over the Unix socket."""
_MOST_TRUSTED = {4: 2**25, 6: 2**96}
"""By IP version: the most addresses that may be trusted. All private networks of IPv4 together have fewer; an IPv6
provider has as many."""


class Proxy(Strict):
    """A reverse proxy that authenticates users and sends their ID in a header."""

    addresses: tuple[str, ...] = Field(
        min_length=1,
        description="Addresses or networks of the proxy, for example 10.0.0.7 or 10.0.0.0/24. Or unix, for connections "
        "over the Unix socket of the service.",
    )
    header: str = Field(
        default="X-Forwarded-User",
        description="Header with the ID of the user. Empty: the proxy does not authenticate users.",
    )
    groups_header: str = Field(
        default="", description="Header with the groups of the user, separated by commas. Empty: no groups."
    )
    address_header: str = Field(
        default="",
        description="Header to which the proxy appends the address of the client, for example X-Forwarded-For. Empty: "
        "all clients of the proxy count as one address, so failed sign-ins of one client lock out all clients.",
    )

    @field_validator("addresses")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        networks = [ipaddress.ip_network(item) for item in value if item != UNIX_PEER]
        for version, most in _MOST_TRUSTED.items():
            items = [item for item in networks if item.version == version]
            # two halves of the Internet are as wide as the whole Internet, so check the sum of all networks
            if sum(item.num_addresses for item in items) > most:
                raise ValueError(
                    f"{', '.join(map(str, items))}: the service would trust almost every address of IPv{version}, so "
                    "every caller can sign in as anyone; name only the proxy, for example 10.0.0.7"
                )
        return value

    def trusts(self, address: str) -> bool:
        """Return whether a connection from this address comes from the proxy. A Unix socket has an empty address."""
        if not address:
            return UNIX_PEER in self.addresses
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found  # a dual-stack socket reports IPv4 peers as ::ffff:a.b.c.d
        return any(found in ipaddress.ip_network(item) for item in self.addresses if item != UNIX_PEER)

    def client_address(self, peer: str, headers: Sequence[str]) -> str:
        """Return the address of a client behind the proxy: the last address in the headers that is not a proxy.

        The client controls all earlier addresses.

        Args:
            peer: address of the connection; also the result if it is no proxy, or the header has no address.
            headers: the values of ``address_header``, in their order.
        """
        if not self.trusts(peer):
            return peer
        for text in reversed(",".join(headers).split(",")):
            try:
                address = str(ipaddress.ip_address(text.strip()))
            except ValueError:
                break
            if not self.trusts(address):
                return address
        return peer


class Oidc(Strict):
    """Sign-in with OpenID Connect: authorization code flow with PKCE."""

    issuer: str = Field(description="Issuer URL, exactly as the provider writes it.")
    client_id: str = Field(description="Client ID at the provider.")
    client_secret_file: SecretFile | None = Field(
        default=None, description="File with the client secret. Not set for a public client."
    )
    scopes: tuple[str, ...] = Field(default=("openid", "email", "profile"), description="Scopes to request.")
    id_claim: str = Field(default="email", description="Claim that contains the ID of the user.")
    groups_claim: str = Field(default="groups", description="Claim that contains the groups of the user.")
    label: str = Field(default="single sign-on", description="Label of the sign-in button.")

    @field_validator("issuer")
    @classmethod
    def _url(cls, value: str) -> str:
        """Refuse HTTP off loopback: anyone on the network path could then sign in as anyone."""
        parts = urlsplit(checked_url(value))
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise ValueError(f"{value!r} must begin with https://, for example https://login.example.com")
        return value


class Slack(Strict):
    """Buttons, dialogs and commands in Slack: over a socket (no open port), or by requests of Slack to this service."""

    signing_secret_file: SecretFile | None = Field(
        default=None,
        description="File with the signing secret of the Slack app, for requests that Slack sends.",
    )
    app_token_file: SecretFile | None = Field(
        default=None,
        description="File with the app-level token (xapp-…, scope connections:write). With it, this service opens a "
        "socket to Slack (Socket Mode), and needs no open port.",
    )
    bot_token_file: SecretFile | None = Field(
        default=None, description="File with the bot token (xoxb-…). With it, buttons ask for a reason in a dialog."
    )
    api: str = Field(default="https://slack.com", description="Base URL of the API, for example of a proxy.")

    @model_validator(mode="after")
    def _one_way(self) -> Slack:
        if self.signing_secret_file is None and self.app_token_file is None:
            raise FieldError("set signing_secret_file (requests of Slack), app_token_file (socket), or both")
        return self


class Access(Strict):
    """Identity and roles."""

    people: FilePath | None = Field(
        default=None, description="People file: roles, groups and token hashes of each person."
    )
    anonymous_role: Literal["auto", "viewer", "none"] = Field(
        default="auto",
        description="Access without sign-in. viewer: everyone may read. none: everyone must sign in. auto: viewer if "
        "both 'listen' and 'public_url' are loopback addresses.",
    )
    group_roles: dict[str, Role] = Field(
        default={}, description="Role for each group of the identity provider, for example {sre: approver}."
    )
    proxy: Proxy | None = Field(default=None, description="Sign-in by a reverse proxy.")
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Further host names of this service. Requests that name another public host are refused.",
    )
    oidc: Oidc | None = Field(default=None, description="Sign-in with OpenID Connect.")
    slack: Slack | None = Field(default=None, description="Decisions with buttons in Slack.")
    session: PositiveDuration = Field(
        default=timedelta(hours=12), description="How long a sign-in is valid, even if it is used all the time."
    )
    session_idle: PositiveDuration = Field(
        default=timedelta(hours=1),
        description="How long a sign-in is valid without a request of the person. It does not apply if the person "
        "chose to stay signed in for the shift.",
    )
