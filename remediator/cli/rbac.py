"""The ``remediator rbac`` command."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from remediator.authoring import rbac
from remediator.cli import _output
from remediator.cli._options import config_option
from remediator.config import Config
from remediator.errors import InputError
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load, load_config


@click.command("rbac")
@config_option
@click.option(
    "--service-account",
    default="remediator/remediator",
    metavar="NAMESPACE/NAME",
    help="Service account that gets the rights (default: remediator/remediator).",
)
@click.option("--user", help="User that gets the rights, for example ann@example.com (default: the service account).")
@click.option("--group", help="Group that gets the rights, for example sre (default: the service account).")
@click.option("--name", default="remediator", help="Name of the roles and bindings (default: remediator).")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    help="Only the cluster of this kubeconfig of the inventory (default: the cluster of the remediator's pod).",
)
@click.option("--context", help="Context of the kubeconfig in the inventory (default: none).")
def command(
    config_path: Path,
    service_account: str,
    user: str | None,
    group: str | None,
    name: str,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Print the Kubernetes roles that the inventory and the playbooks need.

    There is a Role for each namespace, and a ClusterRole only if the inventory has nodes. Where the inventory has no
    names of objects, a right is for all objects of the namespace. Run it again after a change, and apply the result.

    \b
    Examples:
      remediator rbac | kubectl apply --filename=-
      remediator rbac --user ci --kubeconfig /etc/remediator/kubeconfig
    """
    config = load_config(config_path, Config)
    loaded = load(config.playbooks, config.inventory, Registry.for_settings(config).catalogue())
    found = list(rbac.grants(loaded.playbooks, loaded.inventory, events=config.kubernetes_events))
    chosen = rbac.choose_cluster(found, kubeconfig, context)
    subject = _subject(service_account, user, group)
    made = rbac.documents(chosen, subject, name)
    _output.exact(yaml.safe_dump_all(made, sort_keys=False, explicit_start=True, width=1000))


def _subject(service_account: str, user: str | None, group: str | None) -> rbac.Subject:
    if user is not None and group is not None:
        raise InputError("--user and --group are both set; use one")
    if user is not None:
        return rbac.Subject("User", user)
    if group is not None:
        return rbac.Subject("Group", group)
    namespace, slash, account = service_account.partition("/")
    if not (namespace and slash and account) or "/" in account:
        expected = "expected NAMESPACE/NAME, for example remediator/remediator"
        raise InputError(f"--service-account: {expected}, not {service_account!r}")
    return rbac.Subject("ServiceAccount", account, namespace)
