"""Services from discovered targets: allowed ones are added, the others are skipped with a reason, and labels are only
data."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediator.errors import InputError
from remediator.playbooks.discovered import Merged, TargetSet, merge, templates, values_of, with_examples
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import load_inventory

WEB: dict[str, Any] = {
    "kind": "file_sd",
    "files": ["targets.json"],
    "name": "web-${host}",
    "allow": {"names": ["web-*"], "labels": {"host": ["*"], "ip": ["10.0.0.0/8"], "needs": ["*"]}, "targets": 50},
    "template": {
        "platform": {"kind": "systemd", "unit": "nginx.service"},
        "http": {"url": "http://${ip}:80", "in_flight": 'sum(active{instance=~"${ip}:.*"})'},
        "alerts_as": {"instance": "${ip}:9100"},
        "depends_on": ["${needs}"],
        "instances": 3,
    },
}
HOST = {"host": "1", "ip": "10.0.0.1", "needs": "db"}


def inventory(**changes: Any) -> Inventory:
    """Return an inventory with a written service ``db``, shared values, and one discovery."""
    return Inventory.model_validate(
        {
            "apiVersion": "remediator/v1",
            "kind": "Inventory",
            "defaults": {"owner": "ops", "instances": 2},
            "services": {"db": {"platform": {"kind": "systemd", "unit": "db.service"}, "instances": 1}},
            "discover": {"web": {**WEB, **changes}},
        }
    )


def merged(*targets: dict[str, str], **changes: Any) -> Merged:
    """Return the inventory with these targets."""
    written = inventory(**changes)
    return merge(written, {"web": TargetSet.of(written.discover["web"], targets)})


def test_a_target_becomes_a_service_with_shared_values() -> None:
    """Labels fill the template, the defaults fill fields that neither sets, and the index knows the service."""
    found = merged(HOST, {**HOST, "host": "2", "ip": "10.0.0.2"}).inventory
    web = found.service("web-1")
    assert web.http is not None and web.http.url == "http://10.0.0.1:80"
    assert (web.owner, web.instances, found.service("db").instances) == ("ops", 3, 1)
    assert (found.source_of("web-1"), found.source_of("db")) == ("web", "")
    assert found.dependents("db") == ("web-1", "web-2")
    assert [each.name for each in found.services_for({"instance": "10.0.0.2:9100"})] == ["web-2"]
    assert web.is_neighbour("10.0.0.2:80") and not web.is_neighbour("10.0.0.1:80")
    assert list(found.services) == ["db", "web-1", "web-2"] and len(found.services) == 3


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    ("label", "value", "reason"),
    [
        ("ip", "192.168.0.1", "is not allowed; allowed: 10.0.0.0/8"),
        ("ip", "", "it has no label 'ip'"),
        ("host", "1/../../etc", "has characters other than"),
        ("host", "1..2", "has characters other than"),
        ("host", "*", "has characters other than"),
        ("host", "1\n", "has characters other than"),
        ("host", "-rf", "has characters other than"),
        ("host", "${ip}", "has characters other than"),
        ("host", "UPPER", "is not a valid name"),
        ("host", "x" * 60, "is not a valid name"),
        ("needs", "nobody", "it depends on 'nobody', which does not exist"),
        ("needs", "web-1", "it depends on itself through other services"),
    ],
)
def test_what_is_not_allowed_is_left_out_with_the_reason(label: str, value: str, reason: str) -> None:
    """A target that is not allowed is skipped with the reason, and the other target stays."""
    other = {"host": "other", "ip": "10.9.9.9", "needs": "db"}
    found = merged({**HOST, label: value}, other)
    assert list(found.inventory.services) == ["db", "web-other"]
    (left,) = found.left_out
    assert reason in str(left) and "web: target" in str(left)


def test_names_that_are_not_unique_are_left_out() -> None:
    """Two targets with one name, and a target with the name of a written service, are skipped: the name would be
    ambiguous."""
    two = merged(HOST, {**HOST, "ip": "10.0.0.2"})
    assert list(two.inventory.services) == ["db"]
    assert ["2 targets have the name 'web-1'" in each.reason for each in two.left_out] == [True, True]
    written = merged({**HOST, "host": "db"}, name="${host}", allow={**WEB["allow"], "names": ["*"]})
    assert written.left_out[0].reason == "the inventory has a written service 'db'"


def test_a_target_that_depends_on_one_that_is_left_out_is_left_out() -> None:
    """A target is skipped if one of its dependencies is skipped, also an indirect one."""
    chain = [{**HOST, "host": str(number), "needs": f"web-{number + 1}"} for number in range(3)]
    found = merged(*chain, HOST | {"host": "ok"})
    assert list(found.inventory.services) == ["db", "web-ok"]


def test_a_name_must_be_one_that_is_allowed() -> None:
    """A target is skipped if its name is not in the allow-list."""
    found = merged(HOST, allow={**WEB["allow"], "names": ["web-2*"]})
    assert found.left_out[0].reason == "name 'web-1' is not allowed; allowed: web-2*"


def test_more_targets_than_allowed_are_all_left_out() -> None:
    """If there are more targets than the limit, all are skipped, because a choice among them would be a guess."""
    found = merged(HOST, {**HOST, "host": "2"}, allow={**WEB["allow"], "targets": 1})
    assert list(found.inventory.services) == ["db"] and len(found.left_out) == 2


@pytest.mark.promise(8)
@given(st.dictionaries(st.sampled_from(["host", "ip", "needs"]), st.text(max_size=30)))
def test_a_label_is_never_structure(changed: dict[str, str]) -> None:
    """Any text in a label changes only leaves of the template, and is never parsed."""
    template = templates(inventory())[0]
    try:
        made = template.service({**HOST, **changed})
    except InputError:
        return
    labels = {**HOST, **changed}
    assert made.http is not None and made.http.in_flight is not None
    assert made.http.url == f"http://{labels['ip']}:80"
    assert made.http.in_flight.count('"') == 2 and "${" not in str(made)
    assert made.platform.kind == "systemd" and made.platform.unit == "nginx.service"
    assert set(made.name) <= set(string.ascii_lowercase + string.digits + "-._")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "web"}, "name has no placeholder"),
        ({"name": "web-${stranger}"}, "label 'stranger' is not in allow.labels"),
        ({"template": {"platform": {"kind": "systemd", "unit": "${unit}.service"}}}, "label 'unit' is not in"),
        ({"template": {**WEB["template"], "platform": {"kind": "${host}"}}}, "a label cannot choose the platform"),
        (
            {"template": {**WEB["template"], "backups": {"path": "/b", "pattern": "${host}*"}}},
            "part of an allow-list or a matcher",
        ),
        (
            {"template": {**WEB["template"], "github": {"repository": "shop/${host}"}}},
            "part of an allow-list or a matcher",
        ),
        ({"template": {**WEB["template"], "name": "x"}}, "name is beside template"),
        ({"allow": {**WEB["allow"], "targets": 0}}, "greater than or equal to 1"),
        ({"allow": {**WEB["allow"], "labels": {"host": ["10.0.0.0/99"]}}}, "write a network like"),
        ({"allow": {"labels": {}, "targets": 1}}, "Field required"),
        ({"kind": "dns"}, "does not match any of the expected tags"),
    ],
)
def test_a_discovery_without_bounds_is_refused(changes: dict[str, Any], message: str) -> None:
    """A discovery must set the allowed names, labels and number of targets; a label cannot choose the namespace or
    platform."""
    with pytest.raises(ValidationError, match=message):
        inventory(**changes)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"platform_": 1}, "10:7: error: unknown key 'platform_'"),
        ({"disk": {"path": "/data/${host}"}}, "a label cannot choose a path"),
        ({"redis": {"password_file": "secrets/${host}"}}, "a label cannot choose a path"),
        ({"instances": "many"}, "'instances' must be a whole number, not 'many'"),
        ({"instances": "${host}"}, ""),
    ],
)
def test_a_wrong_template_is_an_error_of_the_file(tmp_path: Path, part: dict[str, Any], message: str) -> None:
    """The error has its place in the file. Fields that depend on a label are checked when a target has a value."""
    content = yaml.safe_load(yaml.safe_dump(inventory().model_dump(mode="json", exclude_unset=True)))
    del content["services"]["db"]["name"]
    content["discover"] = {"web": {**WEB, "template": {**part, **WEB["template"]} | part}}
    path = tmp_path / "inventory.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    found = load_inventory(path)
    shown = "\n".join(map(str, found.diagnostics))
    assert (found.model is None) is bool(message), shown
    assert message.partition("error: ")[2] in shown or message in shown


def test_examples_stand_for_targets_that_are_not_known() -> None:
    """Lint checks playbooks with example targets; a fixed target of a playbook may be discovered later."""
    allow = {**WEB["allow"], "labels": {"host": ["a*"], "ip": ["10.0.0.0/8"], "needs": ["db"]}}
    assert list(with_examples(inventory(allow=allow)).services) == ["db", "web-a1"]
    assert inventory().may_contain("web-77") and not inventory().may_contain("app")


def test_each_value_says_where_it_comes_from() -> None:
    """The origin of a value is the template, a label or the defaults; a missing value has none."""
    found = merged(HOST).inventory
    origins = {path: origin for path, _, origin in values_of(found, "web-1")}
    assert origins["http.url"] == "template, ip='10.0.0.1'"
    assert origins["platform.unit"] == origins["instances"] == "template"
    assert origins["owner"] == "defaults"
    assert origins["minimum_healthy"] == origins["http.ready"] == "default"
    own = {path: origin for path, _, origin in values_of(found, "db")}
    assert (own["platform.unit"], own["instances"], own["owner"]) == ("written", "written", "defaults")


@pytest.mark.promise(8)
def test_a_target_on_another_host() -> None:
    """The address of the target fills the host; the shared values have the rest of the connection."""
    template = {"platform": {"kind": "systemd", "unit": "nginx.service"}, "host": {"address": "${ip}"}}
    content: dict[str, Any] = {
        "apiVersion": "remediator/v1",
        "kind": "Inventory",
        "defaults": {"ssh": {"identity_file": "id", "known_hosts": "known_hosts", "max_calls": 2}},
        "services": {},
        "discover": {"web": {**WEB, "template": template}},
    }
    written = Inventory.model_validate(content, context={"base": Path("/etc/remediator")})
    web = merge(written, {"web": TargetSet.of(written.discover["web"], [HOST])}).inventory.service("web-1")
    assert web.host is not None and web.host.identity_file == Path("/etc/remediator/id")
    assert (str(web.host), web.host.max_calls, web.host.missing) == ("10.0.0.1", 2, ())

    alone = Inventory.model_validate({**content, "defaults": {}})
    left = merge(alone, {"web": TargetSet.of(alone.discover["web"], [HOST])}).left_out
    assert ["the host has no identity_file and no known_hosts" in str(each) for each in left] == [True]
