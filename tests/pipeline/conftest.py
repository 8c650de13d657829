"""The fixtures of the guard tests: an empty SQLite store and all guards."""

from tests.extensions.guards.conftest import harness as harness
