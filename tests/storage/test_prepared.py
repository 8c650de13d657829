"""Prepared statements have the same result as SQLAlchemy's statements, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import sqlalchemy.exc
from sqlalchemy import Connection, bindparam, event, insert, select, text, tuple_, update

from remediator.storage.prepared import Prepared
from remediator.storage.schema import key_values, stops
from tests.support.stores import new_file

NOON = datetime(2026, 5, 6, 12, 0, 0, 123456, tzinfo=UTC)
ROWS = [{"name": name, "value": {"deep": [1, "é", None]}, "at": NOON} for name in ("a", "b", "c")]
INSERT = Prepared(insert(key_values))
BY_NAMES = select(key_values).where(key_values.c.name.in_(bindparam("names", expanding=True)))
BY_PAIRS = select(key_values.c.name).where(
    tuple_(key_values.c.name, key_values.c.at).in_(bindparam("pairs", expanding=True))
)


@pytest.mark.parametrize("names", [[], ["b"], ["a", "c", "x"], ["b"]])
def test_a_list_of_any_length_finds_the_same_rows(connection: Connection, names: list[str]) -> None:
    """A prepared statement with an empty, short or longer list returns the same rows as SQLAlchemy."""
    connection.execute(INSERT, ROWS)
    found = connection.execute(Prepared(BY_NAMES), {"names": names}).all()
    assert [row._asdict() for row in found] == [row._asdict() for row in connection.execute(BY_NAMES, {"names": names})]
    assert all(row.at == NOON and row.value == {"deep": [1, "é", None]} for row in found)


def test_one_statement_serves_lists_of_different_lengths_in_turn(connection: Connection) -> None:
    """One prepared statement is used with lists of changing lengths, and returns the right rows each time."""
    connection.execute(INSERT, ROWS)
    statement = Prepared(BY_NAMES)
    for names in (["a"], [], ["a", "b", "c"], ["c"], *([f"n{count}" for count in range(size)] for size in range(100))):
        expected = {name for name in names if name in "abc"}
        assert {row.name for row in connection.execute(statement, {"names": names})} == expected


def test_pairs_are_compared_as_pairs(connection: Connection) -> None:
    """A list of pairs selects only rows that have both values of one pair."""
    connection.execute(INSERT, ROWS)
    pairs = [("a", NOON), ("b", NOON.replace(year=2020))]
    assert connection.execute(Prepared(BY_PAIRS), {"pairs": pairs}).scalars().all() == ["a"]


def test_changed_rows_are_counted_and_returned(connection: Connection) -> None:
    """An update gives the number of changed rows or returns their values, also if it changes none."""
    connection.execute(INSERT, ROWS[0])
    change = update(key_values).where(key_values.c.name == bindparam("key")).values(value=bindparam("value"))
    returning, counting = Prepared(change.returning(key_values.c.value, key_values.c.at)), Prepared(change)
    assert connection.execute(counting, {"key": "a", "value": {"new": True}}).rowcount == 1
    assert connection.execute(counting, {"key": "z", "value": {}}).rowcount == 0
    assert connection.execute(returning, {"key": "a", "value": 7}).one() == (7, NOON)
    assert connection.execute(returning, {"key": "z", "value": 7}).first() is None
    with pytest.raises(sqlalchemy.exc.NoResultFound):
        connection.execute(returning, {"key": "z", "value": 7}).one()


def test_absent_values_are_null_and_columns_follow_the_given_names(connection: Connection) -> None:
    """Columns get defaults or NULL for missing values, and each value goes to the column of its name."""
    values = {"id": "s", "scope": "global", "reason": "%s ? :x", "created_by": "user:ann", "created_at": NOON}
    connection.execute(Prepared(insert(stops)), {**values, "expires_at": None})
    row = connection.execute(Prepared(select(stops))).one()
    assert (row.name, row.reason, row.expires_at, row.created_at) == ("", "%s ? :x", None, NOON)


def test_an_error_of_the_driver_is_raised_as_sqlalchemy_raises_it(connection: Connection) -> None:
    """A violated constraint raises SQLAlchemy's IntegrityError, and the connection stays valid."""
    connection.execute(INSERT, ROWS[0])
    with pytest.raises(sqlalchemy.exc.IntegrityError) as raised:
        connection.execute(INSERT, ROWS[0])
    assert "INSERT INTO key_values" in str(raised.value.statement)
    assert not connection.invalidated


def test_a_lost_connection_is_not_used_again(connection: Connection, kind: str) -> None:
    """After the database connection was lost, the error marks the connection as invalid."""
    if kind == "sqlite":
        assert connection.connection.driver_connection is not None
        connection.connection.driver_connection.close()
        lose, lost = Prepared(select(stops.c.id)), sqlalchemy.exc.ProgrammingError
    else:
        lose, lost = Prepared(text("SELECT pg_terminate_backend(pg_backend_pid())")), sqlalchemy.exc.OperationalError
    with pytest.raises(lost) as raised:
        connection.execute(lose)
    assert raised.value.connection_invalidated and connection.invalidated


def test_listeners_get_the_statement_of_the_driver(connection: Connection) -> None:
    """A listener for statements gets the SQL of each prepared statement."""
    heard: list[Any] = []
    event.listen(connection, "before_cursor_execute", lambda c, cursor, said, values, *rest: heard.append(said))
    connection.execute(INSERT, ROWS)
    assert len(heard) == 1 and heard[0].startswith("INSERT INTO key_values")


def test_a_commit_keeps_what_a_prepared_statement_changed(tmp_path: Path) -> None:
    """The commit includes a prepared statement, also as the first statement of a connection without autocommit."""
    engine = sqlalchemy.create_engine(f"sqlite:///{new_file(tmp_path / 'store.db')}")
    with engine.connect() as connection:
        connection.execute(INSERT, ROWS)
        connection.commit()
    with engine.connect() as connection:
        connection.execute(Prepared(update(key_values).values(value=1)))
    with engine.connect() as connection:  # without a commit, nothing is kept
        assert [row.value for row in connection.execute(Prepared(select(key_values)))] == [ROWS[0]["value"]] * 3
    engine.dispose()
