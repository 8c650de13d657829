"""deploy/helm renders the objects of deploy/kubernetes, and the objects that only the chart has are right."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from demo.stack.settings import ROOT
from remediator.config import Config
from remediator.playbooks.inventory import Inventory
from tests.support.helm_chart import merged, objects, render
from tests.support.servers import require

CHART = ROOT / "deploy/helm/remediator"
SHOP = yaml.safe_load((ROOT / "deploy/helm/shop-values.yaml").read_text())
OWN_NAMESPACE = ("ServiceAccount", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy")
MONITORING = merged(
    SHOP,
    {
        "prometheusRule": {"enabled": True, "labels": {"release": "monitoring"}},
        "alertmanagerConfig": {
            "enabled": True,
            "matchers": [{"name": "alertname", "matchType": "=~", "value": "RedisDown|AppDown"}],
        },
    },
)


@pytest.fixture(scope="module")
def kustomized() -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the objects of deploy/kubernetes, as kubectl renders them."""
    command = [require("kubectl"), "kustomize", str(ROOT / "deploy/kubernetes")]
    made = objects(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return made | objects((ROOT / "deploy/kubernetes/monitoring.yaml").read_text())


@pytest.fixture(scope="module")
def shop() -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the objects of the chart for the same services."""
    return objects(render(CHART, SHOP))


def _comparable(item: dict[str, Any]) -> dict[str, Any]:
    """Return an object without its intended differences: labels of the release, and the name of the settings."""
    text = json.dumps(item)
    result: dict[str, Any] = json.loads(text)
    result["metadata"].pop("labels", None)
    template = result.get("spec", {}).get("template", {})
    template.get("metadata", {}).pop("annotations", None)  # Kustomize has the checksum in the name
    for volume in template.get("spec", {}).get("volumes", ()):
        if volume["name"] == "config":
            volume["configMap"]["name"] = "remediator-config"
    egress = result.get("spec", {}).get("egress")
    if egress is not None:
        egress.sort(key=lambda rule: json.dumps(rule, sort_keys=True))
    return result


@pytest.mark.parametrize("kind", OWN_NAMESPACE)
def test_an_object_is_that_of_kustomize(kind: str, kustomized: Any, shop: Any) -> None:
    """Neither variant has additional, weaker or missing settings."""
    key = (kind, "remediator", "remediator")
    assert _comparable(shop[key]) == _comparable(kustomized[key])


@pytest.mark.parametrize("kind", ["Role", "RoleBinding"])
def test_the_rights_are_those_of_kustomize(kind: str, kustomized: Any, shop: Any) -> None:
    """The chart grants the same rights, in the namespace of the services only."""
    key = (kind, "shop", "remediator")
    assert _comparable(shop[key]) == _comparable(kustomized[key])
    assert [name for found, namespace, name in shop if found == kind and namespace != "shop"] == []


def test_the_scraped_endpoint_is_that_of_kustomize(kustomized: Any, shop: Any) -> None:
    """The ServiceMonitor of the remediator scrapes the same endpoint."""
    key = ("ServiceMonitor", "remediator", "remediator")
    assert _comparable(shop[key]) == _comparable(kustomized[key])


def test_settings_and_inventory_are_those_of_kustomize(kustomized: Any, shop: Any) -> None:
    """Settings and inventory have the same data, and both files are valid."""
    theirs = next(item for (kind, _, name), item in kustomized.items() if name.startswith("remediator-config-"))
    ours = shop["ConfigMap", "remediator", "remediator-config"]
    assert {name: yaml.safe_load(text) for name, text in ours["data"].items()} == {
        name: yaml.safe_load(text) for name, text in theirs["data"].items()
    }
    folder = {"base": Path("/etc/remediator")}
    Config.model_validate(yaml.safe_load(ours["data"]["remediator.yaml"]), context=folder)
    Inventory.model_validate(yaml.safe_load(ours["data"]["inventory.yaml"]), context=folder)


def test_only_init_containers_know_the_owner_of_the_tables() -> None:
    """The chart uses the Secret and the role of the values, and the service cannot read the URL of the owner."""
    values = merged(SHOP, {"database": {"ownerSecretName": "tables", "serviceRole": "heal"}})
    spec = objects(render(CHART, values))["Deployment", "remediator", "remediator"]["spec"]["template"]["spec"]
    [owner] = [each["name"] for each in spec["volumes"] if each.get("secret", {}).get("secretName") == "tables"]
    assert [each["args"][:3] for each in spec["initContainers"]] == [
        ["db", "migrate", "--url-file"],
        ["db", "grant", "heal"],
    ]
    mounts = {each["name"]: {mount["name"] for mount in each["volumeMounts"]} for each in _containers(spec)}
    assert [name for name, mounted in mounts.items() if owner in mounted] == ["migrate", "grant"]


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec["initContainers"], *spec["containers"]]


def test_a_change_of_the_settings_replaces_the_pods() -> None:
    """The pod template has a checksum of the ConfigMap, so a change of the settings replaces the pods."""
    key = ("Deployment", "remediator", "remediator")
    sums = {
        objects(render(CHART, values))[key]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for values in ({}, {"settings": {"environment": "staging"}})
    }
    assert len(sums) == 2


def test_playbooks_come_from_labelled_config_maps() -> None:
    """Playbooks are copied before the start and watched beside the service, with rights for this namespace only."""
    made = objects(render(CHART, merged(SHOP, {"playbooks": {"labelled": True}})))
    spec = made["Deployment", "remediator", "remediator"]["spec"]["template"]["spec"]
    first, beside = spec["initContainers"][0], spec["containers"][1]
    methods = [{item["name"]: item["value"] for item in each["env"]}["METHOD"] for each in (first, beside)]
    assert methods == ["LIST", "WATCH"]
    for each in (first, beside):
        assert each["securityContext"] == spec["containers"][0]["securityContext"]
        assert {"name": "own-playbooks", "mountPath": "/etc/remediator-playbooks"} in each["volumeMounts"]
    assert next(each for each in spec["volumes"] if each["name"] == "own-playbooks")["emptyDir"]
    role = made["Role", "remediator", "remediator-playbooks"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]


def test_alertmanager_sends_the_chosen_alerts_and_the_watchdog() -> None:
    """The token comes from the Secret, resolved alerts are sent, and other receivers keep their notifications."""
    made = objects(render(CHART, MONITORING))
    chosen = made["AlertmanagerConfig", "remediator", "remediator"]["spec"]
    watchdog = made["AlertmanagerConfig", "remediator", "remediator-watchdog"]["spec"]
    assert chosen["route"]["matchers"] == [{"name": "alertname", "matchType": "=~", "value": "RedisDown|AppDown"}]
    assert watchdog["route"]["matchers"] == [{"name": "alertname", "matchType": "=", "value": "Watchdog"}]
    for spec in (chosen, watchdog):
        webhook = spec["receivers"][0]["webhookConfigs"][0]
        assert spec["route"]["continue"] is True
        assert webhook["sendResolved"] is True
        assert webhook["url"] == "http://remediator.remediator.svc:8095/api/v1/alerts"
        credentials = webhook["httpConfig"]["authorization"]["credentials"]
        assert credentials == {"name": "remediator", "key": "webhook-token"}


def test_the_rules_about_itself_are_the_tested_ones() -> None:
    """The PrometheusRule is alerting/remediator.yml, whose rules promtool tests."""
    rule = objects(render(CHART, MONITORING))["PrometheusRule", "remediator", "remediator-itself"]
    assert rule["spec"] == yaml.safe_load((ROOT / "alerting/remediator.yml").read_text())
    assert rule["metadata"]["labels"]["release"] == "monitoring"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"targets": {"shop": {}}}, "targets.shop.deployments: name the Deployments"),
        ({"alertmanagerConfig": {"enabled": True}}, "alertmanagerConfig.matchers: name the alerts"),
    ],
)
def test_a_missing_value_is_named(values: dict[str, Any], message: str) -> None:
    """If a value is missing, the chart does not render, and the error names the value."""
    with pytest.raises(Exception, match=message):
        render(CHART, values)


def test_another_release_name_and_image_are_used_everywhere() -> None:
    """Release name and image of the values are used everywhere. Only ports and paths are fixed."""
    values = merged(SHOP, {"image": {"repository": "registry.example.com/remediator", "digest": "sha256:" + "a" * 64}})
    text = render(CHART, values, release="heal", namespace="ops")
    made = objects(text)
    assert {name for _, namespace, name in made if namespace == "ops"} == {"heal", "heal-config"}
    images = [
        each["image"]
        for each in made["Deployment", "ops", "heal"]["spec"]["template"]["spec"]["initContainers"]
        + made["Deployment", "ops", "heal"]["spec"]["template"]["spec"]["containers"]
    ]
    assert set(images) == {"registry.example.com/remediator@sha256:" + "a" * 64}


def test_the_schema_of_the_values_holds_and_finds_mistakes() -> None:
    """Helm checks the values with the schema before it renders, and finds mistakes."""
    schema = Draft7Validator(json.loads((CHART / "values.schema.json").read_text()))
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    for values in ({}, SHOP, MONITORING):
        assert [error.message for error in schema.iter_errors(merged(defaults, values))] == []
    for wrong in (
        {"replica": 3},
        {"replicas": 0},
        {"networkPolicy": {"enable": True}},
        {"targets": {"shop": {"x": 1}}},
    ):
        assert list(schema.iter_errors(merged(defaults, wrong))), wrong


def test_no_secret_is_in_the_chart() -> None:
    """The chart refers to one Secret and creates none."""
    assert not [key for key in objects(render(CHART, MONITORING)) if key[0] == "Secret"]
