"""Jobs of a namespace: create one from a manifest, exactly once by its name, and follow it until it ends."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import yaml

from remediator.clients.http import Part
from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused
from remediator.clients.kubernetes.models import Condition, Document, Meta, Pod
from remediator.errors import InputError

RUN = "remediator.run"
"""Label of a Job that the remediator created: the ID of the run."""
JOB = "remediator.job"
"""Label: the name of its template in the inventory."""
STEP = "remediator.step"
"""Annotation: the step of the run."""


class _JobStatus(Part, frozen=True, kw_only=True, rename="camel"):
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    start_time: datetime | None = None
    conditions: tuple[Condition, ...] = ()


class Job(Part, frozen=True, kw_only=True, rename="camel"):
    """One Job."""

    metadata: Meta
    status: _JobStatus = _JobStatus()

    @property
    def state(self) -> str:
        """``complete``, ``failed`` or ``running``."""
        held = {each.type for each in self.status.conditions if each.status == "True"}
        return "complete" if "Complete" in held else "failed" if "Failed" in held else "running"

    @property
    def why(self) -> str:
        """Reason of the failure, from Kubernetes; empty otherwise."""
        found = (each for each in self.status.conditions if each.type == "Failed" and each.status == "True")
        return next((f"{each.reason}: {each.message}" for each in found), "")

    def was_made_by(self, run: str, step: str) -> bool:
        """Return whether this step of this run created it."""
        return self.metadata.labels.get(RUN) == run and self.metadata.annotations.get(STEP) == step


class Jobs(Kubernetes):
    """A client of the Jobs of one namespace. Raises what `Kubernetes` raises."""

    async def create(self, manifest: Document, *, dry_run: bool = False) -> Job:
        """Create a Job. With ``dry_run``, the server checks it and does not persist it."""
        parameters = {"fieldManager": "remediator", **({"dryRun": "All"} if dry_run else {})}
        path = self._path("/apis/batch/v1", "jobs")
        return (await self._call("POST", path, params=parameters, json=manifest, reads=dry_run)).json(Job)

    async def job(self, name: str) -> Job | None:
        """Return the Job with this name; None if there is none."""
        try:
            return (await self._call("GET", self._path("/apis/batch/v1", "jobs", name))).json(Job)
        except KubernetesRefused as error:
            if error.status != 404:
                raise
            return None

    async def jobs_of(self, run: str, template: str) -> tuple[Job, ...]:
        """Return the Jobs that a run created from a template, the newest first."""
        found = await self._list("/apis/batch/v1", "jobs", Job, {"labelSelector": f"{RUN}={run},{JOB}={template}"})
        return tuple(sorted(found, key=_age))

    async def pods_of(self, job: str) -> tuple[Pod, ...]:
        """Return the pods of a Job, the newest first."""
        return tuple(sorted(await self.pods({"job-name": job}), key=_age))


def _age(each: Job | Pod) -> float:
    made = each.metadata.creation_timestamp
    return -made.timestamp() if made is not None else 0.0


def digest(text: str) -> str:
    """Return the SHA-256 of the text of a manifest."""
    return hashlib.sha256(text.encode()).hexdigest()


def job_name(template: str, run: str, step: str) -> str:
    """Return the name of the Job of one step of one run. All attempts of the step have the same name."""
    return f"{template}-{hashlib.sha256(f'{run} {step}'.encode()).hexdigest()[:20]}"


def parse_manifest(text: str) -> dict[str, Any]:
    """Return the Job of a manifest.

    Raises:
        InputError: it is not one Job with a pod template.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{mark.line + 1}:{mark.column + 1}: " if mark is not None else ""
        raise InputError(f"{where}{getattr(error, 'problem', None) or 'expected exactly one YAML document'}") from None
    if not isinstance(found, dict) or (found.get("apiVersion"), found.get("kind")) != ("batch/v1", "Job"):
        raise InputError("it is not a Job: it must have apiVersion: batch/v1 and kind: Job")
    try:
        containers = found["spec"]["template"]["spec"]["containers"]
        if not containers or not all(isinstance(each, dict) for each in containers):
            raise TypeError
    except (KeyError, TypeError):
        raise InputError("it has no containers: write spec.template.spec.containers") from None
    return found


def filled_manifest(
    manifest: Document,
    *,
    name: str,
    labels: Mapping[str, str],
    step: str,
    environment: Mapping[str, str],
    timeout: timedelta,
    keep: timedelta,
) -> dict[str, Any]:
    """Return the Job to create: a manifest with name, labels, environment variables and limits.

    Args:
        manifest: as :func:`parse_manifest` returned it.
        name: name of the Job.
        labels: labels of the Job and its pods, in addition to the manifest.
        step: the step of the run.
        environment: variables of all containers; they replace variables with the same name.
        timeout: time after which Kubernetes stops it, unless the manifest has a shorter timeout.
        keep: retention after its end, unless the manifest sets it.
    """
    metadata, spec = dict(manifest.get("metadata") or {}), dict(manifest["spec"])
    template = dict(spec["template"])
    inside, pod = dict(template.get("metadata") or {}), dict(template["spec"])
    for kind in ("initContainers", "containers"):
        if pod.get(kind):
            pod[kind] = [_with_environment(each, environment) for each in pod[kind]]
    deadline = int(timeout.total_seconds())
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": {**(metadata.get("labels") or {}), **labels},
            "annotations": {**(metadata.get("annotations") or {}), STEP: step},
        },
        "spec": {
            **spec,
            "activeDeadlineSeconds": min(int(spec.get("activeDeadlineSeconds") or deadline), deadline),
            "ttlSecondsAfterFinished": spec.get("ttlSecondsAfterFinished", int(keep.total_seconds())),
            "template": {
                **template,
                "metadata": {**inside, "labels": {**(inside.get("labels") or {}), **labels}},
                "spec": pod,
            },
        },
    }


def _with_environment(container: Document, environment: Mapping[str, str]) -> dict[str, Any]:
    kept = [each for each in container.get("env") or () if each.get("name") not in environment]
    return {**container, "env": [*kept, *({"name": name, "value": value} for name, value in environment.items())]}
