"""Rules about the settings: values that work, but give other users too many rights."""

from __future__ import annotations

import ipaddress
import os
import stat
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from remediator.audit.secret_files import secret_files
from remediator.authoring.lint import LintContext, Rule
from remediator.clients.endpoints import Endpoint, HttpAuth
from remediator.config import Config, SourceSettings, Webhook, read_secret, token_files
from remediator.core.access_settings import UNIX_PEER
from remediator.core.listen import is_loopback
from remediator.errors import ConfigurationError
from remediator.playbooks.diagnostics import Diagnostic, Severity
from remediator.playbooks.parsing.nodes import Path as Place
from remediator.playbooks.parsing.nodes import find
from remediator.storage.url import parse_postgresql_url

_SHORT_TOKEN = 16
_WIDEST = {4: 16, 6: 48}
"""The shortest prefix of a network in which only a proxy is expected, by IP version."""
MOUNTED = ("/run/secrets", "/var/run/secrets")
"""Folders in which Docker and Kubernetes mount secrets: the platform sets the modes of the files there."""


class SettingsRule(Rule):
    """A rule that reads the settings only."""

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        """Yield a diagnostic for each place that the rule finds in the settings file."""
        if context.config is None or context.settings is None:
            return
        for place, message in self.find(context.config):
            # the node of a place, or of its nearest parent in the file; for the whole file, its first line
            node = find(context.settings, place)[0]
            yield self.at_node(find(context.settings, ("kind",))[0] if node is context.settings else node, message)

    @abstractmethod
    def find(self, config: Config) -> Iterator[tuple[Place, str]]:
        """Yield each place in the settings with its risk."""


class PlainHttp(SettingsRule):
    """People or Alertmanager reach the service over a network by HTTP without TLS."""

    id = "plain-http"
    why = "Everyone on the network path can read tokens and cookies, and approve with them."
    fix = "set tls, or put a proxy with TLS before a loopback address, and begin public_url with https://"

    def find(self, config: Config) -> Iterator[tuple[Place, str]]:
        public = urlsplit(config.public_url)
        if public.scheme == "http" and not is_loopback(public.hostname or ""):
            yield ("public_url",), f"people open {config.public_url} without TLS"
        elif not config.public_url and config.tls is None:
            for address in config.addresses:
                if not address.is_local:
                    yield ("listen",), f"the service listens on {address} without TLS"


class ShortToken(SettingsRule):
    """A token of the webhook, or a secret of a source, has fewer than 16 characters."""

    id = "short-token"
    why = "A short token can be guessed, and an attacker who has it can start runs."
    fix = "write a new token into the file: head -c 32 /dev/urandom | base64"

    def find(self, config: Config) -> Iterator[tuple[Place, str]]:
        for place, path in self._files(config):
            try:
                length = len(read_secret(path))
            except ConfigurationError:
                continue  # the start and the doctor report it
            if length < _SHORT_TOKEN:
                yield place, f"the token in {path} has {length} characters"

    def _files(self, config: Config) -> Iterator[tuple[Place, Path]]:
        sections: list[tuple[Place, Webhook | SourceSettings]] = [(("webhook",), config.webhook)]
        sections += [(("sources", name), source) for name, source in config.sources.items()]
        for section, settings in sections:
            for name, path in token_files(settings).items():
                yield (*section, name) if name == "token_file" else (*section, "tokens", name), path
            if isinstance(settings, SourceSettings) and settings.hmac is not None:
                for at, path in enumerate(settings.hmac.secret_files):
                    yield (*section, "hmac", "secret_files", at), path


class WideProxy(SettingsRule):
    """The proxy that signs people in may have any address of a large network."""

    id = "wide-proxy"
    why = "Every host in this network can sign in as anyone, with one header."
    fix = "name the addresses of the proxy only"

    def find(self, config: Config) -> Iterator[tuple[Place, str]]:
        proxy = config.access.proxy
        for at, item in enumerate(() if proxy is None else proxy.addresses):
            network = None if item == UNIX_PEER else ipaddress.ip_network(item)
            if network is not None and network.prefixlen < _WIDEST[network.version]:
                number = network.num_addresses
                yield ("access", "proxy", "addresses", at), f"{item} has {number} addresses, and all are trusted"


class CredentialInClear(SettingsRule):
    """A password or token is sent over a network by HTTP without TLS."""

    id = "credential-in-clear"
    why = "Everyone on the network path can read it."
    fix = "use an https:// URL"

    def find(self, config: Config) -> Iterator[tuple[Place, str]]:
        places: list[tuple[Place, BaseModel]] = [(("prometheus",), config.prometheus)] if config.prometheus else []
        places += [(("alertmanagers", at), endpoint) for at, endpoint in enumerate(config.alertmanagers)]
        for name, source in config.sources.items():
            given = source.model_extra or {}
            for key, value in given.items():
                if isinstance(value, dict) and "url" in value:  # the server that this kind of source queries
                    with suppress(ValidationError):
                        places.append((("sources", name, key), Endpoint.model_validate(value)))
        places += [(("requests", name), request) for name, request in config.requests.items()]
        for place, model in places:
            parts = urlsplit(str(getattr(model, "url", "")))
            secret = isinstance(model, HttpAuth) and (model.basic or model.token_file or model.header_files)
            if secret and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
                yield (*place, "url"), f"the credentials for {parts.hostname} are sent without TLS"


class PasswordInSettings(SettingsRule):
    """The database URL in the settings file contains a password."""

    id = "password-in-settings"
    why = "A person or program that can read the settings, or a copy of them, can read and change the database."
    fix = "write the URL into a file that only the service can read, and name it: store: {url_file: database.url}"

    def find(self, config: Config) -> Iterator[tuple[Place, str]]:
        if not isinstance(config.store, str) or config.store == "sqlite":
            return
        try:
            url = parse_postgresql_url(config.store)
        except ConfigurationError:
            return  # the start and the doctor report it
        if url.password or "password" in url.query:
            yield ("store",), "the URL of the database contains its password"


class ReadableSecret(SettingsRule):
    """All users of this host can read a secret file."""

    id = "readable-secret"
    why = "Every program on this host can use the secret."
    fix = "remove the permissions of other users: chmod o= FILE"

    def find(self, config: Config) -> Iterator[tuple[Place, str]]:
        for path in sorted({*secret_files(config)}):
            if readable_by_all(path):
                yield ("state",), f"all users can read {path}"


def readable_by_all(path: Path) -> bool:
    """Return whether users other than the owner and the group can read a file that is no mounted secret."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return bool(mode & stat.S_IROTH) and not str(path.resolve()).startswith(MOUNTED)


class WritableSettings(SettingsRule):
    """All users of this host can change settings, playbooks, the inventory or the people file."""

    id = "writable-settings"
    why = "Every program on this host can give itself all rights, or add commands that the service runs."
    fix = "remove the write permission of other users: chmod o-w FILE"

    def find(self, config: Config) -> Iterator[tuple[Place, str]]:
        for place, named in (
            *((("playbooks", number), path) for number, path in enumerate(config.playbooks)),
            (("inventory",), config.inventory),
            (("access", "people"), config.access.people),
        ):
            within = [] if named is None else [named, *(sorted(named.glob("**/*.y*ml")) if named.is_dir() else ())]
            yield from ((place, f"all users can change {path}") for path in within if writable_by_all(path))


def writable_by_all(path: Path) -> bool:
    """Return whether users other than the owner and the group can change a file or a folder that is mounted writable.

    A mounted ConfigMap of Kubernetes is a read-only folder with mode 0777.
    """
    try:
        return bool(path.stat().st_mode & stat.S_IWOTH) and not os.statvfs(path).f_flag & os.ST_RDONLY
    except OSError:
        return False


class NoCheckpoints(SettingsRule):
    """The settings configure no witness for the checkpoints of the audit log."""

    id = "no-checkpoints"
    severity = Severity.INFO
    why = "Without a witness, a log that was cut off or completely rewritten cannot be distinguished from the original."
    fix = "add a witness that this host cannot rewrite to audit.checkpoints"

    def find(self, config: Config) -> Iterator[tuple[Place, str]]:
        if not config.audit.checkpoints:
            yield ("audit",), "no checkpoint of the audit log is kept elsewhere"
