"""Each mutating action has one row that names a test for every kind of failure.

A new action needs its row and its tests.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remediator.extensions.registry import Registry

TESTS = Path(__file__).parents[1]
CASES = ("missing", "denied", "down", "slow", "garbage", "unheard", "changed")
"""The kinds of failure, in this order: no target or several targets, no permission, no server, no answer in time, an
invalid answer, a lost answer after the call took effect, and a target that changed after planning."""

DOCKER, CLUSTER = "platforms/test_docker.py::", "platforms/test_kubernetes.py::"
REDIS, BAD = "actions/test_redis.py::", "actions/test_redis_on_bad_days.py::"
ROLLBACK, FILES = "actions/test_service_rollback.py::", "actions/test_files.py::"
COMMAND, HTTP = "actions/test_command_run.py::", "actions/test_http_request.py::"
NGINX, APP, SILENCE = "actions/test_nginx.py::", "actions/test_app_workers.py::", "actions/test_silence.py::"

PLATFORM = {
    "missing": DOCKER + "test_none_or_too_many_is_an_error",
    "denied": CLUSTER + "test_what_is_not_allowed_is_refused",
    "down": DOCKER + "test_an_engine_that_is_down_or_closed_is_unreachable",
    "slow": DOCKER + "test_a_slow_engine_times_out",
    "garbage": DOCKER + "test_an_invalid_answer_of_the_engine_is_a_bad_answer",
    "changed": DOCKER + "test_a_target_that_another_user_changed_is_refused",
}
ON_REDIS = {
    "missing": REDIS + "test_without_an_address_or_an_answer_nothing_is_planned",
    "denied": BAD + "test_without_the_password_nothing_is_changed",
    "down": REDIS + "test_without_an_address_or_an_answer_nothing_is_planned",
    "slow": BAD + "test_silence_is_bounded",
    "garbage": BAD + "test_an_invalid_answer_is_a_bad_answer",
}
LOCAL = "because: it asks no server: files and processes of this host"
RESTORE = "actions/test_restore_backup.py::"
AWAY = RESTORE + "test_a_platform_that_cannot_be_asked_stops_it"
CUT_OFF = FILES + "test_a_prune_that_times_out_stops_after_a_file_and_can_be_finished"
ON_NGINX = {
    "missing": NGINX + "test_without_an_nginx_nothing_is_planned",
    "denied": NGINX + "test_a_file_that_may_not_be_written_stays",
    "down": NGINX + "test_an_nginx_that_stopped_is_refused",
    "slow": NGINX + "test_a_reload_that_times_out_is_unknown_and_then_observed",
    "garbage": NGINX + "test_a_failed_configuration_test_restores_the_file",
    "unheard": NGINX + "test_a_reload_that_times_out_is_unknown_and_then_observed",
}
ON_GUNICORN = {
    "missing": APP + "test_a_service_without_an_app_server_is_refused",
    "denied": APP + "test_a_server_without_permission_to_signal_is_refused",
    "down": APP + "test_a_server_that_stopped_is_refused",
    "slow": APP + "test_a_hung_server_is_unknown_and_then_observed",
    "garbage": APP + "test_a_service_without_an_app_server_is_refused",
}
ON_ALERTMANAGER = {
    "denied": SILENCE + "test_an_alertmanager_that_answers_403_has_refused",
    "down": SILENCE + "test_a_call_to_a_silent_alertmanager_ends",
    "slow": SILENCE + "test_a_call_to_a_silent_alertmanager_ends",
    "garbage": SILENCE + "test_an_invalid_answer_of_alertmanager_is_a_bad_answer",
}
POSTGRES = "actions/test_postgres.py::"
ON_POSTGRES = {
    "missing": POSTGRES + "test_without_an_address_or_an_answer_nothing_is_planned",
    "denied": POSTGRES + "test_without_the_rights_nothing_is_changed",
    "down": POSTGRES + "test_without_an_address_or_an_answer_nothing_is_planned",
    "slow": POSTGRES + "test_silence_is_bounded",
    "garbage": POSTGRES + "test_an_invalid_answer_is_a_bad_answer",
    "unheard": POSTGRES + "test_a_lost_answer_to_a_signal_is_observed",
    "changed": POSTGRES + "test_sessions_of_another_server_are_not_touched",
}
ELASTICACHE = "actions/test_elasticache.py::"
ON_ELASTICACHE = {
    "missing": ELASTICACHE + "test_what_is_not_there_or_busy_is_not_changed",
    "denied": ELASTICACHE + "test_what_iam_does_not_allow_is_refused",
    **dict.fromkeys(("down", "slow", "garbage"), ELASTICACHE + "test_no_server_no_answer_and_invalid_answers"),
    "unheard": ELASTICACHE + "test_a_lost_answer_is_observed_as_done",
    "changed": ELASTICACHE + "test_a_change_after_planning_is_refused",
}
GITHUB = "actions/test_github.py::"
ON_GITHUB = {
    "missing": GITHUB + "test_what_the_inventory_does_not_allow_is_refused",
    "denied": GITHUB + "test_a_token_that_may_not_is_refused",
    **dict.fromkeys(("down", "slow", "garbage"), GITHUB + "test_no_server_no_answer_and_invalid_answers"),
    "unheard": GITHUB + "test_a_lost_answer_is_observed_as_done",
    "changed": GITHUB + "test_a_change_after_planning_is_refused",
}
GITOPS = "actions/test_gitops.py::"
ON_GITOPS = {
    "missing": GITOPS + "test_what_is_not_there_is_missing",
    "denied": GITOPS + "test_an_account_that_may_only_read_changes_nothing",
    **dict.fromkeys(("down", "slow", "garbage"), GITOPS + "test_no_server_no_answer_and_invalid_answers"),
    "unheard": GITOPS + "test_a_lost_answer_is_observed_as_done",
    "changed": GITOPS + "test_a_change_after_planning_is_refused",
}
JOBS, NODES = "actions/test_jobs.py::", "actions/test_nodes.py::"
ON_BAD_DAYS = "actions/test_jobs_and_nodes_on_bad_days.py::"
PODS = "actions/test_pods.py::"
ON_CLUSTER = {
    **dict.fromkeys(
        ("down", "slow", "garbage"), ON_BAD_DAYS + "test_unreachable_silent_and_invalid_servers_have_different_errors"
    ),
    "unheard": ON_BAD_DAYS + "test_a_lost_answer_is_observed_as_done",
}
ON_PODS = {
    **ON_CLUSTER,
    "missing": PODS + "test_only_pods_of_the_service_are_removed",
    "denied": PODS + "test_missing_rights_are_found_before_the_plan",
    "unheard": ON_BAD_DAYS + "test_a_removal_with_a_lost_answer_is_observed_as_done",
    "changed": PODS + "test_a_pod_that_serves_again_is_left_alone",
}
ON_NODES = {
    **ON_CLUSTER,
    "missing": NODES + "test_only_nodes_of_the_inventory_are_changed",
    "denied": NODES + "test_rights_are_asked_for_before_a_plan",
    "changed": NODES + "test_a_node_that_was_replaced_is_refused",
}

COVERED: dict[str, dict[str, str]] = {
    "service.restart": {
        **PLATFORM,
        "unheard": DOCKER + "test_a_restart_with_a_lost_answer_is_observed_as_done",
    },
    "service.rollback": {
        **PLATFORM,
        "changed": ROLLBACK + "test_a_target_that_changed_after_planning_is_refused",
        "unheard": DOCKER + "test_an_interrupted_rollback_is_observed_and_can_be_finished",
    },
    "service.scale": {
        **PLATFORM,
        "unheard": DOCKER + "test_a_scaling_with_a_lost_answer_is_observed_as_done",
    },
    "files.prune": {
        "missing": FILES + "test_a_folder_that_is_a_link_is_refused",
        "denied": FILES + "test_without_the_right_nothing_is_moved",
        "down": LOCAL,
        "slow": CUT_OFF,
        "garbage": FILES + "test_without_a_complete_backup_none_is_moved",
        "unheard": CUT_OFF,
        "changed": FILES + "test_a_file_that_was_rewritten_stays",
    },
    "files.undo_prune": {
        "missing": FILES + "test_an_unknown_batch_is_not_restored",
        "denied": FILES + "test_without_the_right_nothing_is_moved",
        "down": LOCAL,
        "slow": CUT_OFF,
        "garbage": LOCAL,
        "unheard": CUT_OFF,
        "changed": FILES + "test_a_new_file_with_the_same_name_is_not_replaced",
    },
    "redis.restore_backup": {
        "missing": RESTORE + "test_nothing_to_restore_or_nowhere_to_is_refused",
        "denied": RESTORE + "test_without_the_right_nothing_is_moved",
        "down": AWAY,
        "slow": AWAY,
        "garbage": AWAY,
        "unheard": RESTORE + "test_a_start_with_a_lost_answer_is_observed_and_not_repeated",
        "changed": RESTORE + "test_a_replaced_backup_is_refused",
    },
    **{
        f"redis.{name}": {
            **ON_REDIS,
            "unheard": BAD + "test_a_lost_answer_is_observed",
            "changed": BAD + "test_a_redis_that_was_restarted_after_planning_is_refused",
        }
        for name in (
            "bgrewriteaof",
            "bgsave",
            "client_kill",
            "config_set",
            "disable_persistence",
            "memory_purge",
            "restore_persistence",
        )
    },
    "command.run": {
        "missing": COMMAND + "test_without_settings_there_is_no_command",
        "denied": COMMAND + "test_a_program_without_execute_permission_is_unreachable",
        "down": COMMAND + "test_a_missing_program_is_unreachable",
        "slow": COMMAND + "test_a_command_that_exceeds_its_timeout_is_killed_with_its_children",
        "garbage": "because: what a command prints is kept as text, never understood; its status says how it ended",
        "unheard": "because: the kernel tells how it ended; cut off it is unknown, and never repeated",
        "changed": COMMAND + "test_settings_that_changed_since_the_plan_are_noticed",
    },
    "http.request": {
        "missing": HTTP + "test_what_the_settings_do_not_allow_is_refused",
        "denied": HTTP + "test_a_client_error_status_is_a_refusal",
        "down": HTTP + "test_no_server_and_no_answer_are_distinguished",
        "slow": HTTP + "test_no_server_and_no_answer_are_distinguished",
        "garbage": HTTP + "test_an_invalid_answer_leaves_the_outcome_unknown",
        "unheard": HTTP + "test_a_request_with_a_lost_answer_is_escalated",
        "changed": HTTP + "test_settings_that_changed_since_the_plan_are_noticed",
    },
    "nginx.maintenance": {
        **ON_NGINX,
        "changed": NGINX + "test_maintenance_that_was_changed_or_restarted_since_is_refused",
    },
    "nginx.rate_limit": {
        **ON_NGINX,
        "changed": NGINX + "test_a_file_that_changed_after_the_plan_is_refused",
    },
    "app.workers": {
        **ON_GUNICORN,
        "unheard": APP + "test_an_unknown_outcome_is_counted",
        "changed": APP + "test_a_restarted_master_is_refused",
    },
    "app.reload": {
        **ON_GUNICORN,
        "unheard": APP + "test_a_hung_server_is_unknown_and_then_observed",
        "changed": APP + "test_a_reload_of_a_restarted_master_is_refused",
    },
    "alertmanager.silence": {
        **ON_ALERTMANAGER,
        "missing": SILENCE + "test_without_dependants_or_alertmanager_there_is_nothing_to_silence",
        "unheard": SILENCE + "test_silences_with_a_lost_answer_are_observed",
        "changed": "because: the plan holds the labels themselves; nothing of a process or a container goes into it",
    },
    "alertmanager.expire_silences": {
        **ON_ALERTMANAGER,
        "missing": SILENCE + "test_silences_of_others_are_not_changed",
        "unheard": SILENCE + "test_expired_silences_with_a_lost_answer_are_observed",
        "changed": SILENCE + "test_silences_of_others_are_not_changed",
    },
    **dict.fromkeys(("postgres.cancel_queries", "postgres.terminate_backends"), ON_POSTGRES),
    "postgres.execute": {
        **ON_POSTGRES,
        "unheard": POSTGRES + "test_a_lost_answer_to_a_commit_is_observed",
        "changed": POSTGRES + "test_a_statement_that_was_changed_after_planning_is_refused",
    },
    "elasticache.modify_node_type": ON_ELASTICACHE,
    "elasticache.test_failover": ON_ELASTICACHE,
    "github.dispatch_workflow": ON_GITHUB,
    "github.rerun_workflow": ON_GITHUB,
    "job.run": {
        **ON_CLUSTER,
        "missing": JOBS + "test_only_what_the_inventory_allows_is_run",
        "denied": JOBS + "test_missing_rights_are_named_before_a_plan",
        "changed": JOBS + "test_a_manifest_that_changed_after_planning_is_not_run",
    },
    **dict.fromkeys(("pod.delete", "pod.evict"), ON_PODS),
    **dict.fromkeys(("node.cordon", "node.drain", "node.uncordon"), ON_NODES),
    **dict.fromkeys(("argocd.pause", "argocd.resume", "argocd.rollback"), ON_GITOPS),
    **dict.fromkeys(("flux.release", "flux.resume", "flux.rollback", "flux.suspend"), ON_GITOPS),
}


def test_every_action_that_changes_something_has_its_row() -> None:
    """The table has a row for each mutating action, and no row for a removed action."""
    assert set(COVERED) == {action.name for action in Registry().actions if action.mutates}


@pytest.mark.parametrize("name", sorted(COVERED))
def test_every_case_is_proved(name: str) -> None:
    """Each row names a test, or the reason why the failure cannot happen, for every case."""
    assert set(COVERED[name]) == set(CASES)


@pytest.mark.parametrize("name", sorted(COVERED))
def test_what_is_named_exists(name: str) -> None:
    """Each test that a row names exists."""
    for case, proof in COVERED[name].items():
        if proof.startswith("because: "):
            continue
        file, _, test = proof.partition("::")
        assert re.search(rf"(?m)^(async )?def {test}\(", (TESTS / file).read_text()), (case, proof)
