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
    connection.execute(INSERT, ROWS)
    found = connection.execute(Prepared(BY_NAMES), {"names": names}).all()
    assert [row._asdict() for row in found] == [row._asdict() for row in connection.execute(BY_NAMES, {"names": names})]
    assert all(row.at == NOON and row.value == {"deep": [1, "é", None]} for row in found)


def test_one_statement_serves_lists_of_different_lengths_in_turn(connection: Connection) -> None:
    connection.execute(INSERT, ROWS)
    statement = Prepared(BY_NAMES)
    for names in (["a"], [], ["a", "b", "c"], ["c"], *([f"n{count}" for count in range(size)] for size in range(100))):
        expected = {name for name in names if name in "abc"}
        assert {row.name for row in connection.execute(statement, {"names": names})} == expected


def test_pairs_are_compared_as_pairs(connection: Connection) -> None:
    connection.execute(INSERT, ROWS)
    pairs = [("a", NOON), ("b", NOON.replace(year=2020))]
    assert connection.execute(Prepared(BY_PAIRS), {"pairs": pairs}).scalars().all() == ["a"]


def test_changed_rows_are_counted_and_returned(connection: Connection) -> None:
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
    values = {"id": "s", "scope": "global", "reason": "%s ? :x", "created_by": "user:ann", "created_at": NOON}
    connection.execute(Prepared(insert(stops)), {**values, "expires_at": None})
    row = connection.execute(Prepared(select(stops))).one()
    assert (row.name, row.reason, row.expires_at, row.created_at) == ("", "%s ? :x", None, NOON)


def test_an_error_of_the_driver_is_raised_as_sqlalchemy_raises_it(connection: Connection) -> None:
    connection.execute(INSERT, ROWS[0])
    with pytest.raises(sqlalchemy.exc.IntegrityError) as raised:
        connection.execute(INSERT, ROWS[0])
    assert "INSERT INTO key_values" in str(raised.value.statement)
    assert not connection.invalidated


def test_a_lost_connection_is_not_used_again(connection: Connection, kind: str) -> None:
    if kind == "sqlite":
        assert connection.connection.driver_connection is not None
        connection.connection.driver_connection.close()
        lose, lost = Prepared(select(stops.c.id)), sqlalchemy.exc.ProgrammingError
    else:
        lose, lost = Prepared(text("SELECT pg_terminate_backend(pg_backend_pid())")), sqlalchemy.exc.OperationalError
    with pytest.raises(lost) as raised:
        connection.execute(lose)
    assert raised.value.connection_invalidated and connection.invalidated


def test_listeners_hear_the_statement_that_the_driver_gets(connection: Connection) -> None:
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
