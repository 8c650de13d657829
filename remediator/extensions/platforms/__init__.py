"""Built-in platforms, one file for each. To add one: write its file and add it to ``BUILTIN``."""

from __future__ import annotations

from remediator.extensions.platforms.base import Platform
from remediator.extensions.platforms.docker import DockerPlatform
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from remediator.extensions.platforms.kubernetes_nodes import KubernetesNodesPlatform
from remediator.extensions.platforms.supervisor import SupervisorPlatform
from remediator.extensions.platforms.systemd import SystemdPlatform

BUILTIN: tuple[type[Platform], ...] = (
    DockerPlatform,
    KubernetesPlatform,
    KubernetesNodesPlatform,
    SupervisorPlatform,
    SystemdPlatform,
)
