"""Who may do what: people, groups and webhook credentials, read again whenever their files change.

A person or a token that was removed from a file has no access after the next check of the file, in every replica. The
reload loop checks the files once a second.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from remediator.audit import Draft, Kind
from remediator.audit.secret_files import secret_files
from remediator.config import Config, SourceSettings, Webhook, read_secret, token_files
from remediator.core.access_settings import Access
from remediator.core.alert import ALERTMANAGER
from remediator.core.approval import Person
from remediator.core.identity import People
from remediator.core.local_files import own_file
from remediator.core.tokens import create_secret
from remediator.errors import ConfigurationError
from remediator.pipeline.receive import Credentials, Signature
from remediator.playbooks.loader import load_config
from remediator.storage import Tx
from remediator.storage.repositories import sessions

WEBHOOK_TOKEN = "webhook.token"  # noqa: S105 - the name of a file
"""File in the state folder with the token that the first start creates if the settings name no credentials."""
GENERATED = "generated"
"""Name of that token."""
_SHORTEST_TOKEN = 8
"""Shorter tokens are refused; lint warns about tokens of fewer than 16 characters."""
log: Any = structlog.get_logger("remediator.runtime.access")


@dataclass(frozen=True, slots=True)
class AccessRules:
    """One version of the rules, read from the files as a whole."""

    settings: Access
    people: People
    credentials: Mapping[str, Credentials]
    """The credentials of each source, by the name of the source."""


@dataclass(slots=True)
class AccessControl:
    """The current rules of this process.

    Args:
        config: the settings at the start.
        settings_file: the settings file; its sections ``access`` and ``webhook``, and the credentials of the sources of
            the start, are read again. None: they are not.
        rules: the current rules, replaced as a whole.
    """

    config: Config
    settings_file: Path | None
    rules: AccessRules
    rejected: tuple[str, ...] = field(default=())
    """The reasons why the current files cannot be used; empty while they are active."""

    @classmethod
    def load(cls, config: Config, settings_file: Path | None = None) -> AccessControl:
        """Read the files for the first time.

        Raises:
            ConfigurationError: a file cannot be used.
        """
        return cls(config, settings_file, read_rules(config))

    @property
    def people(self) -> People:
        """The current people file."""
        return self.rules.people

    @property
    def settings(self) -> Access:
        """The current section ``access`` of the settings file."""
        return self.rules.settings

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of the current rules."""
        sections: tuple[Webhook | SourceSettings, ...] = (self.config.webhook, *self.config.sources.values())
        named = (self.settings_file, self.rules.settings.people)
        return (*(path for path in named if path is not None), *secret_files(sections))

    def read(self) -> AccessRules:
        """Read all files again.

        Raises:
            ConfigurationError: a file cannot be used; the current rules stay.
        """
        if self.settings_file is not None:
            fresh = load_config(self.settings_file, Config)
            # The rest of the settings is fixed at the start: half of a changed file must not become active.
            sources = {name: fresh.sources.get(name, source) for name, source in self.config.sources.items()}
            update = {"access": fresh.access, "webhook": fresh.webhook, "sources": sources}
            self.config = self.config.model_copy(update=update)
        return read_rules(self.config)

    def person(self, who: str, how: str, claimed: Collection[str]) -> Person | None:
        """Return a person as the current rules know them; None if they do not."""
        return self.people.current(who, how, self.settings.group_roles, frozenset(claimed))

    def replace(self, tx: Tx, rules: AccessRules, actor: str) -> bool:
        """Record how the rules change, and end the sessions of removed people and tokens. Return whether they change.

        The caller then sets :attr:`rules`, after the commit.
        """
        before = self.rules
        data = _difference(before, rules)
        if not data:
            return False
        tx.append_audit(Draft(kind=Kind.ACCESS_CHANGED, actor=actor, data=data))
        if removed := before.people.people.keys() - rules.people.people.keys():
            sessions.end_all(tx, removed, actor, "the person was removed from the people file")
        if revoked := _tokens(before.people) - _tokens(rules.people):
            sessions.end_by_credential(tx, revoked, actor)
        return True


def read_rules(config: Config) -> AccessRules:
    """Read the people file and the webhook credentials.

    Raises:
        ConfigurationError: a file cannot be used.
    """
    return AccessRules(config.access, load_people(config), read_credentials(config))


def load_people(config: Config) -> People:
    """Load the people file; return no people if the settings have no people file.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    return People() if config.access.people is None else load_config(config.access.people, People)


def read_credentials(config: Config) -> dict[str, Credentials]:
    """Read the credentials of each source: for Alertmanager, at least the token that the first start created.

    A loopback address does not identify a sender: any web page can make a browser on this host send a notification
    there.

    Raises:
        ConfigurationError: a file cannot be read, or a secret is too short.
    """
    found = {name: credentials_of(source, f"sources.{name}") for name, source in config.sources.items()}
    alertmanager = credentials_of(config.webhook, "webhook")
    if not alertmanager.tokens and alertmanager.basic is None:
        file = own_file(config.state, WEBHOOK_TOKEN)
        created = {GENERATED: create_secret(file, partial(_new_token, file)).encode()}
        alertmanager = replace(alertmanager, tokens=created)
    return {ALERTMANAGER: alertmanager, **found}


def credentials_of(settings: Webhook | SourceSettings, section: str) -> Credentials:
    """Read the credentials of one source.

    Args:
        settings: its settings.
        section: their place in the settings file.

    Raises:
        ConfigurationError: a file cannot be read, or a secret is too short.
    """
    tokens = {name: read_secret(path).encode() for name, path in token_files(settings).items()}
    basic, signature = settings.basic, None
    if isinstance(settings, SourceSettings) and settings.hmac is not None:
        stamp = settings.hmac.timestamp_header
        signature = Signature(
            tuple(read_secret(path).encode() for path in settings.hmac.secret_files),
            settings.hmac.header.lower().encode(),
            None if stamp is None else stamp.lower().encode(),
            settings.hmac.max_age,
        )
    shared = () if signature is None else signature.secrets
    named = [*tokens.items(), *(("of hmac", secret) for secret in shared)]
    short = [name for name, secret in named if len(secret) < _SHORTEST_TOKEN]
    if short:
        raise ConfigurationError(
            f"{section}: the token or secret {short[0]!r} has fewer than {_SHORTEST_TOKEN} characters; "
            "it can be guessed, so write a new one into its file: head -c 32 /dev/urandom | base64"
        )
    password = None if basic is None else (basic.username.encode(), read_secret(basic.password_file).encode())
    return Credentials(tokens, password, signature, section)


def _new_token(file: Path) -> str:
    log.warning("webhook token created; give Alertmanager the content of the file", file=str(file))
    return secrets.token_urlsafe(32)


def _tokens(people: People) -> set[str]:
    return {token for entry in people.people.values() for token in entry.tokens}


def _difference(before: AccessRules, after: AccessRules) -> dict[str, Any]:
    """Return the changes, by name and without secrets; empty without a change."""
    old, new = before.people.people, after.people.people
    found: dict[str, Any] = {
        "people_added": sorted(new.keys() - old.keys()),
        "people_removed": sorted(old.keys() - new.keys()),
        "people_changed": sorted(who for who in old.keys() & new.keys() if old[who] != new[who]),
    }
    if before.settings != after.settings:
        found["settings"] = sorted(
            name
            for name in type(after.settings).model_fields
            if getattr(before.settings, name) != getattr(after.settings, name)
        )
    if before.settings.group_roles != after.settings.group_roles:
        found["group_roles"] = {group: role.value for group, role in sorted(after.settings.group_roles.items())}
    if before.credentials != after.credentials:
        found["webhook_tokens"] = sorted(after.credentials[ALERTMANAGER].tokens)
        found["source_tokens"] = {
            name: sorted(each.tokens) for name, each in sorted(after.credentials.items()) if name != ALERTMANAGER
        }
    return {name: value for name, value in found.items() if value}
