"""How ``remediator init`` connects alerts with services."""

from __future__ import annotations

import pytest

from remediator.authoring.onboarding.monitoring import Alert, Monitoring
from remediator.authoring.onboarding.project import default_listen, playbook_name
from remediator.authoring.onboarding.selection import candidates, choose
from remediator.authoring.onboarding.sources.base import FoundService, service_name
from remediator.authoring.onboarding.sources.systemd import units
from remediator.errors import InputError


def service(name: str, *aliases: str) -> FoundService:
    """Return a service of supervisord."""
    return FoundService(name, {"kind": "supervisor", "program": name}, frozenset((name, *aliases)))


def alert(name: str, expression: str = "up == 0", severity: str = "", **labels: str) -> Alert:
    """Return an alert with these labels."""
    return Alert(name, expression, (labels,) if labels else (), severity)


def test_an_outage_of_a_known_service_is_the_first_choice() -> None:
    """Outages come before latency, and critical alerts before warnings."""
    found = candidates(
        Monitoring(
            alerts=(
                alert("CheckoutSlow", "latency > 1", "critical", job="checkout"),
                alert("WorkerDown", severity="warning", job="worker"),
                alert("CheckoutDown", severity="critical", job="checkout"),
                alert("NodeDown", severity="critical", job="node"),
            )
        ),
        [service("checkout"), service("worker")],
    )
    assert [each.alert.name for each in found] == ["CheckoutDown", "WorkerDown", "CheckoutSlow"]


def test_the_most_specific_label_names_the_service() -> None:
    """The label ``service`` comes before ``job``, which often names an exporter. Letter case does not matter."""
    (found,) = candidates(
        Monitoring(alerts=(alert("X", service="Checkout", job="blackbox"),)), [service("checkout"), service("blackbox")]
    )
    assert (found.service.name, found.label, found.value) == ("checkout", "service", "Checkout")


@pytest.mark.parametrize("name", ["remediator", "prometheus", "kube-prometheus-alertmanager", "grafana"])
def test_monitoring_and_remediator_itself_are_never_a_target(name: str) -> None:
    """Monitoring and remediator are not proposed: without them, no person could observe a remedy."""
    assert candidates(Monitoring(alerts=(alert("JobDown", job=name),)), [service(name)]) == []


@pytest.mark.parametrize(
    ("alerts", "services", "chosen", "message"),
    [
        ((), [service("a")], {}, "no alert rule was found; give the address"),
        ((alert("A", job="a"),), [], {}, "no service was found"),
        ((alert("ShopDown", job="a"),), [service("a")], {"alert": "ShopDwn"}, "did you mean 'ShopDown'"),
        ((alert("A", job="a"),), [service("shop")], {"service": "shp"}, "did you mean 'shop'"),
        (
            (alert("A", job="x"),),
            [service("shop")],
            {},
            r"no label of an alert names one of the services found \(shop\)",
        ),
    ],
)
def test_without_a_candidate_the_message_says_what_to_do(
    alerts: tuple[Alert, ...], services: list[FoundService], chosen: dict[str, str], message: str
) -> None:
    """If no alert fits a service, the command guesses nothing and names the next action."""
    with pytest.raises(InputError, match=message):
        choose(Monitoring(alerts=alerts), services, **chosen)


def test_units_of_the_operating_system_are_not_services() -> None:
    """The parser of ``systemctl list-units --plain --no-legend`` leaves out units of the operating system."""
    listed = """\
  checkout.service             loaded    active   running Checkout
  missing.service              not-found inactive dead    missing.service
  ssh.service                  loaded    active   running OpenBSD Secure Shell server
  systemd-journald.service     loaded    active   running Journal Service
  worker@2.service             loaded    failed   failed  Worker 2
  getty@tty1.service           loaded    active   running Getty on tty1
"""
    assert [each.platform["unit"] for each in units(listed)] == ["checkout.service", "worker@2.service"]
    assert [each.name for each in units(listed)] == ["checkout", "worker-2"]


@pytest.mark.parametrize(
    ("given", "name"),
    [("RedisDown", "redis-down"), ("HTTPDown", "httpdown"), ("job:down", "job-down"), ("a.B", "a--b"), ("X", "x")],
)
def test_names_of_playbooks_are_valid(given: str, name: str) -> None:
    """Every alert name becomes a valid file name."""
    assert playbook_name(given) == name


def test_names_of_services_are_valid() -> None:
    """Every text becomes a name that the inventory accepts."""
    assert [service_name(text) for text in ("Shop API", "-x-", "äöü", "a" * 80)] == [
        "shop-api",
        "x",
        "service",
        "a" * 63,
    ]


def test_the_service_listens_on_loopback_only_if_alertmanager_is_there_too() -> None:
    """With Alertmanager on another host, the service listens on all addresses. A token protects the webhook."""
    assert default_listen(Monitoring(alertmanagers=("http://127.0.0.1:9093",))) == "127.0.0.1:8095"
    assert default_listen(Monitoring(alertmanagers=("http://am:9093",))) == "0.0.0.0:8095"
