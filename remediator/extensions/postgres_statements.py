"""The statements that the inventory allows on a PostgreSQL, for actions and checks."""

from __future__ import annotations

from collections.abc import Mapping

from remediator.clients.postgres.client import Postgres
from remediator.clients.postgres.settings import Statement, Value
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.playbooks.inventory import Service

NAME = r"^[a-z0-9][a-z0-9._-]*$"


def allowed(service: Service, name: str, values: Mapping[str, Value]) -> tuple[Postgres, Statement]:
    """Return the client of a service, and the statement with this name.

    Raises:
        TargetError: the inventory does not allow the statement, or a value.
    """
    postgres = bindings.postgres(service)
    statement = postgres.endpoint.statements.get(name)
    if statement is None:
        known = ", ".join(sorted(postgres.endpoint.statements)) or "none"
        raise TargetError(f"the inventory does not allow the statement {name!r}; allowed: {known}")
    if values.keys() != statement.values.keys():
        needed = ", ".join(sorted(statement.values)) or "none"
        raise TargetError(f"{name!r} needs exactly these values: {needed}")
    for key, rule in statement.values.items():
        if not rule.fits(values[key]):
            raise TargetError(f"value {key!r}: the inventory does not allow {str(values[key])[:60]!r}")
    return postgres, statement
