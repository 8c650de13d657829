"""Settings of the links to other tools."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import Field, field_validator

from remediator.core.types import Strict
from remediator.core.urls import http_url

_PLACEHOLDER = re.compile(r"service|alertname|playbook|from|to|label\.[a-zA-Z_][a-zA-Z0-9_]*")
"""A name in braces in the URL of a dashboard."""


class Links(Strict):
    """Links to other tools, on pages and in the API. Empty: no such link."""

    alertmanager: str = Field(
        default="",
        description="URL of Alertmanager for browsers, for links to its form for a new silence. Default: the first of "
        "'alertmanagers'.",
    )
    dashboards: Mapping[str, str] = Field(
        default={},
        description="Links to dashboards, by label. The URL may contain {service}, {alertname}, {playbook}, {from} and "
        "{to} (milliseconds since 1970), and {label.NAME} for a label of the alert.",
    )

    @field_validator("alertmanager")
    @classmethod
    def _url(cls, value: str) -> str:
        return http_url(value, "https://alertmanager.example.com").rstrip("/") if value else ""

    @field_validator("dashboards")
    @classmethod
    def _known_placeholders(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for label, url in value.items():
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{label!r}: the URL must start with http:// or https://")
            unknown = [name for name in re.findall(r"\{([^{}]*)\}", url) if not _PLACEHOLDER.fullmatch(name)]
            if unknown:
                raise ValueError(
                    f"{label!r}: unknown placeholder {{{unknown[0]}}}; expected service, alertname, playbook, from, to "
                    "or label.NAME"
                )
        return value
