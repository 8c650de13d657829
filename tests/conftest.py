"""Fixtures for every test: the real servers."""

pytest_plugins = [
    "tests.support.servers.alertmanager",
    "tests.support.servers.docker",
    "tests.support.servers.kubernetes",
    "tests.support.servers.gitops",  # after kubernetes, which it imports
    "tests.support.servers.postgres",
    "tests.support.servers.prometheus",
    "tests.support.servers.nginx",
    "tests.support.servers.redis",
    "tests.support.servers.supervisord",
    "tests.support.servers.app",  # after redis, which it imports: pytest rewrites a module only before its first import
    "tests.support.servers.remediator",  # last: it is made of the others
]
