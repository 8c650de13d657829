"""Kubernetes Jobs that the inventory allows by name, as the ``job.*`` actions use them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from remediator.clients.kubernetes.jobs import JOB, RUN, Jobs, digest, filled_manifest, job_name, parse_manifest
from remediator.clients.kubernetes.kubeconfig import access
from remediator.core.local_files import read_text
from remediator.core.matchers import compile_pattern
from remediator.errors import InputError, TargetError
from remediator.extensions import bindings
from remediator.extensions.parameters import Parameters
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.inventory import Service
from remediator.playbooks.platform_bindings import KubernetesBinding
from remediator.playbooks.service_parts import JobTemplate


class JobParameters(Parameters):
    """The Job of an action."""

    job: str = Field(
        pattern=r"^[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?$",
        description="Name of the Job under jobs of the service in the inventory.",
    )


@dataclass(frozen=True, slots=True)
class AllowedJob:
    """A Job that the inventory allows for a service."""

    name: str
    template: JobTemplate
    binding: KubernetesBinding

    @classmethod
    def of(cls, service: Service, name: str) -> AllowedJob:
        """Return a Job of a service.

        Raises:
            TargetError: the inventory does not allow it.
        """
        jobs = bindings.jobs(service)
        if name not in jobs or not isinstance(service.platform, KubernetesBinding):
            hint = did_you_mean(name, jobs) or "no Job is allowed"
            raise TargetError(f"the inventory does not allow the Job {name!r} for {service.name}; {hint}")
        return cls(name, jobs[name], service.platform)

    @property
    def where(self) -> str:
        """The namespace, for people."""
        return f"Kubernetes, namespace {self.binding.namespace}"

    def connected(self) -> AbstractAsyncContextManager[Jobs]:
        """Provide a client of the namespace.

        Raises:
            TargetError: the kubeconfig or the service account cannot be used.
        """
        return aclosing(Jobs(access(self.binding, self.binding.namespace)))

    def check_values(self, values: Mapping[str, str]) -> None:
        """Check the values for the environment of the Job.

        Raises:
            TargetError: a value is missing, unknown or not allowed.
        """
        if set(values) != set(self.template.values):
            expected = ", ".join(sorted(self.template.values)) or "none"
            raise TargetError(f"the Job {self.name!r} needs exactly these values: {expected}")
        for name, value in values.items():
            pattern = self.template.values[name]
            if "\0" in value or not compile_pattern(pattern).fullmatch(value):
                raise TargetError(f"{name}: {value[:60]!r} is not allowed: it must match {pattern}")

    def manifest(self) -> tuple[dict[str, Any], str]:
        """Return the Job of the manifest, and the digest of the file.

        Raises:
            TargetError: the file cannot be read, or is not a Job.
        """
        path = self.template.manifest
        try:
            text = read_text(path)
            return parse_manifest(text), digest(text)
        except OSError as error:
            raise TargetError(f"cannot read the manifest '{path}': {error.strerror}") from None
        except UnicodeDecodeError:
            raise TargetError(f"the manifest '{path}' is not UTF-8 text") from None
        except InputError as error:
            raise TargetError(f"cannot use the manifest '{path}': {error}") from None

    def filled(self, manifest: Mapping[str, Any], values: Mapping[str, str], run: str, step: str) -> dict[str, Any]:
        """Return the Job of one step of one run. Every attempt of the step gets the same name."""
        return filled_manifest(
            manifest,
            name=job_name(self.name, run, step),
            labels={RUN: run, JOB: self.name},
            step=step,
            environment=values,
            timeout=self.template.timeout,
            keep=self.template.keep,
        )
