"""Measure how fast the audit log is sealed, verified and appended to: ``python -m bench.audit [--json] [--size N]``.

Times are this process's CPU time, the best of several rounds, so that other work on the machine counts little. Ratios
compare with bare SHA-256 over the same bytes in the same process. They carry over to other machines better than rates.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256

import click

from remediator.audit import GENESIS, Draft, Head, Kind, Redactor, SealedEntry, Signer, checkpoint, seal, verify
from remediator.audit.verification import Anchors

ROUNDS = 5
GROUP = 16
"""Entries sealed together, as in one transaction of the write gate under moderate load."""
BUDGET = 300_000
"""Entries to verify per second on one core (design.md, section 8)."""
START = datetime(2026, 1, 1, tzinfo=UTC)


def draft(number: int) -> Draft:
    """Return a verdict of a guard, the most common kind of entry."""
    return Draft(
        Kind.GUARD_VERDICT,
        "remediator/replica-a",
        run=f"run-{number // 20:017d}",
        episode=f"episode-{number // 20:017d}",
        playbook="redis-down",
        playbook_hash="sha256:" + "b" * 64,
        plan_hash="sha256:" + "a" * 64,
        reason="nothing stands in the way",
        data={
            "guard": "cooldown",
            "verdict": "allow",
            "inputs": {"last": "2026-01-02T03:04:05.000006Z", "cooldown": "5m", "count": number, "ratio": 0.5},
            "targets": ["redis", "app"],
        },
    )


def best(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the fewest CPU seconds of several rounds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def make(size: int, redactor: Redactor) -> tuple[list[SealedEntry], Head]:
    """Return a log, sealed in groups, with a time for each group as in the store."""
    rows: list[SealedEntry] = []
    head = GENESIS
    for at in range(0, size, GROUP):
        drafts = [draft(number) for number in range(at, min(at + GROUP, size))]
        more, head = seal(head, drafts, START + timedelta(milliseconds=at), redactor)
        rows += more
    return rows, head


def sealing(redactor: Redactor, size: int = 20_000) -> dict[str, float]:
    """Return how many entries are sealed per second, singly and in groups. The drafts are made first."""
    drafts = [draft(number) for number in range(size)]

    def grouped(group: int) -> float:
        def work() -> None:
            head = GENESIS
            for at in range(0, size, group):
                _, head = seal(head, drafts[at : at + group], START, redactor)

        return size / best(work, 3)

    return {f"sealed_per_s_group_{group}": round(grouped(group)) for group in (1, GROUP, 512)}


def verifying(rows: list[SealedEntry], head: Head) -> dict[str, float]:
    """Return how many entries are verified per second, with a checkpoint at the end, and the ratio to bare hashing."""
    signer = Signer.generate("bench.example/log")
    notes = [checkpoint.sign(signer.name, head, [signer])]

    def check(strict: bool = False) -> None:
        result = verify(rows, Anchors(notes, [signer.verifier]), head=head, strict=strict)
        assert result.ok and result.checkpoints == (len(rows),), result.summary()

    def bare() -> None:
        for row in rows:
            sha256(row.canonical).digest()

    # interleaved, so that all measure the machine in the same state
    times = [(best(check, 1), best(partial(check, True), 1), best(bare, 1)) for _ in range(ROUNDS)]
    took, strictly, hashed = (min(column) for column in zip(*times, strict=True))
    return {
        "entries": len(rows),
        "bytes_per_entry": round(sum(len(row.canonical) for row in rows) / len(rows)),
        "verified_per_s": round(len(rows) / took),
        "verified_strictly_per_s": round(len(rows) / strictly),
        "bare_sha256_per_s": round(len(rows) / hashed),
        "verify_over_bare_sha256": round(hashed / took, 3),
        "budget_per_s": BUDGET,
    }


def appending(redactor: Redactor) -> dict[str, float]:
    """Return the cost of an append to logs of very different lengths. The state of a long log is constructed."""
    drafts = [draft(number) for number in range(GROUP)]

    def cost(size: int) -> float:
        head = Head(size, bytes(32), bytes(32 * size.bit_count()))

        def work() -> None:
            for _ in range(500):
                seal(head, drafts, START, redactor)

        return best(work) / (500 * GROUP) * 1e6

    # one less than a power of two: every bit is set, so the tree's state is the largest for this length
    costs = {exponent: cost(2**exponent - 1) for exponent in (10, 17, 20, 24, 30)}
    report = {f"append_us_at_2^{exponent}": round(value, 2) for exponent, value in costs.items()}
    return report | {"append_2^24_over_2^10": round(costs[24] / costs[10], 3)}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--size", type=click.IntRange(1000), default=200_000, show_default=True, help="Entries to verify.")
def main(as_json: bool, size: int) -> None:
    """Print the figures. The exit status is 1 if verification is slower than its budget."""
    redactor = Redactor([f"known-secret-{number}" for number in range(20)])
    rows, head = make(size, redactor)
    report = sealing(redactor) | appending(redactor) | verifying(rows, head)
    if as_json:
        click.echo(json.dumps(report))
    else:
        for name, value in report.items():
            click.echo(f"{name:<26} {value:>12,}")
    if report["verified_per_s"] < BUDGET:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
