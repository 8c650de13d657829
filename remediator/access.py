"""Settings: who may come in and how they are known, and where requests for approval go."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import Literal

from pydantic import Field, field_validator

from remediator.clients.endpoints import checked_url
from remediator.core.approval import Role
from remediator.core.types import Duration, FilePath, PositiveDuration, Strict


class Proxy(Strict):
    """A reverse proxy that signs people in and says who they are in a header."""

    addresses: tuple[str, ...] = Field(min_length=1, description="Where it may connect from: addresses or networks.")
    header: str = Field(default="X-Forwarded-User", description="The header with the person's id.")
    groups_header: str = Field(default="", description="The header with groups, separated by commas; empty: none.")

    @field_validator("addresses")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            ipaddress.ip_network(item)
        return value

    def trusts(self, address: str) -> bool:
        """Whether a connection from there is the proxy's."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found  # a socket for both families says IPv4 in IPv6's way
        return any(found in ipaddress.ip_network(item) for item in self.addresses)


class Oidc(Strict):
    """OpenID Connect: authorization code with PKCE."""

    issuer: str = Field(description="As the provider spells it; /.well-known/openid-configuration is below it.")
    client_id: str
    client_secret_file: FilePath | None = Field(default=None, description="File; absent for a public client.")
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    id_claim: str = Field(default="email", description="The claim that is the person's id here.")
    groups_claim: str = Field(default="groups", description="The claim with the person's groups.")
    label: str = Field(default="single sign-on", description="What the button says.")

    @field_validator("issuer")
    @classmethod
    def _url(cls, value: str) -> str:
        return checked_url(value)


class Slack(Strict):
    """Buttons in Slack."""

    signing_secret_file: FilePath = Field(description="The app's signing secret.")


class Access(Strict):
    """Who may come in."""

    people: FilePath | None = Field(default=None, description="The people file: roles, groups, hashed tokens.")
    anonymous: Literal["auto", "viewer", "none"] = Field(
        default="auto", description="What somebody unknown may: viewer looks, none has to sign in; auto: by listen."
    )
    group_roles: dict[str, Role] = Field(default={}, description="Roles that come with a provider's groups.")
    proxy: Proxy | None = None
    oidc: Oidc | None = None
    slack: Slack | None = None
    session: PositiveDuration = Field(default=timedelta(hours=12), description="How long signing in lasts.")


class Approvals(Strict):
    """Where people are asked."""

    channels: tuple[str, ...] = Field(
        default=(),
        description="Channels for requests, the first first; the next one when a request cannot be delivered.",
    )
    link_holders: bool = Field(
        default=False, description="Let a link alone approve plans of low risk; on record as 'link holder'."
    )
    keys_file: FilePath | None = Field(default=None, description="Keys that sign links; default <state>/links.key.")
    snooze: Duration = Field(default=timedelta(minutes=30), description="How long a snoozed request sleeps.")
