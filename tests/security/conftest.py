"""Fixtures for the tests of attacks."""

from tests.web.conftest import web

__all__ = ["web"]
