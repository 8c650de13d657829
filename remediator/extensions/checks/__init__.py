"""Built-in checks, one file for each. To add one: write its file and add it to ``BUILTIN``."""

from __future__ import annotations

from remediator.extensions.checks.app_process import AppProcess
from remediator.extensions.checks.base import Check
from remediator.extensions.checks.command_check import CommandCheck
from remediator.extensions.checks.dependencies_ok import DependenciesOk
from remediator.extensions.checks.disk_usage import DiskUsage
from remediator.extensions.checks.error_rate import ErrorRate
from remediator.extensions.checks.http_ok import HttpOk
from remediator.extensions.checks.postgres_connections import PostgresConnections
from remediator.extensions.checks.postgres_idle_transactions import PostgresIdleTransactions
from remediator.extensions.checks.postgres_locks import PostgresLocks
from remediator.extensions.checks.postgres_ping import PostgresPing
from remediator.extensions.checks.postgres_replication import PostgresReplication
from remediator.extensions.checks.postgres_rows import PostgresRows
from remediator.extensions.checks.postgres_size import PostgresSize
from remediator.extensions.checks.prometheus_target import PrometheusTarget
from remediator.extensions.checks.promql import Promql
from remediator.extensions.checks.redis_connections import RedisConnections
from remediator.extensions.checks.redis_info import RedisInfo
from remediator.extensions.checks.redis_ping import RedisPing
from remediator.extensions.checks.redis_process import RedisProcess
from remediator.extensions.checks.redis_write_test import RedisWriteTest
from remediator.extensions.checks.service_running import ServiceRunning
from remediator.extensions.checks.tcp_connect import TcpConnect

BUILTIN: tuple[type[Check], ...] = (
    AppProcess,
    CommandCheck,
    DependenciesOk,
    DiskUsage,
    ErrorRate,
    HttpOk,
    PostgresConnections,
    PostgresIdleTransactions,
    PostgresLocks,
    PostgresPing,
    PostgresReplication,
    PostgresRows,
    PostgresSize,
    PrometheusTarget,
    Promql,
    RedisConnections,
    RedisInfo,
    RedisPing,
    RedisProcess,
    RedisWriteTest,
    ServiceRunning,
    TcpConnect,
)
