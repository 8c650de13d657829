"""The only file that names implementations. Adding one is its file and its line here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from remediator.config import Channel
from remediator.core.clock import parse_duration
from remediator.errors import ConfigurationError, InputError
from remediator.extensions import plugins
from remediator.extensions.actions import Action
from remediator.extensions.actions.alertmanager_expire_silences import AlertmanagerExpireSilences
from remediator.extensions.actions.alertmanager_silence import AlertmanagerSilence
from remediator.extensions.actions.app_reload import AppReload
from remediator.extensions.actions.app_workers import AppWorkers
from remediator.extensions.actions.argocd_pause import ArgocdPause
from remediator.extensions.actions.argocd_resume import ArgocdResume
from remediator.extensions.actions.argocd_rollback import ArgocdRollback
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
from remediator.extensions.actions.nginx_maintenance import NginxMaintenance
from remediator.extensions.actions.nginx_rate_limit import NginxRateLimit
from remediator.extensions.actions.redis_bgrewriteaof import RedisBgrewriteaof
from remediator.extensions.actions.redis_bgsave import RedisBgsave
from remediator.extensions.actions.redis_client_kill import RedisClientKill
from remediator.extensions.actions.redis_config_set import RedisConfigSet
from remediator.extensions.actions.redis_diagnose import RedisDiagnose
from remediator.extensions.actions.redis_disable_persistence import RedisDisablePersistence
from remediator.extensions.actions.redis_memory_purge import RedisMemoryPurge
from remediator.extensions.actions.redis_restore_backup import RedisRestoreBackup
from remediator.extensions.actions.redis_restore_persistence import RedisRestorePersistence
from remediator.extensions.actions.service_logs import ServiceLogs
from remediator.extensions.actions.service_releases import ServiceReleases
from remediator.extensions.actions.service_restart import ServiceRestart
from remediator.extensions.actions.service_rollback import ServiceRollback
from remediator.extensions.actions.service_scale import ServiceScale
from remediator.extensions.actions.service_status import ServiceStatusAction
from remediator.extensions.checks import Check
from remediator.extensions.checks.dependencies_ok import DependenciesOk
from remediator.extensions.checks.disk_usage import DiskUsage
from remediator.extensions.checks.error_rate import ErrorRate
from remediator.extensions.checks.http_ok import HttpOk
from remediator.extensions.checks.promql import Promql
from remediator.extensions.checks.redis_info import RedisInfo
from remediator.extensions.checks.redis_ping import RedisPing
from remediator.extensions.checks.redis_write_test import RedisWriteTest
from remediator.extensions.checks.service_running import ServiceRunning
from remediator.extensions.checks.tcp_connect import TcpConnect
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards import Guard
from remediator.extensions.guards.autonomy import Ladder
from remediator.extensions.guards.circuit_breaker import Breaker
from remediator.extensions.guards.concurrency import Concurrency
from remediator.extensions.guards.cooldown import Cooldown
from remediator.extensions.guards.dependency import Dependency
from remediator.extensions.guards.freeze import Freeze
from remediator.extensions.guards.kill_switch import StopButton
from remediator.extensions.guards.managed_by import Owner
from remediator.extensions.guards.min_healthy import MinHealthy
from remediator.extensions.guards.preconditions import Preconditions
from remediator.extensions.guards.ramp import Ramp
from remediator.extensions.guards.rate_limit import Budget
from remediator.extensions.guards.regression import GotWorse
from remediator.extensions.guards.still_firing import StillFiring
from remediator.extensions.guards.storm import Storm
from remediator.extensions.guards.watchdog import Watchdog
from remediator.extensions.notifiers import Notifier
from remediator.extensions.notifiers.apprise import AppriseNotifier
from remediator.extensions.notifiers.discord import DiscordNotifier
from remediator.extensions.notifiers.email import EmailNotifier
from remediator.extensions.notifiers.google_chat import GoogleChatNotifier
from remediator.extensions.notifiers.log import LogNotifier
from remediator.extensions.notifiers.mattermost import MattermostNotifier
from remediator.extensions.notifiers.opsgenie import OpsgenieNotifier
from remediator.extensions.notifiers.pagerduty import PagerDutyNotifier
from remediator.extensions.notifiers.slack import SlackNotifier
from remediator.extensions.notifiers.teams import TeamsNotifier
from remediator.extensions.notifiers.telegram import TelegramNotifier
from remediator.extensions.notifiers.webhook import WebhookNotifier
from remediator.extensions.platforms import Platform
from remediator.extensions.platforms.docker import DockerPlatform
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from remediator.extensions.platforms.supervisor import SupervisorPlatform
from remediator.extensions.platforms.systemd import SystemdPlatform
from remediator.extensions.witnesses import NotaryError, Witness
from remediator.extensions.witnesses.chat import ChatNotary
from remediator.extensions.witnesses.file import FileNotary
from remediator.extensions.witnesses.git import GitNotary
from remediator.extensions.witnesses.syslog import SyslogNotary
from remediator.playbooks.catalogue import ActionTraits, Catalogue
from remediator.playbooks.diagnostics import did_you_mean

ACTIONS: tuple[type[Action], ...] = (
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
    NginxMaintenance,
    NginxRateLimit,
    RedisBgrewriteaof,
    RedisBgsave,
    RedisClientKill,
    RedisConfigSet,
    RedisDiagnose,
    RedisDisablePersistence,
    RedisMemoryPurge,
    RedisRestoreBackup,
    RedisRestorePersistence,
    ServiceLogs,
    ServiceReleases,
    ServiceRestart,
    ServiceRollback,
    ServiceScale,
    ServiceStatusAction,
)

CHECKS: tuple[type[Check], ...] = (
    DependenciesOk,
    DiskUsage,
    ErrorRate,
    HttpOk,
    Promql,
    RedisInfo,
    RedisPing,
    RedisWriteTest,
    ServiceRunning,
    TcpConnect,
)

GUARDS: tuple[type[Guard], ...] = (
    StopButton,
    Freeze,
    Watchdog,
    StillFiring,
    Dependency,
    Cooldown,
    Budget,
    Concurrency,
    Ramp,
    MinHealthy,
    Storm,
    Breaker,
    Preconditions,
    Owner,
    GotWorse,
    Ladder,
)
"""In the order in which they are asked."""

NOTIFIERS: tuple[type[Notifier], ...] = (
    AppriseNotifier,
    DiscordNotifier,
    EmailNotifier,
    GoogleChatNotifier,
    LogNotifier,
    MattermostNotifier,
    OpsgenieNotifier,
    PagerDutyNotifier,
    SlackNotifier,
    TeamsNotifier,
    TelegramNotifier,
    WebhookNotifier,
)

NOTARIES: Mapping[str, Callable[[Mapping[str, Any]], Witness]] = {
    "chat": lambda settings: ChatNotary(**settings),
    "file": lambda settings: FileNotary(**{**settings, "path": Path(settings["path"])}),
    "git": lambda settings: GitNotary(**{**settings, "repository": Path(settings["repository"])}),
    "s3": lambda settings: _s3(settings),
    "syslog": lambda settings: SyslogNotary(**settings),
}


def _s3(settings: Mapping[str, Any]) -> Witness:
    from remediator.extensions.witnesses.s3 import S3Notary  # noqa: PLC0415 - boto3 comes with the extra only

    kept = {"retention": parse_duration(str(settings["retention"]))} if "retention" in settings else {}
    return S3Notary(**{**settings, **kept})


PLATFORMS: tuple[type[Platform], ...] = (DockerPlatform, KubernetesPlatform, SupervisorPlatform, SystemdPlatform)

_OWN: Mapping[str, Mapping[str, Any]] = {
    "actions": {action.name: action for action in ACTIONS},
    "checks": {check.name: check for check in CHECKS},
    "guards": {guard.name: guard for guard in GUARDS},
    "notifiers": {notifier.kind: notifier for notifier in NOTIFIERS},
    "notaries": NOTARIES,
}


def load(packages: Sequence[str]) -> None:
    """Have what is built in and what these packages bring, and nothing else; for the whole process.

    Guards of plugins are asked after those that are built in.

    Raises:
        PluginError: a package cannot be used; then everything is as it was.
    """
    global ACTIONS, CHECKS, GUARDS, NOTIFIERS, NOTARIES, PLATFORMS
    found = plugins.find(packages, {group: frozenset(own) for group, own in _OWN.items()}) if packages else ()
    every = {
        group: {**own, **{each.name: each.made for each in found if each.group == group}} for group, own in _OWN.items()
    }
    ACTIONS, CHECKS = tuple(every["actions"].values()), tuple(every["checks"].values())
    GUARDS, NOTIFIERS = tuple(every["guards"].values()), tuple(every["notifiers"].values())
    NOTARIES = every["notaries"]


def catalogue() -> Catalogue:
    """What this installation offers to playbooks."""
    return Catalogue(
        actions={action.name: action.Parameters for action in ACTIONS},
        checks={check.name: check.Parameters for check in CHECKS},
        guards={guard.name: guard.Settings for guard in GUARDS},
        traits={action.name: _traits(action) for action in ACTIONS},
        ask_prometheus=frozenset(check.name for check in CHECKS if check.asks_prometheus),
        notifiers=frozenset(notifier.kind for notifier in NOTIFIERS),
        summaries={
            **{check.name: _first_line(check) for check in CHECKS},
            **{guard.name: _first_line(guard) for guard in GUARDS},
        },
    )


def _traits(action: type[Action]) -> ActionTraits:
    return ActionTraits(
        action.mutates, action.idempotent, action.reversible, action.destructive, _first_line(action), action.asks
    )


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def make_platforms() -> dict[str, Platform]:
    """One of each kind."""
    return {platform.kind: platform() for platform in PLATFORMS}


def make_actions(world: ClientSet) -> dict[str, Action]:
    """One of each, by name."""
    return {action.name: action(world) for action in ACTIONS}


def make_checks(world: ClientSet) -> dict[str, Check]:
    """One of each, by name."""
    return {check.name: check(world) for check in CHECKS}


def make_guards(world: ClientSet) -> tuple[Guard, ...]:
    """One of each, in order."""
    return tuple(guard(world) for guard in GUARDS)


def make_channels(settings: Mapping[str, Channel]) -> dict[str, Notifier]:
    """The channels that the settings name, each by its notifier.

    Raises:
        ConfigurationError: there is no such kind of notifier.
    """
    kinds = {notifier.kind: notifier for notifier in NOTIFIERS}
    channels = {}
    for name, channel in settings.items():
        if channel.kind not in kinds:
            known = ", ".join(sorted(kinds))
            raise ConfigurationError(f"channels.{name}: there is no notifier {channel.kind!r}; there are: {known}")
        try:
            channels[name] = kinds[channel.kind](channel.model_extra or {})
        except ConfigurationError as error:
            raise ConfigurationError(f"channels.{name}: {error}") from None
    return channels


def make_notaries(settings: Sequence[Channel], channels: Mapping[str, Channel]) -> dict[str, Witness]:
    """The places that keep signed checkpoints, by kind and number.

    Args:
        settings: the places; a ``channel`` among one's settings is the name of a channel, and given as its notifier.
        channels: as the settings have them.

    Raises:
        ConfigurationError: there is no such kind, or its settings do not fit.
    """
    made: dict[str, Witness] = {}
    for number, place in enumerate(settings, start=1):
        if place.kind not in NOTARIES:
            known = ", ".join(sorted(NOTARIES))
            raise ConfigurationError(f"audit.checkpoints: there is no kind {place.kind!r}; there are: {known}")
        try:
            given = dict(place.model_extra or {})
            if "channel" in given:
                given["channel"] = _channel(str(given["channel"]), channels)
            made[f"{place.kind}-{number}"] = NOTARIES[place.kind](given)
        except (TypeError, KeyError, ImportError, NotaryError, InputError) as error:
            raise ConfigurationError(f"audit.checkpoints: {place.kind}: {_said(error)}") from None
    return made


_MISSING = re.compile(r"missing \d+ required .*?: (.*)")
_UNEXPECTED = re.compile(r"unexpected keyword argument ('.*?')")


def _said(error: Exception) -> str:
    """What Python says of a constructor's arguments, in the words of settings."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if missing := _MISSING.search(str(error)):
        return f"{missing[1]} is missing"
    if unexpected := _UNEXPECTED.search(str(error)):
        return f"there is no setting {unexpected[1]}"
    return str(error)


def _channel(name: str, channels: Mapping[str, Channel]) -> Notifier:
    if name not in channels:
        raise InputError(f"there is no channel {name!r}; {did_you_mean(name, channels) or 'the settings have none'}")
    return make_channels({name: channels[name]})[name]


def make_fallback() -> Notifier:
    """Where messages go whose channel is not configured."""
    return LogNotifier({})
