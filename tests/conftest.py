"""Fixtures for every test: the real servers."""

pytest_plugins = [
    "tests.servers.alertmanager",
    "tests.servers.docker",
    "tests.servers.postgres",
    "tests.servers.prometheus",
    "tests.servers.redis",
    "tests.servers.supervisord",
    "tests.servers.remediator",  # last: it is made of the others
]
