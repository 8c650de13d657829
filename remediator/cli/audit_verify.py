"""The ``remediator audit verify`` command."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO

import click
import msgspec
from msgspec import structs

from remediator.audit import GENESIS, Problem, Verification, Verifier, export, verify
from remediator.audit import keys as audit_keys
from remediator.audit.archive import Segment
from remediator.audit.checkpoint_trust import Finding
from remediator.audit.reader import verify_live
from remediator.audit.verification import Anchors
from remediator.cli import _output
from remediator.cli._audit_options import checkpoints_option, keys_option, load_keys, log_options, read_notes
from remediator.cli._audit_source import LogPlace, WholeLog
from remediator.cli._options import format_option
from remediator.config import Config
from remediator.core.clock import SystemClock
from remediator.core.local_files import own_file
from remediator.errors import AuditError, ConfigurationError, RemediatorError
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load_config
from remediator.runtime.signing_keys import audit_key_file
from remediator.runtime.state_check import compare_state

NOT_ANCHORED = 4
"""Exit status: no finding, but no checkpoint from outside of the database was compared."""
_SHOWN = 20
_AGAIN = 1.0
"""Seconds until a difference between state and log is checked again: the service may be writing."""


@click.command("verify")
@log_options
@click.option(
    "--export",
    "exported",
    type=click.File("rb"),
    help="Export to read, or - for standard input (default: the database).",
)
@checkpoints_option
@keys_option
@click.option("--origin", help="Name of the log that the checkpoints must have (default: any).")
@click.option("--strict", is_flag=True, help="Also check that the data of each entry is canonical JSON (slower).")
@click.option(
    "--state", is_flag=True, help="Also compare runs, approvals, stops and memory in the database with the log."
)
@format_option("text", "json")
def command(
    log: LogPlace,
    exported: IO[bytes] | None,
    points: tuple[Path, ...],
    keys: tuple[Path, ...],
    origin: str | None,
    strict: bool,
    state: bool,
    format_: str,
) -> None:
    """Check that the log is unchanged, or name the first bad entry.

    Without --db and --export, the checkpoints and the public key come from the settings. A key from this host proves
    nothing if an attacker controls this host. Keep a copy of the key on another system and give it with --key.

    \b
    Exit status:
      0  unchanged, and a checkpoint from outside of the database agrees
      1  changed; the first finding names the entry
      2  wrong usage
      3  the log cannot be read
      4  no finding, but no checkpoint from outside of the database was compared

    \b
    Examples:
      remediator audit verify --state
      remediator audit verify --checkpoints /mnt/other/checkpoints --key audit.key.pub
      remediator audit export | remediator audit verify --export -
    """
    notes, known = read_notes(points), load_keys(keys)
    remarks: list[str] = []
    if notes and not known and (log.database is not None or exported is not None):
        raise click.UsageError("--checkpoints needs --key, to check the signatures")
    if state and exported is not None:
        raise click.UsageError("--state needs the database; an export has no state")
    now = SystemClock().now()
    if exported is not None:
        start, rows = export.read(_require_lines(exported))
        rows = _output.counted(rows, "verifying entries")
        result = verify(rows, Anchors(notes, known, origin=origin), start=start, now=now, strict=strict)
    else:
        if log.database is None:
            config = load_config(log.config_path, Config)
            known = known or _own_key(config)
            if not points:
                notes, remarks = _from_witnesses(config)
        segments = log.segments()
        start, end = (segments[0].start, segments[-1].end) if segments else (GENESIS, GENESIS)
        old = chain.from_iterable(segment.entries() for segment in segments)
        with log.open() as reader:
            result = verify_live(
                reader,
                Anchors(notes, known, reader.stored_checkpoints(), origin),
                start=start,
                archived=old,
                archived_to=end.seq,
                counted=lambda rows, total: _output.counted(rows, "verifying entries", total),
                now=now,
                strict=strict,
            )
            result = _with_hint(result, reader.moved(), segments)
            if result.ok and not result.last and reader.has_history():
                result = _with_findings(
                    result, Problem.EMPTIED, ["the log is empty, but the database has runs, requests or stops"]
                )
        if state and result.ok:
            with _output.working("comparing the state with the log"):
                differences = asyncio.run(_state_differences(log, segments))
            result = _with_findings(result, Problem.STATE, differences)
    _print_result(structs.replace(result, remarks=(*result.remarks, *remarks)), format_)
    if not result.ok:
        raise SystemExit(1)
    if not result.anchored:
        raise SystemExit(NOT_ANCHORED)


def _require_lines(exported: IO[bytes]) -> Iterator[bytes]:
    """Return the lines of an export; refuse an empty one, which a failed command leaves and which proves nothing."""
    lines = iter(exported)
    first = next(lines, None)
    if first is None:
        raise AuditError("the export is empty; check the command that wrote it")
    return chain((first,), lines)


def _own_key(config: Config) -> list[Verifier]:
    """Return the public key of the settings; empty if there is no key yet."""
    try:
        private = audit_key_file(config)
        public = private.with_name(private.name + ".pub")
        if config.audit.key_file is None:
            own_file(config.state, public.name)
        if public.exists():
            return audit_keys.load_verifiers(public)
        return [audit_keys.load_signer(private, config.audit_origin).verifier] if private.exists() else []
    except (RemediatorError, OSError) as error:
        raise ConfigurationError(f"{error}; give the public key with --key") from None


def _from_witnesses(config: Config) -> tuple[list[str], list[str]]:
    """Return the checkpoints of the witnesses in the settings, and remarks about unreadable witnesses."""
    witnesses = Registry.load(config.plugins).make_witnesses(config.audit.checkpoints, config.channels)

    async def fetch() -> tuple[list[str], list[str]]:
        notes: list[str] = []
        remarks = []
        for name, witness in witnesses.items():
            try:
                notes += await witness.fetch()
            except RemediatorError as error:
                remarks.append(f"The checkpoints of {name} were not compared: {error}.")
        return notes, remarks

    if not witnesses:
        return [], ["No witness is configured: set audit.checkpoints."]
    return asyncio.run(fetch())


async def _state_differences(log: LogPlace, segments: Sequence[Segment]) -> list[str]:
    """Return how the state differs from the log. A difference counts if it is still there a moment later."""
    found = _compare_once(log, segments)
    if found:
        await SystemClock().sleep(_AGAIN)
        again = set(_compare_once(log, segments))
        found = [text for text in found if text in again]
    return found


def _compare_once(log: LogPlace, segments: Sequence[Segment]) -> list[str]:
    with log.open() as reader:
        rows = reader.state()
        return list(compare_state(rows, WholeLog(segments, reader).entries(), SystemClock().now()))


def _with_findings(result: Verification, problem: Problem, messages: Iterable[str]) -> Verification:
    told = list(messages)
    findings = [Finding(problem, None, f"{message}.") for message in told[:_SHOWN]]
    if len(told) > _SHOWN:
        findings.append(Finding(problem, None, f"{len(told) - _SHOWN} more differences of this kind."))
    return structs.replace(result, findings=(*result.findings, *findings))


def _with_hint(result: Verification, moved: int, segments: Sequence[Segment]) -> Verification:
    """Add a remark if the missing entries should be in the archive; they count as missing until they are given."""
    if not moved or result.ok or result.findings[0].problem is not Problem.MISSING:
        return result
    hint = f"Entries 1 to {moved} were moved to the archive"
    if not segments:
        hint += "; give its folder with --archive."
    elif (result.findings[0].seq or 0) <= moved:
        hint += f"; no file in {segments[0].path.parent} contains them."
    return structs.replace(result, remarks=(hint, *result.remarks))


def _print_result(result: Verification, format_: str) -> None:
    if format_ == "json":
        data = {"ok": result.ok, "anchored": result.anchored} | msgspec.to_builtins(result)
        _output.data(data, indent=None)
        return
    _output.echo(result.summary())
    for finding in result.findings[1:]:
        _output.echo(f"Also: {finding.message}")
    for remark in result.remarks:
        _output.echo(f"Note: {remark}")
    if result.first:
        _output.echo(f"Head: entry {result.last}, hash {result.hash}, root {result.root}")
