"""The ``remediator audit`` commands. They read the database and the archive directly; the service need not run.

Exit status: 0 the log is unchanged, 1 it was changed, 2 wrong usage, 3 it cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, takewhile
from pathlib import Path
from typing import IO, Any

import click
import msgspec
from msgspec import structs

from remediator.audit import (
    GENESIS,
    BadSignature,
    Head,
    Kind,
    Problem,
    SealedEntry,
    UnknownKey,
    Verification,
    Verifier,
    archive,
    checkpoint,
    export,
    verify,
)
from remediator.audit import keys as audit_keys
from remediator.audit.archive import Segment
from remediator.audit.merkle import CompactRange
from remediator.audit.proof import BadProof, Proof, prove
from remediator.audit.reader import AuditReader, verify_live
from remediator.cli import _output
from remediator.cli._audit_source import WholeLog, audit_log, sealed
from remediator.cli._options import config_option, format_option, output_option, writing
from remediator.core.clock import SystemClock, before
from remediator.errors import AuditError, InputError

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_ANY = click.Path(path_type=Path, exists=True)

_database = click.option(
    "--db", "database", type=_FILE, help="SQLite file to read (default: the database of the settings)."
)
_archive = click.option(
    "--archive",
    "archived",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with sealed segments (default: from the settings, or archive beside --db).",
)
_checkpoints = click.option(
    "--checkpoints",
    "points",
    type=_ANY,
    multiple=True,
    help="File or folder with signed checkpoints, or text that contains them; can be repeated (default: none).",
)
_keys = click.option(
    "--key", "keys", type=_FILE, multiple=True, help="File with a public key to trust; can be repeated (default: none)."
)


class _Since(click.ParamType[datetime]):
    name = "TIME|AGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            instant = datetime.fromisoformat(value)
            return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
        except ValueError:
            try:
                return before(SystemClock().now(), value)
            except InputError:
                self.fail(
                    f"invalid time {value!r}: expected a time or an age, for example 2026-01-31T12:00:00Z or 24h",
                    param,
                    ctx,
                )


_since = click.option(
    "--since", type=_Since(), help="Time, such as 2026-01-31T12:00:00Z, or age, such as 24h (default: the beginning)."
)


@click.group("audit")
def command() -> None:
    """Verify, read and export the audit log."""


@command.command("verify")
@config_option
@_database
@click.option(
    "--export",
    "exported",
    type=click.File("rb"),
    help="Export to read, or - for standard input (default: the database).",
)
@_archive
@_checkpoints
@_keys
@click.option("--origin", help="Name of the log that the checkpoints must have (default: any).")
@click.option("--strict", is_flag=True, help="Also check that the data of each entry is canonical JSON (slower).")
@format_option("text", "json")
def verify_(
    config_path: Path,
    database: Path | None,
    exported: IO[bytes] | None,
    archived: Path | None,
    points: tuple[Path, ...],
    keys: tuple[Path, ...],
    origin: str | None,
    strict: bool,
    format_: str,
) -> None:
    """Check that the log is unchanged, or name the first bad entry.

    Exit status 1 if the log was changed.

    \b
    Examples:
      remediator audit verify --checkpoints /mnt/other/checkpoints --key audit.key.pub
      remediator audit export | remediator audit verify --export -
    """
    notes, known = _notes(points), _load_keys(keys)
    if notes and not known:
        raise click.UsageError("--checkpoints needs --key, to check the signatures")
    now = SystemClock().now()
    if exported is not None:
        start, rows = export.read(_require_lines(exported))
        result = verify(rows, notes, known, start=start, now=now, origin=origin, strict=strict)
    else:
        segments = sealed(archived, database, config_path)
        start, end = (segments[0].start, segments[-1].end) if segments else (GENESIS, GENESIS)
        old = chain.from_iterable(segment.entries() for segment in segments)
        with audit_log(database, config_path) as reader:
            result = verify_live(
                reader,
                notes,
                known,
                start=start,
                archived=old,
                archived_to=end.seq,
                now=now,
                origin=origin,
                strict=strict,
            )
            result = _with_hint(result, reader.moved(), segments)
    _print_result(result, format_)
    if not result.ok:
        raise SystemExit(1)


def _require_lines(exported: IO[bytes]) -> Iterator[bytes]:
    """Return the lines of an export; refuse an empty one, which a failed command leaves and which proves nothing."""
    lines = iter(exported)
    first = next(lines, None)
    if first is None:
        raise AuditError("the export is empty; check the command that wrote it")
    return chain((first,), lines)


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
        _output.data({"ok": result.ok} | msgspec.to_builtins(result), indent=None)
        return
    _output.echo(result.summary())
    for finding in result.findings[1:]:
        _output.echo(f"Also: {finding.message}")
    for remark in result.remarks:
        _output.echo(f"Note: {remark}")
    if result.first:
        _output.echo(f"Head: entry {result.last}, hash {result.hash}, root {result.root}")


@command.command("tail")
@config_option
@_database
@click.option("-n", "--lines", type=click.IntRange(1, 100_000), default=20, help="Entries to show (default: 20).")
@format_option("text", "json")
def tail(config_path: Path, database: Path | None, lines: int, format_: str) -> None:
    """Show the newest entries.

    \b
    Example:
      remediator audit tail --lines 50
    """
    with audit_log(database, config_path) as reader:
        after = max(0, reader.head().seq - lines)
        for row in reader.entries(after_seq=after):
            _print_entry(row, format_)


@command.command("search")
@config_option
@_database
@_archive
@click.option("--run", help="Only entries of this run (default: all).")
@click.option(
    "--kind", type=click.Choice([kind.value for kind in Kind]), metavar="KIND", help="Only this kind (default: all)."
)
@_since
@click.option("--actor", help="Only entries of this person or replica, such as user:ann (default: all).")
@click.option("--limit", type=click.IntRange(1), default=1000, help="Most entries to show (default: 1000).")
@click.argument("text", required=False)
@format_option("text", "json")
def search(
    config_path: Path,
    database: Path | None,
    archived: Path | None,
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
    segments = sealed(archived, database, config_path)
    with audit_log(database, config_path) as reader:
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
@config_option
@_database
@_archive
@_since
@format_option("jsonl", "csv", "ocsf")
@output_option
def export_(
    config_path: Path,
    database: Path | None,
    archived: Path | None,
    since: datetime | None,
    format_: str,
    output: Path,
) -> None:
    """Export entries for other tools.

    The export includes the archive. 'remediator audit verify --export FILE' verifies JSON Lines without the database,
    also if they begin later (--since).

    \b
    Example:
      remediator audit export --format csv --since 30d --output audit.csv
    """
    segments = sealed(archived, database, config_path)
    with audit_log(database, config_path) as reader, writing(output) as file:
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
    """Return the entries from this time on, and the state of the log before them."""
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
@config_option
@_database
@_archive
@_checkpoints
@_keys
@click.argument("entry", type=click.IntRange(1))
def prove_(
    config_path: Path,
    database: Path | None,
    archived: Path | None,
    points: tuple[Path, ...],
    keys: tuple[Path, ...],
    entry: int,
) -> None:
    """Write a proof for one entry.

    The proof shows, to a person without the log, that the entry with the number ENTRY is in it. It goes to standard
    output, as a C2SP tlog-proof.

    \b
    Example:
      remediator audit prove 4711 --checkpoints /mnt/other/checkpoints --key audit.key.pub > entry.proof
    """
    note = _covering(_notes(points), _load_keys(keys), entry)
    segments = sealed(archived, database, config_path)
    if segments and segments[0].start.seq:
        raise InputError(f"a proof needs all entries; the archive begins after entry {segments[0].start.seq}")
    _, old = archive.join_live(segments, ())
    hashes, canonical = [], b""
    with audit_log(database, config_path) as reader:
        for row in chain(old, reader.entries(after_seq=segments[-1].end.seq if segments else 0)):
            hashes.append(row.hash)
            canonical = row.canonical if row.seq == entry else canonical
    try:
        _output.echo(prove(canonical, entry, hashes, note).text(), nl=False)
    except BadProof as error:
        _output.echo(f"The audit log does not verify: {error}.", err=True)
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
@_keys
@click.argument("proof", type=click.File("r", encoding="utf-8"))
@format_option("text", "json")
def check_proof(keys: tuple[Path, ...], proof: IO[str], format_: str) -> None:
    """Check a proof without the log.

    PROOF is a file that 'remediator audit prove' wrote. Exit status 1 if the proof is not valid.

    \b
    Example:
      remediator audit check-proof entry.proof --key audit.key.pub
    """
    known = _load_keys(keys)
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


def _load_keys(paths: tuple[Path, ...]) -> list[Verifier]:
    return [key for path in paths for key in audit_keys.load_verifiers(path)]


def _notes(paths: tuple[Path, ...]) -> list[str]:
    return [note for path in paths for note in _read_notes(path)]


def _read_notes(path: Path) -> list[str]:
    notes: list[str] = []
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        try:
            notes += checkpoint.find_notes(file.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}") from error
    if not notes:
        raise InputError(
            f"{path} contains no signed checkpoint; expected the name of the log, the number of entries, the root, and "
            f"a signature line that begins with '—'"
        )
    return notes
