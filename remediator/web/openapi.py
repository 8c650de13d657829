"""The API's description, in OpenAPI 3.1, made from the list of its operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remediator import __version__
from remediator.core.approval import NEEDS, Permission


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a path or a query."""

    name: str
    place: str
    text: str
    kind: str = "string"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: where, what it does, what it takes, and what its caller must be allowed."""

    method: str
    path: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    body: Mapping[str, str] = field(default_factory=dict)
    power: Permission = Permission.SEE


def describe(operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole description."""
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    paths["/api/v1/openapi.json"] = {"get": _plain("This description.")}
    paths["/api/v1/alerts"] = {"post": _alerts()}
    paths["/api/v1/slack/interactions"] = {"post": _plain("Buttons pressed in Slack; signed by Slack.")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "remediator", "version": __version__, "description": 'Errors are {"error": one sentence}.'},
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "An operator token."}},
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": {"type": "string"}},
                }
            },
        },
    }


def _described(operation: Operation) -> dict[str, Any]:
    made = _plain(operation.summary, _name(operation))
    made["description"] = f"Needs the role {NEEDS[operation.power].value}."
    made["security"] = [{"token": []}]
    made["parameters"] = [
        {
            "name": item.name,
            "in": item.place,
            "required": item.place == "path",
            "description": item.text,
            "schema": {"type": item.kind},
        }
        for item in operation.parameters
    ]
    if operation.method == "POST":
        fields = {
            name: {"type": "boolean" if name == "break_glass" else "string", "description": text}
            for name, text in operation.body.items()
        }
        made["requestBody"] = {"content": {"application/json": {"schema": {"type": "object", "properties": fields}}}}
    return made


def _name(operation: Operation) -> str:
    parts = [part.strip("{}") for part in operation.path.split("/")[3:]]
    return "_".join([operation.method.lower(), *parts])


def _plain(summary: str, name: str = "") -> dict[str, Any]:
    error = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    answers: dict[str, Any] = {"200": {"description": "As asked."}}
    told = {"400": "A mistake in what was sent.", "401": "Nobody whom we know.", "403": "Not allowed."}
    told |= {"404": "Not there.", "503": "The store does not answer; try again."}
    answers |= {status: {"description": text, **error} for status, text in told.items()}
    return {"summary": summary, "responses": answers} | ({"operationId": name} if name else {})


def _alerts() -> dict[str, Any]:
    made = _plain("Alertmanager's webhook, version 4. 2xx: committed and synced.", "post_alerts")
    made["requestBody"] = {"content": {"application/json": {"schema": {"type": "object"}}}}
    return made
