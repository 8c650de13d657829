"""How to reach a Kubernetes cluster, as in the inventory. This module makes no connections."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, model_validator

from remediator.core.types import FieldError, FilePath, PositiveDuration, Strict


class ClusterSettings(Strict):
    """A cluster: a kubeconfig and one of its contexts, or the service account of the pod of this process."""

    kubeconfig: FilePath | None = Field(
        default=None, description="Path of the kubeconfig; default: service account of the pod."
    )
    context: str | None = Field(default=None, description="Context of the kubeconfig; default: its current context.")
    timeout: PositiveDuration = Field(default=timedelta(seconds=10), description="Timeout of one call.")

    @model_validator(mode="after")
    def _context_of_a_file(self) -> ClusterSettings:
        if self.context is not None and self.kubeconfig is None:
            raise FieldError("context needs kubeconfig", ("context",), hint="set kubeconfig, or remove context")
        return self
