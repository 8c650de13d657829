"""The ``remediator audit`` commands.

They read the database and the archive directly; the service does not have to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import chain, takewhile
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from remediator.audit import BadSignature, Head, Kind, SealedEntry, UnknownKey, Verifier, archive, checkpoint, export
from remediator.audit.archive import Segment
from remediator.audit.merkle import CompactRange
from remediator.audit.proof import BadProof, Proof, prove
from remediator.audit.reader import AuditReader
from remediator.cli import _output, audit_verify
from remediator.cli._audit_options import (
    checkpoints_option,
    database_option,
    keys_option,
    load_keys,
    log_options,
    read_notes,
)
from remediator.cli._audit_source import LogPlace, WholeLog
from remediator.cli._options import config_option, format_option, output_option, writing
from remediator.core.clock import SystemClock, parse_moment
from remediator.errors import AuditError, InputError


class _Since(click.ParamType[datetime]):
    name = "TIME|AGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return parse_moment(value, SystemClock().now())
        except InputError as error:
            self.fail(str(error), param, ctx)


_since = click.option(
    "--since", type=_Since(), help="Time, such as 2026-01-31T12:00:00Z, or age, such as 24h (default: the beginning)."
)


@click.group("audit")
def command() -> None:
    """Verify, read and export the audit log."""


command.add_command(audit_verify.command)


@command.command("tail")
@config_option
@database_option
@click.option("-n", "--lines", type=click.IntRange(1, 100_000), default=20, help="Entries to show (default: 20).")
@format_option("text", "json")
def tail(config_path: Path, database: Path | None, lines: int, format_: str) -> None:
    """Show the newest entries.

    \b
    Example:
      remediator audit tail --lines 50
    """
    with LogPlace(config_path, database).open() as reader:
        after = max(0, reader.head().seq - lines)
        for row in reader.entries(after_seq=after):
            _print_entry(row, format_)


@command.command("search")
@log_options
@click.option("--run", help="Only entries of this run (default: all).")
@click.option(
    "--kind", type=click.Choice([kind.value for kind in Kind]), metavar="KIND", help="Only this kind (default: all)."
)
@_since
@click.option("--actor", help="Only entries of this person or replica, such as user:ann (default: all).")
@click.option(
    "--limit", type=click.IntRange(1), default=1000, help="Maximum number of entries to show (default: 1000)."
)
@click.argument("text", required=False)
@format_option("text", "json")
def search(
    log: LogPlace,
    run: str | None,
    kind: str | None,
    since: datetime | None,
    actor: str | None,
    limit: int,
    text: str | None,
    format_: str,
) -> None:
    """Search entries.

    An entry must match all options and contain TEXT, in upper or lower case.

    \b
    Example:
      remediator audit search --since 24h --kind guard.verdict cooldown
    """
    wanted = text.lower() if text else None
    found = 0
    segments = log.segments()
    with log.open() as reader:
        for row in WholeLog(segments, reader).entries(run=run, kind=kind, since=since):
            if wanted and wanted not in row.canonical.decode("utf-8", "replace").lower():
                continue
            if actor and export.read_entry(row).actor != actor:
                continue
            if found == limit:
                _output.echo(f"only the first {limit} entries are shown; use --limit or --since to see more", err=True)
                return
            _print_entry(row, format_)
            found += 1


def _print_entry(row: SealedEntry, format_: str) -> None:
    if format_ == "json":
        _output.exact(export.to_jsonl(row).decode())
        return
    entry = export.read_entry(row)
    about = " ".join(part for part in (entry.run or entry.episode, entry.playbook, entry.reason) if part)
    data = msgspec.json.encode(entry.data).decode()
    line = f"{entry.seq:>8}  {entry.written[:19]}Z  {entry.kind:<22} {entry.actor}  {about}  {data}"
    _output.lines([line])


@command.command("export")
@log_options
@_since
@format_option("jsonl", "csv", "ocsf")
@output_option
def export_(log: LogPlace, since: datetime | None, format_: str, output: Path) -> None:
    """Export entries for other tools.

    The export includes the archive. 'remediator audit verify --export FILE' verifies JSON Lines without the database,
    also if they begin later (--since).

    \b
    Example:
      remediator audit export --format csv --since 30d --output audit.csv
    """
    segments = log.segments()
    with log.open() as reader, writing(output) as file:
        start, rows = _from(reader, segments, since)
        if format_ == "jsonl" and start.seq:
            file.write(export.start_line(start))
        if format_ == "csv":
            file.write(export.csv_header().encode())
        for row in rows:
            file.write(_FORMATS[format_](row))


_FORMATS: dict[str, Callable[[SealedEntry], bytes]] = {
    "jsonl": export.to_jsonl,
    "csv": lambda row: export.to_csv(row).encode(),
    "ocsf": lambda row: msgspec.json.encode(export.to_ocsf(row)) + b"\n",
}


def _from(
    reader: AuditReader, segments: Sequence[Segment], since: datetime | None
) -> tuple[Head, Iterator[SealedEntry]]:
    """Return the entries since this time, and the state of the log before them."""
    end = reader.head().seq
    live = takewhile(lambda row: row.seq <= end, reader.entries(after_seq=segments[-1].end.seq if segments else 0))
    start, rows = archive.join_live(segments, live)
    if since is None:
        return start, rows
    tree, last = CompactRange.load(start.seq, start.tree), start.hash
    for row in rows:
        if row.time >= since:
            return Head(tree.size, last, tree.dump()), chain((row,), rows)
        tree.append(row.hash)
        last = row.hash
    return Head(tree.size, last, tree.dump()), iter(())


@command.command("prove")
@log_options
@checkpoints_option
@keys_option
@click.argument("entry", type=click.IntRange(1))
def prove_(log: LogPlace, points: tuple[Path, ...], keys: tuple[Path, ...], entry: int) -> None:
    """Write a proof for one entry.

    The proof shows, to a person without the log, that the entry with the number ENTRY is in it. It goes to standard
    output, as a C2SP tlog-proof.

    \b
    Example:
      remediator audit prove 4711 --checkpoints /mnt/other/checkpoints --key audit.key.pub > entry.proof
    """
    note = _covering(read_notes(points), load_keys(keys), entry)
    segments = log.segments()
    if segments and segments[0].start.seq:
        raise InputError(f"a proof needs all entries; the archive begins after entry {segments[0].start.seq}")
    _, old = archive.join_live(segments, ())
    hashes, canonical = [], b""
    with log.open() as reader:
        for row in chain(old, reader.entries(after_seq=segments[-1].end.seq if segments else 0)):
            hashes.append(row.hash)
            canonical = row.canonical if row.seq == entry else canonical
    try:
        _output.echo(prove(canonical, entry, hashes, note).text(), nl=False)
    except BadProof as error:
        _output.echo(f"cannot prove entry {entry}: {error}; run 'remediator audit verify'", err=True)
        raise SystemExit(1) from error


def _covering(notes: list[str], keys: list[Verifier], entry: int) -> str:
    best: tuple[int, str] | None = None
    for note in notes:
        try:
            point = checkpoint.verify(note, keys)
        except AuditError:
            continue  # "audit verify" reports bad checkpoints
        if point.size >= entry and (best is None or point.size > best[0]):
            best = point.size, note
    if best is None:
        raise InputError(f"no valid checkpoint covers entry {entry}; give --checkpoints and --key")
    return best[1]


@command.command("check-proof")
@keys_option
@click.argument("proof", type=click.File("r", encoding="utf-8"))
@format_option("text", "json")
def check_proof(keys: tuple[Path, ...], proof: IO[str], format_: str) -> None:
    """Check a proof without the log.

    PROOF is a file that 'remediator audit prove' wrote. Exit status 1 if the proof is not valid.

    \b
    Example:
      remediator audit check-proof entry.proof --key audit.key.pub
    """
    known = load_keys(keys)
    if not known:
        raise click.UsageError("no public key; give it with --key")
    parsed = Proof.parse(proof.read())
    try:
        point = parsed.verify(known)
    except (BadProof, BadSignature, UnknownKey) as error:
        _output.echo(f"The proof is not valid: {error}.", err=True)
        raise SystemExit(1) from error
    number = parsed.index + 1
    if format_ == "json":
        data = {"ok": True, "seq": number, "origin": point.origin, "size": point.size}
        _output.echo(msgspec.json.encode(data | {"entry": msgspec.Raw(parsed.canonical)}).decode())
        return
    _output.echo(f"The proof is valid: this is entry {number} of the log {point.origin}.")
    _output.echo(parsed.canonical.decode("utf-8", "backslashreplace"))
