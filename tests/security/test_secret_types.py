"""Every setting of the type Secret is redacted, also after a reload, and common tokens are recognised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from structlog.testing import capture_logs

from remediator.audit import Redactor
from remediator.audit.secret_files import is_secret
from remediator.config import Config, redactor_for
from remediator.core.types import SecretFile, Strict
from remediator.extensions import notifiers, witnesses
from remediator.extensions.notifiers.log import LogNotifier
from remediator.extensions.registry import Registry
from remediator.extensions.witnesses.base import WitnessFactory
from remediator.playbooks.diagnostics import render
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import load_config, read_model
from remediator.runtime.access import read_credentials
from remediator.runtime.reload import reload
from tests.support.web_service import web_service

pytestmark = pytest.mark.promise(11)

SECRETS: dict[str, dict[str, Any]] = {
    "slack": {"access": {"slack": {"signing_secret_file": "secret"}}},
    "oidc": {
        "access": {"oidc": {"issuer": "https://id.example", "client_id": "x", "client_secret_file": "secret"}},
        "public_url": "https://remediator.example.com",
    },
    "signature of a source": {
        "sources": {"grafana": {"kind": "grafana", "hmac": {"secret_files": ["secret"], "header": "X-Signature"}}}
    },
    "webhook token": {"webhook": {"tokens": {"new": "secret"}}},
    "link keys": {"approvals": {"keys_file": "secret"}},
    "audit key": {"audit": {"key_file": "secret"}},
    "header": {"prometheus": {"url": "http://p.example", "header_files": {"X-Scope": "secret"}}},
    "channel": {"channels": {"chat": {"kind": "webhook", "url": "http://c.example", "secret_file": "secret"}}},
    "channel with another name": {"channels": {"chat": {"kind": "custom", "credentials": "secret"}}},
    "witness": {"audit": {"checkpoints": [{"kind": "custom", "credentials": "secret"}]}},
}
"""A secret file in every part of the settings."""
VALUE = "plain words that no pattern knows"


class CustomSettings(Strict):
    """Settings with a secret in a field with an unusual name."""

    credentials: SecretFile


class Custom(LogNotifier):
    """A notifier of a plugin."""

    kind = "custom"
    Settings = CustomSettings


REGISTRY = Registry(
    notifiers=(*notifiers.BUILTIN, Custom),
    witnesses={**witnesses.BUILTIN, "custom": WitnessFactory(CustomSettings, lambda settings: None)},  # type: ignore[arg-type,return-value]
)


@pytest.mark.parametrize("settings", SECRETS.values(), ids=SECRETS)
def test_every_secret_file_of_the_settings_is_redacted(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Every secret file is redacted, also the Slack signing secret and the OIDC client secret."""
    (tmp_path / "secret").write_text(f"{VALUE}\n")
    base = {"apiVersion": "remediator/v1", "kind": "Config", "state": "s", "playbooks": [], "inventory": "i.yaml"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(base | settings))
    config = load_config(tmp_path / "c.yaml", Config)
    assert VALUE not in redactor_for(config, *REGISTRY.models(config)).text(f"said {VALUE}!")


def test_files_that_the_service_creates_are_redacted(tmp_path: Path) -> None:
    """The default key files, which the settings do not name, are redacted."""
    (tmp_path / "state").mkdir()
    base = {"apiVersion": "remediator/v1", "kind": "Config", "playbooks": [], "inventory": "i.yaml"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(base | {"state": "state"}))
    config = load_config(tmp_path / "c.yaml", Config)
    for path in config.own_secret_files:
        path.write_text(f"first line of {path.name}\nsecond line of {path.name}\n")
        assert path.name not in redactor_for(config).text(f"found second line of {path.name} here")


def fields(model: type[BaseModel], seen: set[type]) -> list[tuple[str, Any]]:
    """Return every field of a model and of its nested models."""
    if model in seen:
        return []
    seen.add(model)
    found: list[tuple[str, Any]] = []
    for name, about in model.model_fields.items():
        found.append((f"{model.__name__}.{name}", about))
        for inner in [about.annotation, *_arguments(about.annotation)]:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found += fields(inner, seen)
    return found


def _arguments(annotation: Any) -> list[Any]:
    inner = list(getattr(annotation, "__args__", ()))
    return inner + [each for item in inner for each in _arguments(item)]


PUBLIC = {"ca_file", "cert_file", "pid_file", "certificate_file"}
ONLY_FOR_SSH = {"identity_file"}
"""Files that are secret, but that only ssh reads, so the remediator cannot show their content."""


@pytest.mark.parametrize("model", [Config, Inventory])
def test_a_file_setting_is_secret_or_known_to_be_public(model: type[BaseModel]) -> None:
    """Every setting with a file declares whether the file is secret."""
    for name, about in fields(model, set()):
        last = name.rpartition(".")[2]
        if (
            last.endswith(("_file", "_files", "tokens"))
            and last not in PUBLIC | ONLY_FOR_SSH
            and "Path" in str(about.annotation)
        ):
            assert is_secret(about), name


def test_the_type_is_found_inside_containers() -> None:
    """The type is found in optional fields and in values of mappings."""

    class Model(Strict):
        one: SecretFile | None = None
        many: dict[str, SecretFile] = {}
        path: Path | None = None

    assert [is_secret(about) for about in Model.model_fields.values()] == [True, True, False]


def test_a_created_webhook_token_is_in_its_file_only(tmp_path: Path) -> None:
    """The log has the file name but never the token, because a journal keeps lines for years."""
    config = Config.model_validate(
        {
            "apiVersion": "remediator/v1",
            "kind": "Config",
            "state": str(tmp_path),
            "playbooks": [],
            "inventory": str(tmp_path / "inventory.yaml"),
        }
    )
    with capture_logs() as logged:
        read_credentials(config)
    token = (tmp_path / "webhook.token").read_text().strip()
    assert [entry["file"] for entry in logged] == [str(tmp_path / "webhook.token")]
    assert token not in str(logged)


async def test_a_secret_of_a_reload_is_redacted_from_then_on(tmp_path: Path) -> None:
    """A new webhook token is redacted from later audit entries."""
    (tmp_path / "one").write_text("the first token of all")
    (tmp_path / "two").write_text("the second token of all")
    async with web_service(tmp_path, webhook={"tokens": {"one": "one"}}) as web, web.client() as client:
        settings = yaml.safe_load((tmp_path / "remediator.yaml").read_text())
        settings["webhook"]["tokens"] = {"two": "two"}
        (tmp_path / "remediator.yaml").write_text(yaml.safe_dump(settings))
        await reload(web.service.reload, web.service.reload.signatures(), requested=False)
        body = {"reason": "look at the second token of all"}
        assert (await client.post("/api/v1/stops", json=body, headers=web.bearer("ann"))).status_code == 200
        text = await web.audit_text()
    assert "the second token of all" not in text and "look at" in text


@pytest.mark.parametrize(
    "token",
    [
        "npm_" + "a1" * 18,
        "pypi-AgEIcHlwaS5vcmc" + "Zz9" * 10,
        "AIza" + "Sy0" * 12,
        "GOCSPX-" + "k9" * 12,
        "ya29." + "a0A" * 12,
        "SG." + "x9" * 11 + "." + "y8" * 20,
        "dckr_pat_" + "q7" * 13,
        "https://discord.com/api/webhooks/123456789012345678/" + "Wk_3" * 15,
        "https://corp.webhook.office.com/webhookb2/1a2b-3c@4d5e/IncomingWebhook/" + "9f" * 16 + "/77aa-88bb",
        "https://prod.logic.azure.com/invoke?api-version=1&sig=" + "Ab9-" * 10,
        "123456789:AA" + "Hq8_" * 9,
        "https://api.telegram.org/bot123456789:AA" + "Hq8_" * 9,
        "1//0gAbCdEf" + "Xy9-" * 10,
        '{"auths": {"https://index.docker.io/v1/": {"auth": "' + "YW5uOnBh" * 3,
        "_auth=" + "YW5uOnBh" * 3,
        "https://chat.example.com/hooks/" + "a1b2" * 6 + "c3",
        "glsa_" + "Ab1" * 11 + "_1a2b3c4d",
        "glrt-" + "Ab1_" * 6,
        "ATATT3xFfGF0" + "Ab1" * 20,
        "hf_" + "Ab1" * 11,
        "rubygems_" + "a1" * 24,
        "tskey-auth-" + "k1" * 16,
        "AGE-SECRET-KEY-1" + "QP" * 29,
        "SK" + "a1" * 16,
    ],
)
def test_tokens_of_2026_are_recognised(token: str) -> None:
    """Current token formats are recognised in text and in encoded JSON."""
    redactor, secret = Redactor(), token[-16:]
    assert secret not in redactor.text(f"error with {token} while sending")
    assert redactor.may_contain_secret(f'{{"a": "error with {token}"}}'.encode())


@pytest.mark.parametrize(
    "command",
    [
        "curl -u ann:pa55w0rd https://x.example",
        "curl --user ann:pa55w0rd x",
        "curl --user=ann:pa55w0rd x",
        "curl -uann:pa55w0rd x",
        "curl -sSu ann:pa55w0rd x",
        "curl -U ann:pa55w0rd x",
        "curl --proxy-user ann:pa55w0rd x",
        "curl -u 'ann:a pa55w0rd' x",
        'curl -u "ann:a pa55w0rd" x',
        '["curl", "-u", "ann:a pa55w0rd", "x"]',
    ],
)
def test_passwords_of_curl_are_recognised(command: str) -> None:
    """The password of a curl command is redacted. The user name and the rest stay readable."""
    for form in (command, json.dumps({"m": command})):
        assert Redactor().may_contain_secret(form.encode())
    clean = Redactor().text(command)
    assert "pa55w0rd" not in clean and "ann" in clean and clean.rstrip('"]').endswith(("x", "x.example"))


@pytest.mark.parametrize(
    "text",
    [
        "author: ann, authority 5",
        "java -Dsun.java:on",
        "see post-setup: done",
        "GET /hooks/list 200",
        "global-name-of-a-service",
    ],
)
def test_ordinary_words_are_not_redacted(text: str) -> None:
    """Ordinary words are not redacted, because operators need them."""
    assert Redactor().text(text) == text


WRONG_PLACES = {
    "in a URL": "prometheus: {url: 'http://ann:hunter2@prometheus:9090'}",
    "in a URL of a list": "alertmanagers: [{url: 'https://ann:hunter2@alertmanager'}]",
    "inside a line": "webhook: {token: hunter2, max_body: 2048}",
    "in quotes": 'access: {oidc: {client_secret: "hunter2 hunter2"}}',
    "as the value of a wrong key": "signing_key: hunter2",
    "beside the error": "log: {level: loud, api_key: hunter2}",
    "as a token": "heartbeat: {url: 7, interval: xoxb-1234567890-hunter2hunter2}",
}


@pytest.mark.parametrize("place", WRONG_PLACES)
def test_the_refusal_of_settings_does_not_repeat_a_secret(tmp_path: Path, place: str) -> None:
    """The error, which reaches log, audit log and a notification, shows the line without the secret."""
    path = tmp_path / "remediator.yaml"
    head = "apiVersion: remediator/v1\nkind: Config\nstate: state\nplaybooks: []\ninventory: inventory.yaml\n"
    path.write_text(f"{head}{WRONG_PLACES[place]}\n")
    found = read_model(path, Config)
    assert found.diagnostics
    for shown in (*map(render, found.diagnostics), *map(str, found.diagnostics), *map(repr, found.diagnostics)):
        assert "hunter2" not in shown, shown
    assert any("[redacted]" in render(item) for item in found.diagnostics)


def test_the_path_of_a_secret_file_stays_in_the_refusal(tmp_path: Path) -> None:
    """The error keeps the path of a secret file, because a person needs it."""
    path = tmp_path / "remediator.yaml"
    path.write_text("apiVersion: remediator/v1\nkind: Config\nwebhook: {token_file: /etc/token, nothing: 1}\n")
    assert "token_file: /etc/token" in "".join(map(render, read_model(path, Config).diagnostics))
