"""The table of faults in docs/reliability.md. ``make reliability`` runs its tests and writes the table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
_TABLE = re.compile(r"(<!-- faults -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the environment, its visible effect, and the test that causes it for real."""

    fault: str
    promise: int
    seen: str
    test: str
    """File below ``tests``, with ``::`` and the name of the test function, if it is not the whole file."""


FAULTS = (
    Fault("the log is on a full disk", 14, "runs succeed; lost lines are counted and reported",
          "promises/test_surroundings.py::test_it_heals_with_its_log_on_a_full_disk_and_reports_lost_lines"),
    Fault("the reader of the log hangs or has ended", 14, "runs succeed; the service is degraded",
          "promises/test_surroundings.py::test_it_heals_if_the_reader_of_its_log"),
    Fault("ENOSPC, EPIPE or EIO at each write of the log", 14, "nothing is raised; lines are counted",
          "runtime/test_log_output.py"),
    Fault("an observer of events raises or hangs", 14, "the run continues; events are counted",
          "runtime/test_health.py"),
    Fault("log, metrics and events fail in simulated schedules", 14, "no promise breaks",
          "simulation/test_simulation.py::test_no_simulated_schedule_breaks_a_promise"),
    Fault("a channel raises, hangs or has a defect", 14, "recorded, retried; other messages are sent",
          "runtime/test_outbox.py"),
    Fault("a witness raises or hangs", 14, "recorded, retried; other witnesses get the checkpoint",
          "runtime/test_checkpointing.py"),
    Fault("read-only root, no temporary folder", 14, "it takes in and heals",
          "promises/test_surroundings.py::test_it_heals_on_a_read_only_root_without_a_temporary_folder"),
    Fault("the inbox does not move", 1, "after 60 s: webhook and `/readyz` answer 503",
          "promises/test_surroundings.py::test_a_blocked_inbox_refuses_notifications_within_the_documented_time"),
    Fault("a loop hangs or fails", 14, "degraded, named by `/healthz`, `status` and metrics", "web/test_health.py"),
    Fault("PgBouncer in session or transaction mode", 14, "works; timeouts and fsync in each transaction",
          "storage/test_pooler.py::test_every_transaction_has_its_timeouts_and_is_fsynced"),
    Fault("PgBouncer in statement mode, or with one connection", 14, "the start is refused in one sentence",
          "storage/test_pooler.py::test_a_pooler_that_cannot_work_is_refused_at_the_start"),
    Fault("PostgreSQL is frozen", 14, "given up after 45 s; the next work has a new connection",
          "storage/test_pooler.py::test_a_frozen_server_is_disconnected"),
    Fault("failover: killed, frozen and back, switched over", 3, "nothing acknowledged is lost, nothing done twice",
          "promises/test_failover.py::test_no_action_is_repeated_and_nothing_acknowledged_is_lost"),
    Fault("failover to a standby that lags", 3, "what the lost commits did is not done again; a person is asked",
          "promises/test_failover.py::test_actions_of_lost_commits_are_not_repeated"),
    Fault("all replicas notice a failover at once", 4, "recorded once; claims from before are refused",
          "storage/test_replacement.py"),
    Fault("standbys, none of them synchronous", 13, "`serve`, `status` and `doctor` warn",
          "promises/test_failover.py::test_a_server_without_a_synchronous_standby_is_reported"),
    Fault("the database lost its last commits", 3, "the target is observed before anything is done, or a person asked",
          "promises/test_replaced_store.py"),
    Fault("PostgreSQL hangs or is down", 1, "503; everything acknowledged is healed", "promises/test_outage.py"),
    Fault("`kill -9` around each commit and call", 3, "each target is restarted once", "promises/test_crashes.py"),
    Fault("two processes with one replica ID, or on one file", 4, "nothing is done twice; reported, or refused",
          "promises/test_two_instances.py"),
    Fault("the resolver of names hangs", 14, "5 s at most; old answers are used", "runtime/test_event_loop.py"),
    Fault("HTTP answers that are slow, endless or broken", 14, "bounded in time and size", "clients/test_http.py"),
    Fault("HTTP answers of a target that never end", 14, "its run ends in time; other targets are healed",
          "promises/test_limits.py::test_an_endless_answer_delays_no_other_target"),
    Fault("the clock of the host is set forward or back", 14, "nothing is repeated or stopped; a step back is reported",
          "promises/test_limits.py::test_a_step_of_the_clock_repeats_nothing_and_stops_nothing"),
    Fault("a start after the clock was set back", 14, "time goes on from the last entry; reported",
          "promises/test_limits.py::test_a_start_after_a_clock_step_back_continues_from_the_last_entry"),
    Fault("no memory or descriptors while alerts are processed", 1, "the alerts wait; none is given up",
          "pipeline/test_dead_letter.py"),
    Fault("no free descriptor", 14, "it survives, and heals when there are some",
          "promises/test_limits.py::test_it_survives_without_a_free_descriptor"),
    Fault("connections that take all descriptors", 14, "the webhook answers", "security/test_connections.py"),
    Fault("a path behind nginx", 14, "all links and forms stay below it", "web/test_prefix.py"),
    Fault("an outgoing proxy", 14, "used, except for `no_proxy` and loopback", "clients/test_egress.py"),
    Fault("servers that cannot be reached at the start", 14, "each is named with its reason",
          "promises/test_start_and_stop.py"),
    Fault("templates and several documents in a rule folder", 14, "one finding; alerts are read from the rest",
          "authoring/lint/test_runner.py::test_rule_files_that_cannot_be_read_are_one_finding"),
)  # fmt: skip


def table() -> str:
    """Return the table in Markdown."""
    rows = [f"| {item.fault} | {item.promise} | {item.seen} | `tests/{item.test.split('::')[0]}` |" for item in FAULTS]
    return "\n".join(["| fault | promise | what is seen | test |", "|---|---|---|---|", *rows])


def with_table(page: str, result: str | None = None) -> str:
    """Return the page with the table, and with the result of the last run if there is a new one."""

    def section(match: re.Match[str]) -> str:
        old = re.search(r"^Last run: .*$", match[0], re.MULTILINE)
        last = f"Last run: {result}" if result else (old[0] if old else "Last run: none.")
        return f"{match[1]}{last}\n\n{table()}\n{match[2]}"

    return _TABLE.sub(section, page)


def main() -> int:
    """Run the tests of all faults, and write the table with the result. Return the exit status."""
    tests = list(dict.fromkeys(f"tests/{item.test}" for item in FAULTS))
    begun = time.monotonic()
    sizes = {"FAILOVER_TARGETS": "6", "OUTAGE": "20", **os.environ, "REQUIRE_ALL": "1"}
    argv = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadscope", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(argv, cwd=ROOT, env=sizes, capture_output=True, text=True, check=False)
    sys.stdout.write(done.stdout)
    minutes = (time.monotonic() - begun) / 60
    summary = done.stdout.strip().splitlines()[-1].split(" in ")[0] if done.stdout.strip() else "no result"
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), f"{summary}, in {minutes:.0f} minutes on two cores."))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
