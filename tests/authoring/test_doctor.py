"""Each check of ``remediator doctor`` finds its fault and names a fix."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from demo.fleet.simulated_hosts import SimulatedHosts
from demo.http_server import QuietHandler, serve
from remediator.authoring.doctor import BUILTIN, examine, worst
from remediator.authoring.doctor.alertmanager import examine_routes
from remediator.authoring.doctor.approvals import Approvals
from remediator.authoring.doctor.base import DoctorCheck, Examination, Level, Result, failed, labels_of, ok, warning
from remediator.authoring.doctor.channels import Channels
from remediator.authoring.doctor.discovery import Discoveries
from remediator.authoring.doctor.files import Files
from remediator.authoring.doctor.hosts import Hosts
from remediator.authoring.doctor.prometheus import PrometheusCheck, examine_rules
from remediator.authoring.doctor.rights import Rights
from remediator.authoring.doctor.secrets import Secrets
from remediator.authoring.doctor.store import StoreCheck
from remediator.authoring.doctor.targets import Targets
from remediator.authoring.doctor.tls import Tls
from remediator.cli.lint import command as lint_command
from remediator.clients import egress
from remediator.clients.prometheus.client import AlertRule
from remediator.config import Config
from remediator.core.identity import Entry, People
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import load, load_config
from remediator.playbooks.model import Parameter
from tests.support.fake_servers import Authority, engine_with_proxy, peer
from tests.support.servers import free_port
from tests.support.servers.prometheus import Prometheus
from tests.support.servers.receivers import receiver
from tests.support.servers.ssh_hosts import UNIT

SETTINGS: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Config",
    "listen": "127.0.0.1:8095",
    "public_url": "http://127.0.0.1:8095",
    "state": "state",
    "playbooks": ["playbooks"],
    "inventory": "inventory.yaml",
    "webhook": {"token_file": "webhook.token"},
    "channels": {"oncall": {"kind": "log"}},
}
PLAYBOOK = """\
apiVersion: remediator/v1
kind: Playbook
name: shop-down
summary: Restart the shop.
match: {alertname: ShopDown, matchers: ['service="shop"']}
mode: approve
target: shop
diagnose: [{id: status, action: service.status}]
conclude: [{id: stopped, when: 'evidence.status.facts.state == "exited"', cause: The shop stopped.}]
steps: [{id: restart, action: service.restart, for: stopped}]
verify: {checks: [{check: service.running}]}
escalate: {to: [oncall], message: The shop is down.}
"""
INVENTORY = """\
apiVersion: remediator/v1
kind: Inventory
services:
  shop: {platform: {kind: supervisor, url: "unix:///nonexistent.sock", program: shop}}
"""


@pytest.fixture
def examination(tmp_path: Path) -> Callable[..., Examination]:
    """Return a function that makes an installation with changed settings and examines it."""

    def make(people: People | None = None, **changes: Any) -> Examination:
        (tmp_path / "playbooks").mkdir(exist_ok=True)
        (tmp_path / "playbooks" / "shop-down.yaml").write_text(PLAYBOOK)
        (tmp_path / "inventory.yaml").write_text(INVENTORY)
        path = tmp_path / "webhook.token"
        path.write_text("token")
        path.chmod(0o600)
        settings = tmp_path / "remediator.yaml"
        settings.write_text(yaml.safe_dump({**SETTINGS, **changes}))
        config, registry = load_config(settings, Config), Registry()
        loaded = load(config.playbooks, config.inventory, registry.catalogue())
        now = datetime.now(UTC)
        return Examination(settings, config, registry, loaded, people or People(), now, False, labels_of(loaded))

    return make


def results(check: type[DoctorCheck], about: Examination) -> list[Result]:
    """Run one check and return its results."""

    async def run() -> list[Result]:
        return [each async for each in check().run(about)]

    return asyncio.run(run())


def problems(found: Iterable[Result]) -> list[str]:
    """Return subject and text of each failure and warning."""
    return [f"{each.level}: {each.subject}: {each.text}" for each in found if each.level in ("failed", "warning")]


DISCOVERY = """\
discover:
  web:
    kind: file_sd
    files: [targets.json]
    name: "${__host__}"
    allow: {names: ["web-*"], labels: {__host__: ["web-*"]}, targets: 2}
    template: {platform: {kind: systemd, unit: nginx.service}}
"""


@pytest.mark.parametrize(
    ("hosts", "problem"),
    [
        (None, "failed: web: {folder}/targets.json: no such file"),
        (["web-1", "web-2", "web-3"], "failed: web: the source has 3 targets, and allow.targets is 2"),
        (["web-1", "db-1"], "warning: web: web: target __host__='db-1' left out"),
        (["web-1"], ""),
    ],
)
def test_a_discovery_is_looked_up(
    examination: Callable[..., Examination], tmp_path: Path, hosts: list[str] | None, problem: str
) -> None:
    """The check reports a source that fails or exceeds a limit, and the targets that are left out."""
    about = examination()
    assert [each.level for each in results(Discoveries, about)] == [Level.SKIPPED]
    (tmp_path / "inventory.yaml").write_text(INVENTORY + DISCOVERY)
    if hosts is not None:
        (tmp_path / "targets.json").write_text(json.dumps([{"targets": hosts}]))
    loaded = load(about.config.playbooks, about.config.inventory, about.registry.catalogue())
    found = [each for each in problems(results(Discoveries, replace(about, loaded=loaded))) if "last good" not in each]
    assert bool(found) is bool(problem), found
    assert problem.format(folder=tmp_path) in "".join(found)


def test_every_problem_has_a_fix(examination: Callable[..., Examination]) -> None:
    """For an installation without running servers, each check has results, and each problem has a fix."""
    about = examination(
        alertmanagers=[{"url": "http://127.0.0.1:1"}],
        prometheus={"url": "https://127.0.0.1:1"},
        public_url="http://shop.example.com",
    )
    for check in BUILTIN:
        found = results(check, about)
        assert found, check
        assert all(each.fix for each in found if each.level in (Level.FAILED, Level.WARNING)), check
        assert check.__doc__ and check.name


def test_files_reports_what_lint_finds(examination: Callable[..., Examination]) -> None:
    """Warnings about the settings have a location and a fix. For other findings, the check names the lint command."""
    found = results(Files, examination())
    assert {each.level for each in found} == {Level.WARNING}
    *settings, rest = found
    assert [each.subject.rpartition("remediator.yaml")[2] for each in settings] == [":1:1", ":13:15"]
    assert "names no Alertmanager" in settings[0].text and "has 5 characters" in settings[1].text
    assert "alertmanagers: [" in settings[0].fix and "head -c 32" in settings[1].fix
    assert (
        rest.text.startswith("further warnings (playbooks, inventory, people): 1; the first: ")
        and rest.fix == "run: remediator lint"
    )


def test_secrets_finds_missing_empty_and_readable_files(
    examination: Callable[..., Examination], tmp_path: Path
) -> None:
    """A secret file that other users can read is a warning. A missing or empty one is a failure."""
    about = examination()
    assert problems(results(Secrets, about)) == []
    path = tmp_path / "webhook.token"
    path.chmod(0o644)
    assert "other users can use it (mode 0644)" in problems(results(Secrets, about))[0]
    path.write_text("\n")
    assert "is empty" in problems(results(Secrets, about))[0]
    path.unlink()
    assert "does not exist" in problems(results(Secrets, about))[0]


def test_store_without_a_service_is_a_failure(examination: Callable[..., Examination]) -> None:
    """If the database is missing, the fix names the command that creates it."""
    found = results(StoreCheck, examination())
    assert "there is no database" in problems(found)[0]


def test_store_on_postgresql(examination: Callable[..., Examination], migrated_url: str) -> None:
    """On a PostgreSQL server with fsync off and no standby, the check reports both."""
    found = results(StoreCheck, examination(store=migrated_url))
    assert [each.subject for each in found if each.level is Level.FAILED] == ["postgresql", "replicas"]
    assert "fsync is off" in problems(found)[0]
    assert {"postgresql", "clock", "pooler", "standbys"} <= {each.subject for each in found}


CONFIGURATION = """
route:
  receiver: team
  routes:
    - {receiver: ours, matchers: [alertname="Watchdog"]}
    - {receiver: ours, matchers: [alertname="ShopDown"], continue: true}
    - {receiver: team}
receivers:
  - {name: team}
  - name: ours
    webhook_configs:
      - {url: "http://127.0.0.1:8095/api/v1/alerts", http_config: {authorization: {credentials_file: x}}}
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("", "", None),
        ('alertname="ShopDown"', 'alertname="Other"', "failed: shop-down: alert ShopDown goes to team, not here"),
        ('alertname="Watchdog"', 'alertname="Other"', "failed: watchdog: alert Watchdog goes to team, not here"),
        (
            "{receiver: team}\nrec",
            "{receiver: ours}\nrec",
            "warning: shop-down: alert ShopDown is sent here and nowhere",
        ),
        (", http_config: {authorization: {credentials_file: x}}", "", "failed: receiver ours: sends no token"),
        ("http_config", "send_resolved: false, http_config", "failed: receiver ours: send_resolved is false"),
        ("8095", "9999", "failed: receivers: no receiver has a webhook to this service"),
        ('matchers: [alertname="Watchdog"]', "matchers: ['!']", "failed: routes: "),
    ],
)
def test_routes_of_alertmanager(
    examination: Callable[..., Examination], old: str, new: str, problem: str | None
) -> None:
    """The check finds each fault of an Alertmanager configuration separately."""
    found = problems(examine_routes(yaml.safe_load(CONFIGURATION.replace(old, new)), examination()))
    assert [each.startswith(problem or "") for each in found] == ([] if problem is None else [True])


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ({"ShopDown": ('up{service="shop"} == 0', {})}, None),
        ({"ShopDown": ("sum(up) == 0", {"service": "shop"})}, None),
        (
            {"ShopDown": ("sum(up) == 0", {})},
            "failed: shop-down: alerts of the rule ShopDown never have the label service",
        ),
        ({}, "warning: shop-down: Prometheus has no alert rule ShopDown"),
    ],
)
def test_rules_of_prometheus(
    examination: Callable[..., Examination], rules: dict[str, tuple[str, dict[str, str]]], problem: str | None
) -> None:
    """The check finds a playbook that no alert can start."""
    made = {
        name: AlertRule(name=name, query=query, duration=0, labels=labels, health="ok")
        for name, (query, labels) in rules.items()
    }
    (playbook,) = examination().playbooks
    assert problems(examine_rules(playbook, made)) == ([] if problem is None else [problem])


def test_prometheus_finds_metrics_that_do_not_exist(
    examination: Callable[..., Examination], make_prometheus: Callable[..., Prometheus]
) -> None:
    """The check reports the missing metrics of a Prometheus that does not scrape the shop."""
    server = make_prometheus(
        rules="groups: [{name: a, rules: [{alert: ShopDown, expr: 'shop_up == 0', labels: {service: shop}}]}]\n"
    )
    about = examination(prometheus={"url": server.url})
    assert problems(results(PrometheusCheck, about)) == ["warning: shop-down: no series match shop_up now"]
    late = replace(about, now=datetime(2020, 1, 1, tzinfo=UTC))
    assert "clock" in problems(results(PrometheusCheck, late))[0]


def test_targets_finds_a_platform_that_does_not_answer(examination: Callable[..., Examination]) -> None:
    """The check names both the service and the playbook that needs it."""
    found = results(Targets, examination())
    assert [(each.subject, each.level) for each in found] == [("shop", Level.FAILED), ("shop-down", Level.FAILED)]


def test_targets_asks_for_a_value_that_it_cannot_invent(examination: Callable[..., Examination]) -> None:
    """If no simple value fits the pattern of a parameter, the check asks for a value and reports no defect."""
    about = examination()
    [playbook] = about.playbooks
    parameter = Parameter(label="disk", pattern="(sd|nvme)[0-9]{3}x")
    changed = replace(about.loaded, playbooks=[playbook.model_copy(update={"parameters": {"disk": parameter}})])
    found = results(Targets, replace(about, loaded=changed, labels=labels_of(changed)))
    text = "needs a value of the label disk; run: remediator playbook trigger shop-down --label disk=VALUE"
    assert found[-1] == Result(Level.SKIPPED, "shop-down", text)


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (404, None),
        (403, "failed: shop: service.restart: missing: call POST /containers/{id}/restart"),
        (500, "warning: shop: service.restart: unknown: Docker: POST /containers/"),
    ],
)
async def test_rights_finds_what_a_proxy_denies(
    examination: Callable[..., Examination], tmp_path: Path, status: int, problem: str | None
) -> None:
    """A missing right is a failure and an unknown right a warning. lint --live reports the same."""
    async with peer(engine_with_proxy(status)) as server:
        about = examination()
        binding = {"kind": "docker", "url": server.url, "labels": {"remediator.service": "shop"}}
        inventory = {"apiVersion": "remediator/v1", "kind": "Inventory", "services": {"shop": {"platform": binding}}}
        (tmp_path / "inventory.yaml").write_text(yaml.safe_dump(inventory))
        loaded = load(about.config.playbooks, about.config.inventory, about.registry.catalogue())
        found = [each async for each in Rights().run(replace(about, loaded=loaded))]
        arguments = ["--config", str(tmp_path / "remediator.yaml"), "--live", str(tmp_path / "playbooks")]
        linted = await asyncio.to_thread(CliRunner().invoke, lint_command, arguments)
    of_restart = [each for each in problems(found) if "service.restart" in each]
    assert [each.startswith(problem or "") for each in of_restart] == ([] if problem is None else [True])
    assert ("(missing-right)" in linted.output) is (problem is not None), linted.output
    assert (problem is None) or "shop-down.yaml:10:" in linted.output


ANN = Entry(roles=("approver",), tokens=("0" * 64,))
"""A person who can sign in."""


@pytest.mark.parametrize(
    ("people", "changes", "problem"),
    [
        ({}, {}, "failed: shop-down: needs 1 of 0 approvers, so nobody can approve it"),
        ({"ann": Entry(roles=("viewer",))}, {}, "failed: shop-down: needs 1 of 0 approvers"),
        ({"ann": Entry(roles=("approver",))}, {}, "failed: shop-down: needs 1 of 0 approvers"),
        ({"ann": ANN}, {}, "warning: shop-down: a request reaches no chat"),
        ({"ann": ANN}, {"approvals": {"channels": ["chat"]}}, None),
    ],
)
def test_approvals_needs_people_who_can_be_reached(
    examination: Callable[..., Examination], people: dict[str, Entry], changes: dict[str, Any], problem: str | None
) -> None:
    """The check examines roles, quorum and channels together."""
    chat = {"kind": "webhook", "url": "http://127.0.0.1:1/"}
    channels = {"oncall": {"kind": "log"}, "chat": chat}
    found = problems(results(Approvals, examination(People(people=people), channels=channels, **changes)))
    assert [each.startswith(problem or "") for each in found] == ([] if problem is None else [True])


def test_channels_sends_a_message_only_on_request(examination: Callable[..., Examination]) -> None:
    """A real HTTP receiver gets one message. A channel that playbooks name but settings lack is a failure."""
    with receiver() as chat:
        about = examination(channels={"chat": {"kind": "webhook", "url": chat.url}})
        text = "and not in the settings: its messages go to the log only"
        assert problems(results(Channels, about)) == [
            f"warning: oncall: used by shop-down {text}",
            f"warning: watchdog: used by watchdog.notify {text}",
        ]
        assert chat.received == []
        sent = results(Channels, replace(about, send=True))
        assert [each.text for each in sent if each.subject == "chat"] == ["webhook: a test message was delivered"]
        assert len(chat.received) == 1
        chat.answers = [(403, {}, b"no")]
        assert "failed: chat: " in str(problems(results(Channels, replace(about, send=True))))


def test_tls_warns_about_links_without_tls(examination: Callable[..., Examination]) -> None:
    """The check warns about a link without TLS, unless it uses loopback."""
    assert problems(results(Tls, examination())) == []
    assert "clear text" in problems(results(Tls, examination(public_url="http://shop.example.com")))[0]


@contextmanager
def tls_server(authority: Authority, *, days: float) -> Iterator[str]:
    """Run a server with a certificate for 127.0.0.1 that expires in the given number of days. Yield its URL."""
    context = authority.server_context(*authority.issue("server", "127.0.0.1", days=days))
    with serve(QuietHandler, context) as url:
        yield url


@pytest.mark.parametrize(
    ("days", "tls", "problem"),
    [
        (90, {"ca_file": "ca.crt"}, None),
        (3, {"ca_file": "ca.crt"}, "warning: URL: its certificate ends at "),
        (-1, {"ca_file": "ca.crt"}, "failed: URL: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: cert"),
        (90, {}, "failed: URL: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed"),
        (90, {"ca_file": "ca.crt", "server_name": "other"}, "failed: URL: [SSL: CERTIFICATE_VERIFY_FAILED]"),
        (90, {"insecure_skip_verify": True}, "warning: URL: insecure_skip_verify accepts any certificate: [SSL"),
    ],
)
def test_tls_examines_the_certificates_of_servers(
    examination: Callable[..., Examination], tmp_path: Path, days: float, tls: dict[str, Any], problem: str | None
) -> None:
    """The check makes a TLS handshake with each server of the settings."""
    authority = Authority(tmp_path)
    with tls_server(authority, days=days) as url:
        about = examination(prometheus={"url": url, "tls": tls})
        found = problems(results(Tls, about))
    expected = [] if problem is None else [problem.replace("URL", url)]
    assert [each[: len(text)] for each, text in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("days", "key", "problem"),
    [
        (90, "own", None),
        (3, "own", "warning: FILE: its certificate ends at "),
        (-1, "own", "failed: FILE: its certificate ended at "),
        (90, "other", "failed: FILE: certificate or key cannot be used: [X509: KEY_VALUES_MISMATCH]"),
        (90, "missing", "failed: FILE: certificate or key cannot be used: [Errno 2]"),
    ],
)
def test_tls_examines_the_certificate_of_the_service(
    examination: Callable[..., Examination], tmp_path: Path, days: float, key: str, problem: str | None
) -> None:
    """The check reads the service's certificate from its file, because the service may not run yet."""
    certificate, own = Authority(tmp_path).issue("remediator.example.com", days=days)
    file = {"own": own, "other": Authority(tmp_path).issue("other")[1], "missing": tmp_path / "none.key"}[key]
    about = examination(tls={"certificate_file": str(certificate), "key_file": str(file)}, public_url="")
    found = problems(results(Tls, about))
    expected = [] if problem is None else [problem.replace("FILE", str(certificate))]
    assert [each[: len(text)] for each, text in zip(found, expected, strict=True)] == expected


def test_tls_examines_what_people_open(examination: Callable[..., Examination], tmp_path: Path) -> None:
    """A public URL that only other hosts reach is not a failure. A wrong certificate is a failure."""
    closed = f"https://127.0.0.1:{free_port()}"
    assert problems(results(Tls, examination(public_url=closed)))[0].startswith(
        f"warning: public_url {closed}: cannot be reached from here: "
    )
    with tls_server(Authority(tmp_path), days=90) as url:
        found = problems(results(Tls, examination(public_url=url)))
    assert found[0].startswith(f"failed: public_url {url}: [SSL: CERTIFICATE_VERIFY_FAILED]")


def test_all_checks_use_the_outgoing_proxy(examination: Callable[..., Examination]) -> None:
    """If the proxy refuses everything, both servers fail through the proxy, and no certificate is read directly."""
    with receiver() as proxy:
        servers = {"alertmanagers": [{"url": "http://am.invalid"}], "prometheus": {"url": "https://prom.invalid"}}
        found = asyncio.run(examine(examination(outgoing_proxy={"url": proxy.url}, **servers)))
        egress.configure(egress.Egress())
    said = {f"{name} {each.subject}": each.text for name, each in found}
    assert "http://am.invalid/api/v2/status answered 501" in said["alertmanager http://am.invalid"], said
    assert said["tls https://prom.invalid"] == "is reached by the outgoing proxy, so its certificate was not examined"


def test_the_worst_result_decides() -> None:
    """The worst result determines the exit status."""
    assert worst([("a", ok("x", "")), ("b", warning("x", "", "fix"))]) is Level.WARNING
    assert worst([("a", failed("x", "", "fix")), ("b", ok("x", ""))]) is Level.FAILED
    assert worst([]) is Level.OK


def test_hosts_are_examined_by_ssh(
    hosts: SimulatedHosts, examination: Callable[..., Examination], tmp_path: Path
) -> None:
    """The key is private, the host answers, its wrapper is ours, and its allow-list covers the inventory."""
    about = on_hosts(examination(), hosts)
    assert problems(results(Hosts, about)) == []

    hosts.allow("web-1", units={UNIT: ["status"]})
    hosts.wrapper.write_text(f"{hosts.wrapper.read_text()}# changed\n")
    hosts.key.chmod(0o644)
    assert "other users can read this private key" in problems(results(Hosts, about))[0]
    hosts.key.chmod(0o600)
    address = f"127.77.0.1:{hosts.port}"
    assert problems(results(Hosts, about))[:2] == [
        f"warning: {address}: remediator-remote on the host has another version, or was changed",
        f"failed: {address}: its allow-list does not allow logs, restart of {UNIT}",
    ]
    hosts.known_hosts.unlink()
    assert "known_hosts: is needed for" in problems(results(Hosts, about))[0]


def on_hosts(about: Examination, hosts: SimulatedHosts) -> Examination:
    """Return the examination with a service on each host."""
    services = {name: {"platform": {"kind": "systemd", "unit": UNIT}, "host": hosts.host(name)} for name in hosts.names}
    shared = {"ssh": hosts.ssh}
    inventory = {"apiVersion": "remediator/v1", "kind": "Inventory", "defaults": shared, "services": services}
    return replace(about, loaded=replace(about.loaded, inventory=Inventory.model_validate(inventory)))
