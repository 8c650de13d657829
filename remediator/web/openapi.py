"""The OpenAPI 3.1 description of the API, generated from the list of its operations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired, Required, cast, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    WithJsonSchema,
    with_config,
)
from typing_extensions import TypedDict

from remediator import __version__
from remediator.core import untrusted_json
from remediator.core.approval import NEEDS, Permission

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A time in an answer: RFC 3339 in UTC."""


def _json_value(text: str) -> Any:
    """Decode a number or a boolean of a query exactly as JSON has it: no spaces, no underscores, no "yes"."""
    try:
        return text if text != text.strip() else untrusted_json.decode(text)
    except ValueError:
        return text  # which is refused, because it is no number and no boolean


Flag = Annotated[bool, Strict(), BeforeValidator(_json_value)]
"""A boolean in a query."""


def bounded(type_: type, least: int, most: int) -> Any:
    """Return the type of a number in a query, from ``least`` to ``most``."""
    return Annotated[type_, Strict(), Field(ge=least, le=most), BeforeValidator(_json_value)]


SPAN = "^(0|([0-9]{1,2}y)?([0-9]{1,4}w)?([0-9]{1,5}d)?([0-9]{1,6}h)?([0-9]{1,8}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?)$"
"""The pattern of a duration before now. Twice the longest one still reaches to an instant after year 1."""
Span = Annotated[str, Field(min_length=1, pattern=SPAN)]
"""A duration before now in a query."""
_TIME = r"\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})"
_RFC3339 = re.compile(rf"\d{{4}}-\d{{2}}-\d{{2}}([Tt ]{_TIME})?", re.ASCII)


def _check_moment(text: str) -> str:
    if not (text and re.fullmatch(SPAN, text)):
        if not _RFC3339.fullmatch(text):
            raise ValueError("expected a time like 2026-01-31T08:00:00Z, a date, or a duration like 2h")
        datetime.fromisoformat(text.upper())
    return text


Moment = Annotated[
    str,
    AfterValidator(_check_moment),
    WithJsonSchema(
        {"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}, {"minLength": 1, "pattern": SPAN}]}
    ),
]
"""An instant in a query; :func:`remediator.core.clock.parse_moment` reads it."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a path or a query."""

    name: str
    place: str
    """``path`` or ``query``."""
    text: str
    type: Any = str


MAX_LIMIT = 500
LIMIT = Parameter(
    "limit",
    "query",
    f"Maximum number of results, at most {MAX_LIMIT}.",
    bounded(int, 1, MAX_LIMIT),
)
NOT_EMPTY = "[^\\s\\u001c-\\u001f\\u0085\\ufeff]"
"""The pattern of a text that is not only whitespace, which is more to Python than to most patterns."""
NotEmpty = Annotated[str, Field(pattern=NOT_EMPTY)]
"""A text in a body that is not only whitespace."""
Texts = Annotated[dict[str, str], Field(max_length=100)]
"""An object in a body whose values are strings."""
ERRORS: Mapping[str, str] = {
    "400": "The request is invalid; nothing was changed.",
    "401": "The caller is unknown.",
    "403": "Not allowed; the error names the required role, or why the decision does not count.",
    "404": "The resource does not exist.",
    "409": "The request is well-formed, but not possible now; nothing was changed.",
    "429": "Too many wrong tokens from this address; try again in a minute.",
    "503": "The store does not answer; try again.",
}
"""The meaning of each status code of an error."""
REASON: Mapping[str, str] = {"reason": "Reason, shown to other users."}


def filters(*names: str) -> tuple[Parameter, ...]:
    """Return query parameters that choose results by one value each."""
    return tuple(Parameter(name, "query", f"Only this {name}.") for name in names)


class BodyField(str):
    """The description of a field of the body that is not any string, with its type."""

    type: Any

    def __new__(cls, text: str, type_: Any) -> BodyField:
        made = super().__new__(cls, text)
        made.type = type_
        return made


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: path, purpose, parameters, and the permission that it needs."""

    method: str
    path: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    body: Mapping[str, str] = field(default_factory=dict)
    """Fields of the JSON body, with their descriptions."""
    permission: Permission = Permission.READ
    answer: Any = None
    """Type of the answer; None if it is no JSON, but of the types in ``media``."""
    media: tuple[str, ...] = ()
    """Media types of the answer besides JSON."""
    body_forms: Any = None
    """A union; the body must match one of its types. None if the fields describe the body completely."""
    forms_hint: str = ""
    """One sentence that says what the forms allow, for a body that matches none of them."""

    def body_type(self) -> Any:
        """Return the type of the body. A request is checked by it, and its schema is in the description."""
        fields = {name: _field_type(text) for name, text in self.body.items()}
        # "strict": a number is no text, and 1 is not true
        return with_config(ConfigDict(extra="forbid", strict=True))(cast(Any, TypedDict)("Body", fields))

    def query_type(self) -> Any:
        """Return the type of the query, as :meth:`body_type`."""
        fields = {item.name: NotRequired[item.type] for item in self.parameters if item.place == "query"}
        return with_config(ConfigDict(extra="forbid"))(cast(Any, TypedDict)("Query", fields))


_REQUIRED = "Required."


def _field_type(text: str) -> Any:
    required = text.startswith(_REQUIRED)
    kind = text.type if isinstance(text, BodyField) else NotEmpty if required else str
    described: Any = Annotated[kind, Field(description=str(text))]
    return Required[described] if required else NotRequired[described]


_MODE: Literal["serialization"] = "serialization"


def describe(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, Any] = {}
    typed = [operation for operation in operations if operation.answer is not None]
    adapters = [(number, _MODE, TypeAdapter(operation.answer)) for number, operation in enumerate(typed)]
    schemas, common = TypeAdapter.json_schemas(adapters, ref_template="#/components/schemas/{model}")
    answers = {(item.method, item.path): schemas[number, _MODE] for number, item in enumerate(typed)}
    for operation in operations:
        made = _operation(operation, answers.get((operation.method, operation.path)))
        paths.setdefault(operation.path, {})[operation.method.lower()] = made
    webhook = _path_item("Receive a notification of Alertmanager (webhook, version 4). 2xx: committed and fsynced.")
    webhook |= {
        "operationId": "post_alerts",
        "security": [{"token": []}],
        "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}},
    }
    paths["/api/v1/openapi.json"] = {"get": _path_item("Show this description.")}
    paths["/api/v1/alerts"] = {"post": webhook}
    paths["/api/v1/slack/interactions"] = {"post": _path_item("Receive a button click from Slack, signed by Slack.")}
    paths["/api/v1/slack/commands"] = {"post": _path_item("Receive a slash command from Slack, signed by Slack.")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "remediator",
            "version": __version__,
            "description": 'Every error is one line: {"error": "a sentence"}.',
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "An operator token."}},
            "schemas": {
                **common.get("$defs", {}),
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": {"type": "string"}},
                },
            },
        },
    }


def _operation(operation: Operation, answer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the description of an operation with the schema of its answer."""
    reads = operation.method == "GET" and operation.permission is Permission.READ
    parts = [part.strip("{}") for part in operation.path.split("/")[3:]]
    item = _path_item(operation.summary) | {
        "operationId": "_".join([operation.method.lower(), *parts]),
        "description": f"Role: {NEEDS[operation.permission].value}.",
        # reading may be allowed without sign-in: see access.anonymous_role
        "security": [{"token": []}, {}] if reads else [{"token": []}],
        "parameters": [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.place == "path",
                "description": parameter.text,
                "schema": TypeAdapter(parameter.type).json_schema(),
            }
            for parameter in operation.parameters
        ],
    }
    content: dict[str, Any] = {media: {"schema": {"type": "string"}} for media in operation.media}
    if answer is not None:
        content["application/json"] = {"schema": answer}
    item["responses"]["200"] = {"description": "Success.", "content": content}
    if operation.method == "POST":
        schema = TypeAdapter(operation.body_type()).json_schema()
        if operation.body_forms:
            schema["anyOf"] = [TypeAdapter(form).json_schema() for form in get_args(operation.body_forms)]
        item["requestBody"] = {
            "required": bool("required" in schema or operation.body_forms),
            "content": {"application/json": {"schema": schema}},
        }
    return item


def _path_item(summary: str) -> dict[str, Any]:
    schema = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    responses = {status: {"description": text, **schema} for status, text in ERRORS.items()}
    return {"summary": summary, "responses": {"200": {"description": "Success."}, **responses}}
