"""Rights on PostgreSQL: the role of the service may append to the audit log and change nothing in it.

The role that owns the tables could disable the triggers of the audit log, and so could a superuser. So the service
should use a separate role, to which :func:`grant` gives exactly the required rights.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from remediator.errors import InputError
from remediator.storage.migrate import lock_out_others
from remediator.storage.schema import audit, audit_head, metadata

_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")
DELETE_ARCHIVED = "remediator_delete_archived"
"""Function that deletes the oldest entries of the audit log, for the archive."""


def table_rights(table: str) -> tuple[str, ...]:
    """Return the rights that the service needs on a table."""
    return {audit.name: ("SELECT", "INSERT"), audit_head.name: ("SELECT", "UPDATE")}.get(table, _ALL)


@dataclass(frozen=True, slots=True)
class RolePower:
    """The power of the current role over the audit log."""

    role: str
    is_superuser: bool
    is_owner: bool
    """The role owns the table, or is a member of the role that owns it."""

    @property
    def problem(self) -> str:
        """Return the problem of the role, as a clause; empty without a problem."""
        if self.is_superuser:
            return f"the role {self.role!r} is a superuser, so that a stolen password can rewrite the audit log"
        if self.is_owner:
            return f"the role {self.role!r} owns the tables, so that a stolen password can rewrite the audit log"
        return ""


FIX = "use a separate role for the service: see 'remediator db grant --help'"


def role_power(connection: Connection) -> RolePower:
    """Return the power of the role of a connection over the audit log."""
    row = connection.exec_driver_sql(
        "SELECT current_user, r.rolsuper, pg_has_role(current_user, t.relowner, 'MEMBER') "
        "FROM pg_roles r, pg_class t WHERE r.rolname = current_user AND t.oid = 'audit'::regclass"
    ).one()
    return RolePower(*row)


def grant(connection: Connection, role: str) -> None:
    """Grant a role the rights of the service, and revoke every other right on the tables. Needs the owner of the
    tables.

    Raises:
        InputError: there is no such role, or it could rewrite the audit log regardless of its grants.
    """
    found = connection.exec_driver_sql(
        "SELECT rolsuper, pg_has_role(rolname, "
        "(SELECT relowner FROM pg_class WHERE oid = 'audit'::regclass), 'MEMBER') FROM pg_roles WHERE rolname = %s",
        (role,),
    ).first()
    if found is None:
        raise InputError(f"there is no role {role!r}; create it first: CREATE ROLE {role} LOGIN PASSWORD '…'")
    if found[0] or found[1]:
        what = "is a superuser" if found[0] else "owns the tables"
        raise InputError(f"the role {role!r} {what}; grant the rights to another role, which only the service uses")
    name = connection.dialect.identifier_preparer.quote(role)
    schema = connection.dialect.identifier_preparer.quote(
        str(connection.exec_driver_sql("SELECT current_schema()").scalar_one())
    )
    statements = [f"GRANT USAGE ON SCHEMA {schema} TO {name}", f"REVOKE CREATE ON SCHEMA {schema} FROM {name}"]
    for table in metadata.tables:
        statements += [
            f"REVOKE ALL ON {table} FROM {name}",
            f"GRANT {', '.join(table_rights(table))} ON {table} TO {name}",
        ]
    statements += [
        f"GRANT SELECT ON alembic_version TO {name}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {name}",
        f"GRANT EXECUTE ON FUNCTION {DELETE_ARCHIVED}(bigint) TO {name}",
    ]
    connection.exec_driver_sql("BEGIN")
    lock_out_others(connection)
    for statement in statements:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql("COMMIT")
