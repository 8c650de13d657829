"""Settings of the traces and events of runs that are sent to other systems."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, field_validator

from remediator.core.types import FilePath, SecretFile, Strict
from remediator.core.urls import UrlOrFile, http_url

_EXAMPLE = "http://127.0.0.1:4318/v1/traces"


class Tracing(Strict):
    """Traces in OpenTelemetry: one for each ended run, made from the audit log. Needs the extra opentelemetry."""

    url: str = Field(description="URL of the collector for traces by OTLP over HTTP; its path usually is /v1/traces.")
    header_files: Mapping[str, SecretFile] = Field(
        default={}, description="Files with the values of further headers, by name, for example of an API key."
    )
    ca_file: FilePath | None = Field(default=None, description="CA certificates that the collector's must be from.")
    service_name: str = Field(default="remediator", description="Value of the attribute service.name.")

    @field_validator("url")
    @classmethod
    def _valid(cls, value: str) -> str:
        if not value:
            raise ValueError(f"must not be empty, for example {_EXAMPLE}")
        return http_url(value, _EXAMPLE)


class CloudEvents(UrlOrFile):
    """A webhook that gets each change of a run's status as a CloudEvent (version 1.0, structured mode)."""

    url: str = Field(default="", description="URL to which each event is posted.")
    url_file: SecretFile | None = Field(default=None, description="File with the URL, if the URL is a secret.")
    token_file: SecretFile | None = Field(default=None, description="File with the bearer token to send.")

    @field_validator("url")
    @classmethod
    def _valid(cls, value: str) -> str:
        return http_url(value, _EXAMPLE) if value else ""
