"""The ``postgres`` block of the inventory: allowed values, errors, and the display of queries."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from remediator.clients.postgres.connection import PostgresState, _not_connected
from remediator.clients.postgres.models import query_shape
from remediator.clients.postgres.settings import PostgresEndpoint, Statement, StatementValue

UPDATE: dict[str, Any] = {"update": "shop.jobs", "set": {"state": "'queued'"}, "where": "id = 1", "max_rows": 1}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"delete": "shop.jobs"}, "set either update or delete"),
        ({"update": None}, "set either update or delete"),
        ({"set": {}}, "set is only for update, and update needs set"),
        ({"update": "jobs"}, "should match pattern"),
        ({"update": 'shop.jobs"; DROP TABLE x'}, "should match pattern"),
        ({"set": {'a" = 1, "b': "1"}}, "should match pattern"),
        ({"where": "id = 1; DELETE FROM shop.jobs"}, "';' is not allowed in the SQL text"),
        ({"where": "id = 1 -- all"}, "'--' is not allowed in the SQL text"),
        ({"set": {"state": "'a' /* b */"}}, "'/*' is not allowed in the SQL text"),
        ({"where": "note LIKE 'a%'"}, "a single % in the SQL text"),
        ({"where": "id = %s"}, "a single % in the SQL text"),
        ({"where": "id = %(id)s"}, "uses 'id', which 'values' does not declare"),
        ({"values": {"id": {"type": "integer"}}}, "does not use 'id': write it as %(id)s"),
        ({"max_rows": 0}, "greater than or equal to 1"),
    ],
)
def test_a_statement_that_is_not_bounded_is_an_error(changes: dict[str, Any], why: str) -> None:
    """A statement that could affect any number of rows is an error that names the problem."""
    with pytest.raises(ValidationError) as error:
        Statement.model_validate({**UPDATE, **changes})
    assert why in str(error.value)


def test_count_and_change_have_the_same_condition() -> None:
    """The plan counts exactly the rows that the statement changes."""
    made = Statement.model_validate({**UPDATE, "where": "note LIKE '10%%'"})
    assert made.text == 'UPDATE "shop"."jobs" SET "state" = (\'queued\') WHERE (note LIKE \'10%%\'\n)'
    assert "WHERE (note LIKE '10%%'\n) LIMIT 2" in made.count_text
    assert made.grants("r") == (
        'GRANT USAGE ON SCHEMA "shop" TO "r"',
        'GRANT SELECT, UPDATE (state) ON "shop"."jobs" TO "r"',
    )


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"enum": ["a", "b"]}, ["a"], ["c", "", 1, True, None]),
        ({"pattern": "[a-z]+"}, ["abc"], ["a1", "a\n", "x" * 1001, "a\0b"]),
        ({"type": "integer", "minimum": 1, "maximum": 9}, [1, 9], [0, 10, "1", True, 1.5]),
        ({"type": "boolean"}, [True, False], [1, "true"]),
    ],
)
def test_values_are_bounded(rule: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    """Values of a statement are checked by type and rule."""
    made = StatementValue.model_validate(rule)
    assert all(made.fits(value) for value in good)
    assert not any(made.fits(value) for value in bad)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({}, "a string needs either pattern or enum"),
        ({"pattern": "(", "type": "string"}, "missing"),
        ({"type": "integer", "pattern": "1"}, "work with type string only"),
        ({"type": "boolean", "minimum": 1}, "work with type integer only"),
    ],
)
def test_a_rule_that_bounds_nothing_is_an_error(rule: dict[str, Any], why: str) -> None:
    """A rule that allows every text is an error."""
    with pytest.raises(ValidationError, match=why):
        StatementValue.model_validate(rule)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ({"tls": {"server_name": "db"}}, "server_name is not supported here"),
        ({"tls": {}, "socket": "/run"}, "tls does not work with a unix socket"),
        ({"host": "db", "socket": "/run"}, "socket and host cannot be used together"),
        ({"statements": {"Not A Name": UPDATE}}, "should match pattern"),
    ],
)
def test_an_endpoint_that_is_not_possible_is_an_error(endpoint: dict[str, Any], why: str) -> None:
    """The error about an impossible endpoint names the change to make."""
    with pytest.raises(ValidationError, match=why):
        PostgresEndpoint.model_validate(endpoint)


@pytest.mark.parametrize(
    ("query", "shape"),
    [
        ("UPDATE t SET a = 'x''y', b = 42 WHERE c1 = 1.5", "UPDATE t SET a = ?, b = ? WHERE c1 = ?"),
        ("ALTER ROLE a PASSWORD 'cut off by the serv", "ALTER ROLE a PASSWORD ?"),
        ("SELECT $$secret$$, $a$more $$ $a$, $1", "SELECT ?, ?, $1"),
        ("SELECT 1 /* token=abc */ -- more\n FROM t", "SELECT ? FROM t"),
        (r"SELECT E'it\'s secret', 'b'", "SELECT E?, ?"),
        ("SELECT '\x1b[2J'", "SELECT ?"),
        ("SELECT \x1b[J", "SELECT \ufffd[J"),
        ("SELECT " + "a" * 200, "SELECT " + "a" * 152 + "…"),
    ],
)
def test_a_query_is_shown_without_its_values(query: str, shape: str) -> None:
    """Queries are shown without values, which may be personal data or passwords."""
    assert query_shape(query) == shape


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("FATAL:  sorry, too many clients already", PostgresState.TOO_MANY_CONNECTIONS),
        ("FATAL:  remaining connection slots are reserved for roles", PostgresState.TOO_MANY_CONNECTIONS),
        ('FATAL:  too many connections for role "shop"', PostgresState.TOO_MANY_CONNECTIONS),
        ('FATAL:  password authentication failed for user "x"', PostgresState.WRONG_PASSWORD),
        ('FATAL:  no pg_hba.conf entry for host "::1", user "x"', PostgresState.NO_PERMISSION),
        ("FATAL:  the database system is starting up", PostgresState.NOT_ACCEPTING),
        ("FATAL:  the database system is shutting down", PostgresState.NOT_ACCEPTING),
        ("FATAL:  the database system is in recovery mode", PostgresState.NOT_ACCEPTING),
        ("SSL error: certificate verify failed", PostgresState.UNTRUSTED),
        ("Connection refused\n\tIs the server running?", PostgresState.DOWN),
        ("No route to host", PostgresState.UNREACHABLE),
        ("server closed the connection unexpectedly", PostgresState.UNREACHABLE),
        ("ВАЖНО:  извините", PostgresState.REFUSING),
    ],
)
def test_the_text_of_a_failed_connection_names_the_state(text: str, state: PostgresState) -> None:
    """The client finds the state in the text of the error, because libpq gives no code for it."""
    error = Exception(f'connection failed: connection to server at "127.0.0.1", port 1 failed: {text}')
    assert _not_connected(PostgresEndpoint(), error).state is state
