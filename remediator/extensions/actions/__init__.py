"""Built-in actions, one file for each. To add one: write its file and add it to ``BUILTIN``."""

from __future__ import annotations

from remediator.extensions.actions.alertmanager_expire_silences import AlertmanagerExpireSilences
from remediator.extensions.actions.alertmanager_silence import AlertmanagerSilence
from remediator.extensions.actions.app_reload import AppReload
from remediator.extensions.actions.app_workers import AppWorkers
from remediator.extensions.actions.argocd_pause import ArgocdPause
from remediator.extensions.actions.argocd_resume import ArgocdResume
from remediator.extensions.actions.argocd_rollback import ArgocdRollback
from remediator.extensions.actions.base import Action
from remediator.extensions.actions.command_run import CommandRun
from remediator.extensions.actions.elasticache_describe import ElasticacheDescribe
from remediator.extensions.actions.elasticache_modify_node_type import ElasticacheModifyNodeType
from remediator.extensions.actions.elasticache_test_failover import ElasticacheTestFailover
from remediator.extensions.actions.files_disk_use import FilesDiskUse
from remediator.extensions.actions.files_prune import FilesPrune
from remediator.extensions.actions.files_undo_prune import FilesUndoPrune
from remediator.extensions.actions.flux_release import FluxRelease
from remediator.extensions.actions.flux_resume import FluxResume
from remediator.extensions.actions.flux_rollback import FluxRollback
from remediator.extensions.actions.flux_suspend import FluxSuspend
from remediator.extensions.actions.github_dispatch_workflow import GithubDispatchWorkflow
from remediator.extensions.actions.github_rerun_workflow import GithubRerunWorkflow
from remediator.extensions.actions.http_request import HttpRequest
from remediator.extensions.actions.job_run import JobRun
from remediator.extensions.actions.job_wait import JobWait
from remediator.extensions.actions.nginx_maintenance import NginxMaintenance
from remediator.extensions.actions.nginx_rate_limit import NginxRateLimit
from remediator.extensions.actions.node_cordon import NodeCordon
from remediator.extensions.actions.node_drain import NodeDrain
from remediator.extensions.actions.node_uncordon import NodeUncordon
from remediator.extensions.actions.pod_delete import PodDelete
from remediator.extensions.actions.pod_evict import PodEvict
from remediator.extensions.actions.postgres_cancel_queries import PostgresCancelQueries
from remediator.extensions.actions.postgres_diagnose import PostgresDiagnose
from remediator.extensions.actions.postgres_execute import PostgresExecute
from remediator.extensions.actions.postgres_terminate_backends import PostgresTerminateBackends
from remediator.extensions.actions.redis_bgrewriteaof import RedisBgrewriteaof
from remediator.extensions.actions.redis_bgsave import RedisBgsave
from remediator.extensions.actions.redis_client_kill import RedisClientKill
from remediator.extensions.actions.redis_config_set import RedisConfigSet
from remediator.extensions.actions.redis_diagnose import RedisDiagnose
from remediator.extensions.actions.redis_disable_persistence import RedisDisablePersistence
from remediator.extensions.actions.redis_memory_purge import RedisMemoryPurge
from remediator.extensions.actions.redis_restore_backup import RedisRestoreBackup
from remediator.extensions.actions.redis_restore_persistence import RedisRestorePersistence
from remediator.extensions.actions.redis_wait import RedisWait
from remediator.extensions.actions.service_logs import ServiceLogs
from remediator.extensions.actions.service_releases import ServiceReleases
from remediator.extensions.actions.service_restart import ServiceRestart
from remediator.extensions.actions.service_rollback import ServiceRollback
from remediator.extensions.actions.service_scale import ServiceScale
from remediator.extensions.actions.service_status import ServiceStatusAction

BUILTIN: tuple[type[Action], ...] = (
    AlertmanagerExpireSilences,
    AlertmanagerSilence,
    AppReload,
    AppWorkers,
    ArgocdPause,
    ArgocdResume,
    ArgocdRollback,
    CommandRun,
    ElasticacheDescribe,
    ElasticacheModifyNodeType,
    ElasticacheTestFailover,
    FilesDiskUse,
    FilesPrune,
    FilesUndoPrune,
    FluxRelease,
    FluxResume,
    FluxRollback,
    FluxSuspend,
    GithubDispatchWorkflow,
    GithubRerunWorkflow,
    HttpRequest,
    JobRun,
    JobWait,
    NginxMaintenance,
    NginxRateLimit,
    NodeCordon,
    NodeDrain,
    NodeUncordon,
    PodDelete,
    PodEvict,
    PostgresCancelQueries,
    PostgresDiagnose,
    PostgresExecute,
    PostgresTerminateBackends,
    RedisBgrewriteaof,
    RedisBgsave,
    RedisClientKill,
    RedisConfigSet,
    RedisDiagnose,
    RedisDisablePersistence,
    RedisMemoryPurge,
    RedisRestoreBackup,
    RedisRestorePersistence,
    RedisWait,
    ServiceLogs,
    ServiceReleases,
    ServiceRestart,
    ServiceRollback,
    ServiceScale,
    ServiceStatusAction,
)
