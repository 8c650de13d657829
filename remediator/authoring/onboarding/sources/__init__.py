"""The sources of services, in the order of preference if two know the same name."""

from __future__ import annotations

from remediator.authoring.onboarding.sources.base import Source
from remediator.authoring.onboarding.sources.docker import DockerSource
from remediator.authoring.onboarding.sources.kubernetes import KubernetesSource
from remediator.authoring.onboarding.sources.supervisor import SupervisorSource
from remediator.authoring.onboarding.sources.systemd import SystemdSource

BUILTIN: tuple[type[Source], ...] = (KubernetesSource, DockerSource, SupervisorSource, SystemdSource)
