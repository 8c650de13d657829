"""A house for every test: the fixture of the guards."""

from tests.extensions.guards.conftest import house as house
