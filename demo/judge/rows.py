"""All rows of the judgement, as data. Their numbers are stable, because documents and `ROWS=1,4` use them."""

from __future__ import annotations

from demo.judge import app_faults as app
from demo.judge import redis_faults as redis
from demo.judge import surrounding_faults as around
from demo.judge.engines import ENGINE_ROWS
from demo.judge.redis_rows import OF_APP, REDIS_ROWS
from demo.judge.row import HEALED, NOT_NEEDED, PERSON, Row


def _ids(text: str) -> frozenset[str]:
    return frozenset(text.split())


_APP_AWAY = _ids("crash-loop exited not-running app-port")
"""Causes of runs for AppDown and TargetDown which state that the app does not stay up."""


_APP = (
    Row(
        number=25,
        fault="release lacks a module",
        alert="AppCrashLoopBackOff",
        make=app.bad_release,
        causes=_ids("bad-release missing-module"),
        says=("prices_client",),
        true_too=_APP_AWAY,
        remedies=_ids("service.rollback"),
        ends=HEALED,
        starts={"app": 1},
        restless=_ids("app"),
        proof=app.serves_first_release,
        pages=1,  # AppDown fires before AppCrashLoopBackOff and is escalated; both are one incident
    ),
    Row(
        number=26,
        fault="three bad releases in a row",
        alert="AppCrashLoopBackOff",
        make=app.three_bad_releases,
        causes=_ids("bad-release missing-module"),
        says=("prices_client",),
        true_too=_APP_AWAY,
        remedies=_ids("service.rollback"),
        ends=HEALED,
        starts={"app": 3},
        restless=_ids("app"),
        proof=app.serves_first_release,
        must_not=(app.linked_to_bad_release,),
        seconds=180,
        quiet=45,  # the alert of the third release needs this long, while the earlier runs are at rest
    ),
    Row(
        number=27,
        fault="a variable is missing, no release",
        alert="AppCrashLoopBackOff",
        prepare=app.require_variable,
        make=app.unset_variable,
        causes=_ids("missing-variable"),
        says=("PRICES_URL",),
        true_too=_APP_AWAY,
        restless=_ids("app"),
    ),
    Row(
        number=27,
        fault="a variable is missing since a release",
        alert="AppCrashLoopBackOff",
        make=app.release_without_variable,
        causes=_ids("missing-variable"),
        says=("PRICES_URL",),
        true_too=_APP_AWAY | _ids("bad-release"),
        remedies=_ids("service.rollback"),
        ends=HEALED,
        starts={"app": 1},
        restless=_ids("app"),
        proof=app.serves_first_release,
    ),
    Row(
        number=28,
        fault="half of the answers of a release are errors",
        alert="AppHighErrorRate",
        make=app.bad_code,
        causes=_ids("bad-release"),
        remedies=_ids("service.rollback"),
        ends=HEALED,
        starts={"app": 1},
        proof=app.serves_first_release,
        pages=0,
    ),
    Row(
        number=29,
        fault="traffic spike",
        alert="AppHighErrorRate",
        make=app.spike,
        causes=_ids("overload"),
        true_too=_ids("workers-hang few-workers"),
        remedies=_ids("app.workers nginx.rate_limit"),
        ends=HEALED,
        proof=app.served_spike,
        seconds=180,
        quiet=70,
    ),
    Row(
        number=30,
        fault="Redis behind the app is read-only (READONLY), its own alerts silenced",
        alert="AppHighErrorRate",
        make=app.sick_redis_behind_app(redis.replica_of_nobody),
        causes=_ids("redis-refuses-writes"),
        true_too=_ids("dependency"),
    ),
    Row(
        number=30,
        fault="Redis behind the app cannot save (MISCONF), its own alerts silenced",
        alert="AppHighErrorRate",
        needs=redis.needs_small_disk,
        prepare=redis.without_append_only_file,
        make=app.sick_redis_behind_app(redis.disk_filled_by_others),
        causes=_ids("redis-refuses-writes"),
        true_too=_ids("dependency"),
        must_not=(redis.unsaved_lost, redis.others_files_gone),
    ),
    Row(
        number=30,
        fault="Redis behind the app is out of memory (OOM), its own alerts silenced",
        alert="AppHighErrorRate",
        make=app.sick_redis_behind_app(redis.out_of_memory),
        causes=_ids("redis-refuses-writes"),
        true_too=_ids("dependency"),
    ),
    Row(
        number=31,
        fault="one worker of two is wedged",
        alert="AppHighLatency",
        make=app.wedge_worker,
        causes=_ids("workers-stopped"),
        remedies=_ids("app.reload"),
        ends=HEALED | PERSON,
        must_not=(app.fewer_workers,),
    ),
    Row(
        number=32,
        fault="the app has no file descriptors left",
        alert="AppDown",
        make=app.exhaust_descriptors,
        causes=_ids("too-many-files"),
        remedies=_ids("service.restart"),
    ),
    Row(
        number=33,
        fault="another program has the port of the app",
        alert="AppCrashLoopBackOff",
        make=app.port_in_use,
        causes=_ids("port-in-use"),
        says=("python",),
        true_too=_APP_AWAY,
        restless=_ids("app"),
        must_not=(app.other_killed,),
    ),
    Row(
        number=35,
        fault="the release dies six seconds after each start",
        alert="AppCrashLoopBackOff",
        prepare=app.dying_module,
        make=app.dies_after_six_seconds,
        causes=_ids("bad-release"),
        true_too=_APP_AWAY,
        remedies=_ids("service.rollback"),
        ends=HEALED,
        starts={"app": 1},
        restless=_ids("app"),
        proof=app.serves_first_release,
        must_not=(app.healed_early,),
        seconds=120,
    ),
)

_AROUND = (
    Row(
        number=40,
        fault="alert caused by our own restart",
        alert="AppHighErrorRate",
        make=around.restart_that_is_ours,
        causes=_ids("bad-release"),
        remedies=_ids("service.rollback"),
        ends=HEALED,
        starts={"app": 1},
        pages=0,
    ),
    Row(
        number=41,
        fault="short interruption",
        alert="AppDown",
        make=around.short_interruption,
        causes=frozenset(),
        true_too=_ids("workers-hang workers-stopped"),
        ends=frozenset({"cancelled", "not_needed", "succeeded"}),
        pages=0,
        seconds=60,
    ),
    Row(
        number=42,
        fault="exporter of Redis dead, Redis healthy",
        alert="TargetDown",
        make=around.stop_exporter,
        causes=_ids("exporter"),
        fast=True,
    ),
    Row(
        number=43,
        fault="Prometheus scrapes a wrong port of the app",
        alert="AppDown",
        make=around.wrong_scrape_target,
        causes=_ids("not-scraped app-not-scraped"),
    ),
    Row(
        number=44,
        fault="alert about a healthy Redis",
        alert="RedisDown",
        make=around.nothing_is_wrong,
        causes=frozenset(),
        ends=NOT_NEEDED,
        pages=0,
        fast=True,
    ),
    Row(
        number=45,
        fault="log disk of the remediator full, Redis killed",
        alert="RedisDown",
        needs=around.needs_root,
        prepare=around.log_on_small_disk,
        make=around.killed_with_full_log,
        causes=_ids("down"),
        true_too=OF_APP,
        remedies=_ids("service.restart"),
        ends=HEALED,
        starts={"redis": 1},
        proof=redis.serves,
        must_not=(around.remediator_gone,),
    ),
)

ROWS = tuple(sorted((*REDIS_ROWS, *_APP, *_AROUND, *ENGINE_ROWS), key=lambda row: row.number))
