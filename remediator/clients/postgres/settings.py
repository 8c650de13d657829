"""The connection to a PostgreSQL server, its protected sessions, and the statements that playbooks may run on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from remediator.clients.endpoints import ServerEndpoint
from remediator.clients.value_rule import ValueRule
from remediator.core.types import Duration, FieldError, FilePath, PositiveDuration, Strict, raise_all

Value = str | int | bool
_NAME = "[A-Za-z_][A-Za-z0-9_]{0,62}"
Column = Annotated[str, Field(pattern=f"^{_NAME}$")]
Table = Annotated[str, Field(pattern=f"^{_NAME}[.]{_NAME}$")]
_PLACEHOLDER = re.compile(r"%(?:%|\((?P<name>[a-z_][a-z0-9_]*)\)s)?")
_ENDS_THE_TEXT = re.compile(r";|--|/\*")


class StatementValue(ValueRule):
    """The rule for a value of a statement. PostgreSQL gets the value beside the text and never parses it as SQL."""

    type: Literal["string", "integer", "boolean"] = Field(default="string", description="Type of the value.")
    minimum: int | None = Field(default=None, description="Smallest allowed integer.")
    maximum: int | None = Field(default=None, description="Greatest allowed integer.")

    @model_validator(mode="after")
    def _range_of_integers(self) -> StatementValue:
        if self.type != "integer" and (self.minimum is not None or self.maximum is not None):
            raise FieldError(f"minimum and maximum work with type integer only, not {self.type}")
        return self

    def fits(self, value: object) -> bool:
        """Return whether this value is allowed."""
        if self.type != "integer":
            return super().fits(value)
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        is_too_small = self.minimum is not None and value < self.minimum
        return not is_too_small and (self.maximum is None or value <= self.maximum)


class Statement(Strict):
    """An UPDATE or DELETE on one table. The same condition counts the rows for the plan and selects the rows to change.

    In the SQL texts, a value of a playbook is ``%(name)s``, and a percent sign is ``%%``.
    """

    update: Table | None = Field(default=None, description="Table whose rows are changed, with its schema.")
    delete: Table | None = Field(default=None, description="Table whose rows are deleted, with its schema.")
    set: dict[Column, str] = Field(default={}, description="With update: the columns, each with its SQL expression.")
    where: str = Field(min_length=1, description="SQL condition for the rows.")
    values: dict[Annotated[str, Field(pattern="^[a-z_][a-z0-9_]*$")], StatementValue] = Field(
        default={}, description="Values that a playbook gives, by name, each with its rule."
    )
    max_rows: int = Field(
        ge=1,
        le=100_000,
        description="Maximum number of changed rows, including rows that triggers and foreign keys change. With more, "
        "the whole statement is rolled back.",
    )
    timeout: PositiveDuration = Field(
        default=timedelta(seconds=10), description="Time for the statement, with the wait for locks."
    )
    risk: str | None = Field(default=None, description="Possible damage, in one sentence, for the approver.")

    @model_validator(mode="after")
    def _possible(self) -> Statement:
        raise_all(tuple(self._errors()))
        return self

    def _errors(self) -> Iterator[FieldError]:
        if (self.update is None) == (self.delete is None):
            yield FieldError("set either update or delete", hint="for example update: public.jobs")
        if bool(self.set) != (self.update is not None):
            yield FieldError(
                "set is only for update, and update needs set", ("set",), hint="set: {state: \"'queued'\"}"
            )
        used: set[str] = set()
        for path, text in (*((("set", name), text) for name, text in self.set.items()), (("where",), self.where)):
            if found := _ENDS_THE_TEXT.search(text):
                hint = "give a value that contains it with 'values'"
                yield FieldError(
                    f"{found[0]!r} is not allowed in the SQL text", path, column=found.start() + 1, hint=hint
                )
            for place in _PLACEHOLDER.finditer(text):
                if place[0] == "%":
                    hint = "write %% for a percent sign, and %(name)s for a value"
                    yield FieldError("a single % in the SQL text", path, column=place.start() + 1, hint=hint)
                if place["name"]:
                    used.add(place["name"])
        for name in sorted(used - set(self.values)):
            yield FieldError(f"the SQL text uses {name!r}, which 'values' does not declare", ("values",))
        for name in sorted(set(self.values) - used):
            yield FieldError(f"the SQL text does not use {name!r}: write it as %({name})s", ("values", name))

    @property
    def table(self) -> str:
        """The table, quoted."""
        schema, _, name = (self.update or self.delete or "").partition(".")
        return f'"{schema}"."{name}"'

    @property
    def text(self) -> str:
        """The statement. A newline ends it, so that nothing in the condition hides the parenthesis."""
        if self.delete is not None:
            return f"DELETE FROM {self.table} WHERE ({self.where}\n)"  # noqa: S608 - written in the inventory
        changes = ", ".join(f'"{column}" = ({expression})' for column, expression in self.set.items())
        return f"UPDATE {self.table} SET {changes} WHERE ({self.where}\n)"  # noqa: S608

    @property
    def count_text(self) -> str:
        """The statement that counts the rows, up to one more than allowed."""
        inner = f"SELECT FROM {self.table} WHERE ({self.where}\n) LIMIT {self.max_rows + 1}"
        return f"SELECT count(*) FROM ({inner}) AS found"  # noqa: S608

    def grants(self, role: str) -> tuple[str, ...]:
        """Return the SQL that gives a role exactly the rights for this statement."""
        schema = self.table.partition(".")[0]
        what = "DELETE" if self.delete is not None else f"UPDATE ({', '.join(self.set)})"
        return f'GRANT USAGE ON SCHEMA {schema} TO "{role}"', f'GRANT SELECT, {what} ON {self.table} TO "{role}"'

    def count_grants(self, role: str) -> tuple[str, ...]:
        """Return the SQL that gives a role exactly the rights to count the rows."""
        return self.grants(role)[0], f'GRANT SELECT ON {self.table} TO "{role}"'


class ProtectedSessions(Strict):
    """Sessions that are never ended or cancelled, besides sessions of superusers, replication and remediator."""

    users: tuple[str, ...] = Field(default=(), description="Roles of the sessions.")
    applications: tuple[str, ...] = Field(
        default=("pg_dump", "pg_dumpall", "pg_restore"),
        description="Values of application_name. A backup with several jobs is idle in a transaction for a long time.",
    )


class PostgresEndpoint(ServerEndpoint):
    """A PostgreSQL server (14 or later), reached directly and not through a pooler; the role of remediator on it.

    The server's certificate must be for ``host``; ``server_name`` is not supported.
    """

    port: int = Field(default=5432, ge=1, le=65535, description="TCP port, also with a unix socket.")
    socket: FilePath | None = Field(default=None, description="Folder of the unix socket, instead of host.")
    database: str = Field(
        default="postgres",
        min_length=1,
        description="Database to connect to, with the tables of the statements. Sessions of all databases are seen.",
    )
    username: str = Field(default="remediator", min_length=1, description="Role of remediator.")
    timeout: Duration = Field(default=timedelta(seconds=5), description="Timeout of the connection, and of each query.")
    protected: ProtectedSessions = Field(
        default=ProtectedSessions(), description="Sessions that are never ended or cancelled."
    )
    statements: dict[Annotated[str, Field(pattern="^[a-z0-9][a-z0-9._-]*$")], Statement] = Field(
        default={}, description="Statements that postgres.execute may run, each under a name of your choice."
    )

    @model_validator(mode="after")
    def _possible(self) -> PostgresEndpoint:
        if self.socket is not None and "host" in self.model_fields_set:
            raise ValueError("socket and host cannot be used together: remove one of them")
        return self

    @property
    def name(self) -> str:
        """Name for messages."""
        where = str(self.socket) if self.socket else f"{self.host}:{self.port}"
        return f"PostgreSQL at {where}"
