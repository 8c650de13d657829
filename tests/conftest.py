"""Fixtures for every test: the real servers."""

pytest_plugins = [
    "tests.servers.alertmanager",
    "tests.servers.docker",
    "tests.servers.kubernetes",
    "tests.servers.gitops",  # after kubernetes, which it imports
    "tests.servers.postgres",
    "tests.servers.prometheus",
    "tests.servers.nginx",
    "tests.servers.redis",
    "tests.servers.supervisord",
    "tests.servers.app",  # after redis, which it imports: pytest rewrites a module only before its first import
    "tests.servers.remediator",  # last: it is made of the others
]
