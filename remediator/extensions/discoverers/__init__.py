"""Built-in discoverers, one file for each. To add one: write its file and add it to ``BUILTIN``."""

from __future__ import annotations

from remediator.extensions.discoverers.ansible_inventory import AnsibleInventoryDiscoverer
from remediator.extensions.discoverers.base import Discoverer
from remediator.extensions.discoverers.docker_labels import DockerLabelsDiscoverer
from remediator.extensions.discoverers.file_sd import FileSdDiscoverer
from remediator.extensions.discoverers.http_sd import HttpSdDiscoverer
from remediator.extensions.discoverers.kubernetes import KubernetesDiscoverer
from remediator.extensions.discoverers.prometheus_targets import PrometheusTargetsDiscoverer

BUILTIN: tuple[type[Discoverer], ...] = (
    AnsibleInventoryDiscoverer,
    DockerLabelsDiscoverer,
    FileSdDiscoverer,
    HttpSdDiscoverer,
    KubernetesDiscoverer,
    PrometheusTargetsDiscoverer,
)
