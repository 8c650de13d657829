"""What can go wrong with each action that changes something, and the test that shows what happens then.

A row is only as wide as what was proved: a case without a test stands under ``UNPROVED``, and nowhere else.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remediator import registry

TESTS = Path(__file__).parents[1]
CASES = ("missing", "denied", "down", "slow", "garbage", "unheard", "changed")
"""No or more than one target; no permission; nobody there; no answer in time; an answer that is none; done, but the
answer was lost (looked for, not repeated); another target than when the plan was made."""

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
    "garbage": DOCKER + "test_an_engine_that_talks_nonsense_is_a_bad_answer",
    "changed": DOCKER + "test_what_somebody_else_has_changed_is_left_alone",
}
ON_REDIS = {
    "missing": REDIS + "test_without_an_address_or_an_answer_nothing_is_planned",
    "denied": BAD + "test_without_the_password_nothing_is_done",
    "down": REDIS + "test_without_an_address_or_an_answer_nothing_is_planned",
    "slow": BAD + "test_silence_is_bounded",
    "garbage": BAD + "test_nonsense_is_a_bad_answer",
}
LOCAL = "because: it asks no server: files and processes of this host"

COVERED: dict[str, dict[str, str]] = {
    "service.restart": {
        **PLATFORM,
        "unheard": DOCKER + "test_a_restart_whose_answer_was_lost_is_seen_to_have_happened",
    },
    "service.rollback": {
        **PLATFORM,
        "changed": ROLLBACK + "test_a_target_that_changed_after_the_plan_is_left_alone",
        "unheard": DOCKER + "test_a_rollback_that_stopped_anywhere_can_be_told_and_finished",
    },
    "service.scale": PLATFORM,
    "files.prune": {
        "missing": FILES + "test_a_folder_that_is_a_link_is_refused",
        "down": LOCAL,
        "garbage": LOCAL,
        "changed": FILES + "test_one_that_was_written_anew_stays",
    },
    "files.undo_prune": {
        "missing": FILES + "test_a_batch_that_is_not_there_is_not_put_back",
        "down": LOCAL,
        "garbage": LOCAL,
        "changed": FILES + "test_what_was_put_in_its_place_is_not_replaced",
    },
    "redis.restore_backup": {},
    "redis.config_set": {
        **ON_REDIS,
        "unheard": BAD + "test_a_parameter_whose_answer_was_lost_is_seen_to_be_set",
        "changed": REDIS + "test_a_redis_that_was_restarted_since_is_refused",
    },
    **{
        f"redis.{name}": ON_REDIS
        for name in (
            "bgrewriteaof",
            "bgsave",
            "client_kill",
            "disable_persistence",
            "memory_purge",
            "restore_persistence",
        )
    },
    "command.run": {
        "missing": COMMAND + "test_without_settings_there_is_no_command",
        "down": COMMAND + "test_one_that_is_not_there_is_unreachable",
        "slow": COMMAND + "test_one_that_does_not_end_is_killed_with_its_children",
        "garbage": "because: what a command prints is kept as text, never understood; its status says how it ended",
        "unheard": "because: the kernel tells how it ended; cut off it is unknown, and never repeated",
        "changed": COMMAND + "test_settings_that_changed_since_the_plan_are_noticed",
    },
    "http.request": {
        "missing": HTTP + "test_what_the_settings_do_not_allow_is_refused",
        "down": HTTP + "test_nobody_there_and_no_answer_are_told_apart",
        "slow": HTTP + "test_nobody_there_and_no_answer_are_told_apart",
    },
    "nginx.maintenance": {},
    "nginx.rate_limit": {
        "down": NGINX + "test_an_nginx_that_does_not_run_is_refused",
        "unheard": NGINX + "test_an_unknown_outcome_is_looked_for",
        "changed": NGINX + "test_a_file_that_changed_after_the_plan_is_refused",
    },
    "app.workers": {
        "missing": APP + "test_a_pid_file_that_names_nobody_is_refused",
        "garbage": LOCAL,
        "unheard": APP + "test_an_unknown_outcome_is_counted",
        "changed": APP + "test_another_master_than_planned_is_refused",
    },
    "app.reload": {"garbage": LOCAL},
    "alertmanager.silence": {
        "missing": SILENCE + "test_without_dependants_or_alertmanager_there_is_nothing_to_silence",
        "down": SILENCE + "test_the_first_that_can_be_reached_is_asked",
    },
    "alertmanager.expire_silences": {},
}

UNPROVED: dict[str, set[str]] = {
    "service.scale": {"unheard"},
    "files.prune": {"denied", "slow", "unheard"},
    "files.undo_prune": {"denied", "slow", "unheard"},
    "redis.restore_backup": set(CASES),
    **{
        f"redis.{name}": {"unheard", "changed"}
        for name in (
            "bgrewriteaof",
            "bgsave",
            "client_kill",
            "disable_persistence",
            "memory_purge",
            "restore_persistence",
        )
    },
    "command.run": {"denied"},
    "http.request": {"denied", "garbage", "unheard", "changed"},
    "nginx.maintenance": set(CASES),
    "nginx.rate_limit": {"missing", "denied", "slow", "garbage"},
    "app.workers": {"denied", "down", "slow"},
    "app.reload": {"missing", "denied", "down", "slow", "unheard", "changed"},
    "alertmanager.silence": {"denied", "slow", "garbage", "unheard", "changed"},
    "alertmanager.expire_silences": set(CASES),
}
"""What nothing shows yet. A case that gets its test moves up; none may come here unseen."""


def test_every_action_that_changes_something_has_its_row() -> None:
    """And none that is gone has one."""
    assert set(COVERED) == {action.name for action in registry.ACTIONS if action.mutates}
    assert set(UNPROVED) <= set(COVERED)


@pytest.mark.parametrize("name", sorted(COVERED))
def test_every_case_is_proved_or_said_not_to_be(name: str) -> None:
    """Each once."""
    proved, not_yet = set(COVERED[name]), UNPROVED.get(name, set())

    assert proved | not_yet == set(CASES)
    assert not proved & not_yet


@pytest.mark.parametrize("name", sorted(COVERED))
def test_what_is_named_exists(name: str) -> None:
    """A reason is given in words, and a test is one that is there."""
    for case, proof in COVERED[name].items():
        if proof.startswith("because: "):
            continue
        file, _, test = proof.partition("::")
        assert re.search(rf"(?m)^(async )?def {test}\(", (TESTS / file).read_text()), (case, proof)
