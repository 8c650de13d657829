"""Statements that are built and compiled once, and then executed by the driver without SQLAlchemy's own machinery.

At each execution, SQLAlchemy computes a cache key, builds a context and a cursor result, and looks up how to convert
each value. For the short statements of this store, that took four times as long as SQLite needs to execute them.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, Dialect, Executable, Table
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound
from sqlalchemy.sql.compiler import SQLCompiler

_MAX_FORMS = 64
"""Compiled texts kept for one statement. There is one text for each number of values in an ``IN`` list."""
_NO_VALUES: Mapping[str, Any] = {}


class Prepared(Executable):
    """A statement to keep at module level and to execute as any other: ``connection.execute(statement, values)``.

    Its result has the methods of SQLAlchemy's that :class:`PreparedResult` lists; its rows are named tuples. An error
    of the driver is raised as SQLAlchemy raises it.

    Args:
        statement: a statement of SQLAlchemy Core, with a bound parameter for each value that differs from one
            execution to the next. For an ``INSERT`` without values, the names of the given values are the columns.
    """

    def __init__(self, statement: Any) -> None:
        self.statement = statement
        self.columns = tuple(getattr(statement, "exported_columns", ()))
        """The columns of each row; read now, because a derived statement keeps a stale copy."""
        self._forms: dict[tuple[Any, ...], _Form] = {}
        self.lists: tuple[str, ...] | None = None
        """The names of the parameters that are lists; None before the first execution."""

    def _execute_on_connection(self, connection: Connection, distilled_params: Any, execution_options: Any) -> Any:
        """Execute the statement. ``Connection.execute`` calls this method of its argument."""
        if not connection.in_transaction():
            connection.begin()  # begin as SQLAlchemy does, so that ``connection.commit`` commits
        first: Mapping[str, Any] = distilled_params[0] if distilled_params else _NO_VALUES
        many = len(distilled_params) > 1
        if self.lists is None:
            binds = self.statement.compile(dialect=connection.dialect, column_keys=list(first)).binds
            self.lists = tuple(name for name, bind in binds.items() if bind.expanding and name in first)
        key = (connection.dialect.name, many, *[len(first[name]) for name in self.lists], *first)
        form = self._forms.get(key)
        if form is None:
            if len(self._forms) >= _MAX_FORMS:
                self._forms.clear()
            form = self._forms[key] = _Form(self, connection.dialect, first, many=many)
        return form.execute(connection, distilled_params if many else first)


@cache
def insert_or_update(dialect: str, table: Table, unique: tuple[str, ...], changed: tuple[str, ...] = ()) -> Prepared:
    """Return the statement that inserts a row, or changes columns of the existing row.

    Args:
        dialect: name of the dialect. Only the dialect in use is imported, to save memory.
        table: the table.
        unique: the columns that name a row.
        changed: the columns that an existing row gets from the new one; without such columns, the row does not change.
    """
    given = import_module(f"sqlalchemy.dialects.{dialect}").insert(table)
    if not changed:
        return Prepared(given.on_conflict_do_nothing(index_elements=unique))
    new_values = {name: given.excluded[name] for name in changed}
    return Prepared(given.on_conflict_do_update(index_elements=unique, set_=new_values))


class PreparedResult:
    """All rows that a statement returned, and the number of rows that it changed."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> list[Any]:
        return self._rows

    def first(self) -> Any | None:
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        if len(self._rows) != 1:
            raise (MultipleResultsFound if self._rows else NoResultFound)(f"{len(self._rows)} rows instead of one")
        return self._rows[0]

    def scalar(self) -> Any | None:
        return self._rows[0][0] if self._rows else None

    def scalar_one(self) -> Any:
        return self.one()[0]

    def scalars(self) -> PreparedResult:
        """Return the first column of all rows."""
        return PreparedResult([row[0] for row in self._rows], self.rowcount)


class _Form:
    """The text of a statement for one database and for values of these names, and how values are converted."""

    def __init__(self, prepared: Prepared, dialect: Dialect, given: Mapping[str, Any], *, many: bool) -> None:
        compiled: SQLCompiler = prepared.statement.compile(
            dialect=dialect, column_keys=list(given), for_executemany=many
        )
        state = compiled.construct_expanded_state(given)
        self._text = state.statement
        self._many = many
        self._lists = {name: state.parameter_expansion[name] for name in prepared.lists or ()}
        # converter of a value for the driver; None if no conversion is needed
        binders = {
            name: bind.type.dialect_impl(dialect).bind_processor(dialect)
            for name, bind in compiled.binds.items()
            if name not in self._lists
        }
        binders.update(state.processors)
        varying = {*given, *(name for names in self._lists.values() for name in names)}
        self._names = None if state.positiontup is not None else tuple(state.parameters)
        """The parameters of a driver that takes them by name."""
        self._inputs = tuple(
            (name, binders.get(name), None)
            if name in varying
            else (None, None, _converted(state.parameters[name], binders.get(name)))
            for name in state.positiontup or state.parameters
        )
        self._columns = prepared.columns
        self._row = _row_class(tuple(column.key for column in self._columns))
        self._outputs: list[tuple[int, Any]] | None = None

    def execute(self, connection: Connection, given: Any) -> PreparedResult:
        values = [self._bound(each) for each in given] if self._many else self._bound(given)
        cursor = None
        try:
            cursor = connection.connection.cursor()
            for hear in connection.dispatch.before_cursor_execute:
                hear(connection, cursor, self._text, values, None, self._many)
            if self._many:
                cursor.executemany(self._text, values)
            else:
                cursor.execute(self._text, values)
            rows = cursor.fetchall() if self._columns else []
            return PreparedResult(self._decoded(connection.dialect, cursor.description, rows), cursor.rowcount)
        except connection.dialect.loaded_dbapi.Error as error:
            raise self._wrapped(connection, values, error) from error
        finally:
            if cursor is not None:
                cursor.close()

    def _bound(self, given: Mapping[str, Any]) -> Any:
        if self._lists:
            given = dict(given)
            for name, names in self._lists.items():
                values = given[name]
                if values and isinstance(values[0], tuple):
                    values = [part for value in values for part in value]
                given.update(zip(names, values, strict=True))
        values = [
            constant if name is None else given[name] if convert is None else convert(given[name])
            for name, convert, constant in self._inputs
        ]
        return tuple(values) if self._names is None else dict(zip(self._names, values, strict=True))

    def _decoded(self, dialect: Dialect, description: Any, rows: Sequence[Sequence[Any]]) -> list[Any]:
        if not rows:
            return []
        if self._outputs is None:
            types = zip(self._columns, description, strict=True)
            found = [each.type.dialect_impl(dialect).result_processor(dialect, item[1]) for each, item in types]
            self._outputs = [(index, convert) for index, convert in enumerate(found) if convert is not None]
        outputs, make = self._outputs, self._row._make
        if not outputs:
            return [make(row) for row in rows]
        decoded = []
        for row in rows:
            values = list(row)
            for index, convert in outputs:
                values[index] = convert(values[index])
            decoded.append(make(values))
        return decoded

    def _wrapped(self, connection: Connection, values: Any, error: Any) -> Exception:
        """Return an error of the driver as SQLAlchemy raises it, and drop the connection if it is lost."""
        dialect, wrapped = connection.dialect, connection.connection
        lost = dialect.is_disconnect(error, wrapped, None)
        if lost:
            connection.invalidate(error)
        base = dialect.loaded_dbapi.Error
        raised: Exception = DBAPIError.instance(
            self._text, values, error, base, connection_invalidated=lost, dialect=dialect, ismulti=self._many
        )
        return raised


def _converted(value: Any, convert: Any) -> Any:
    return value if convert is None else convert(value)


@cache
def _row_class(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names, rename=True)
