"""``remediator audit``: verify, read and hand out the audit log. Works on the files alone; the service need not run.

Exit status: 0 the log verifies, 1 it does not, 2 wrong usage, 3 it could not be read.
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
    Checkpoint,
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
from remediator.cli._audit_source import WholeLog, audit_log, sealed
from remediator.cli._options import config_option, format_option, output_option, writing
from remediator.core.clock import SystemClock, before
from remediator.errors import AuditError, InputError

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_ANY = click.Path(path_type=Path, exists=True)

_database = click.option("--db", "database", type=_FILE, help="A SQLite file, without any settings; it is only read.")
_export = click.option("--export", "exported", type=click.File("rb"), help="An export instead ('-': from a pipe).")
_archive = click.option(
    "--archive", "archived", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Sealed segments."
)
_checkpoints = click.option(
    "--checkpoints",
    "points",
    type=_ANY,
    multiple=True,
    help="A file or folder of signed checkpoints, or of text that has some in it (chat, syslog); several may be.",
)
_keys = click.option("--key", "keys", type=_FILE, multiple=True, help="Public keys whose checkpoints count.")
_kind = click.option("--kind", type=click.Choice([kind.value for kind in Kind]), metavar="KIND", help="Only these.")
_run = click.option("--run", help="Only of this run.")


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
                self.fail(f"{value!r} is neither a time (2026-01-31T12:00:00Z) nor an age (24h)", param, ctx)


_since = click.option("--since", type=_Since(), help="A time (RFC 3339) or an age (30d): only from then on.")


@click.group("audit")
def command() -> None:
    """The audit log: verify, tail, search, export, prove."""


@command.command("verify")
@config_option
@_database
@_export
@_archive
@_checkpoints
@_keys
@click.option("--origin", help="Of which log the checkpoints must be.")
@click.option("--strict", is_flag=True, help="Also check the spelling inside the entries' data (slower).")
@format_option
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
    """Say whether the log is as it was written, or name the first entry that is not, and what is wrong.

    \b
    Examples:
      remediator audit verify --checkpoints /mnt/other/checkpoints --key audit.key.pub
      remediator audit export | remediator audit verify --export -
    """
    notes, known = _notes(points), _verifiers(keys)
    if notes and not known:
        raise click.UsageError("--checkpoints needs --key: a checkpoint is only worth its signature")
    now = SystemClock().now()
    if exported is not None:
        start, rows = export.read(_some(exported))
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
    _report(result, format_)
    if not result.ok:
        raise SystemExit(1)


def _some(exported: IO[bytes]) -> Iterator[bytes]:
    """An export's lines. One without any is what a command that failed has left: nothing is proved by that."""
    lines = iter(exported)
    first = next(lines, None)
    if first is None:
        raise AuditError("the export is empty: there is nothing in it to verify")
    return chain((first,), lines)


def _with_hint(result: Verification, moved: int, segments: Sequence[Segment]) -> Verification:
    """Entries that are said to be in the archive are missing all the same, until somebody shows them."""
    if not moved or result.ok or result.findings[0].problem is not Problem.MISSING:
        return result
    hint = f"The database says that entries 1 to {moved} were moved to the archive"
    if not segments:
        hint += ": give --archive FOLDER."
    elif (result.findings[0].seq or 0) <= moved:
        hint += f"; in {segments[0].path.parent} there is no file that has these."
    return structs.replace(result, remarks=(hint, *result.remarks))


def _report(result: Verification, format_: str) -> None:
    if format_ == "json":
        click.echo(msgspec.json.encode({"ok": result.ok} | msgspec.to_builtins(result)).decode())
        return
    click.echo(result.summary())
    for finding in result.findings[1:]:
        click.echo(f"Also: {finding.message}")
    for remark in result.remarks:
        click.echo(f"Note: {remark}")
    if result.first:
        click.echo(f"Head: entry {result.last}, hash {result.hash}, root {result.root}")


@command.command("tail")
@config_option
@_database
@click.option("-n", "--lines", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many.")
@format_option
def tail(config_path: Path, database: Path | None, lines: int, format_: str) -> None:
    """The newest entries."""
    with audit_log(database, config_path) as reader:
        after = max(0, reader.head().seq - lines)
        for row in reader.entries(after_seq=after):
            _show(row, format_)


@command.command("search")
@config_option
@_database
@_archive
@_run
@_kind
@_since
@click.option("--actor", help="Only by this one.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many.")
@click.argument("text", required=False)
@format_option
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
    """Entries that match every condition; TEXT anywhere in them, whatever its case.

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
                click.echo(f"there is more: these are the first {limit}; --limit or --since shows the rest", err=True)
                return
            _show(row, format_)
            found += 1


def _show(row: SealedEntry, format_: str) -> None:
    if format_ == "json":
        click.echo(export.to_jsonl(row), nl=False)
        return
    entry = export.read_entry(row)
    about = " ".join(part for part in (entry.run or entry.episode, entry.playbook, entry.reason) if part)
    data = msgspec.json.encode(entry.data).decode()
    line = f"{entry.seq:>8}  {entry.written[:19]}Z  {entry.kind:<22} {entry.actor}  {about}  {data}"
    # what others wrote must not steer the terminal
    click.echo("".join(character if character.isprintable() else "�" for character in line))


@command.command("export")
@config_option
@_database
@_archive
@_since
@click.option("--format", "format_", type=click.Choice(["jsonl", "csv", "ocsf"]), default="jsonl", show_default=True)
@output_option
def export_(
    config_path: Path,
    database: Path | None,
    archived: Path | None,
    since: datetime | None,
    format_: str,
    output: Path,
) -> None:
    """The log for others, sealed segments included. Lines of JSON verify by themselves, also when they begin later
    (--since)."""
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
    """All entries from the first one of that time on, and where the log stood before it."""
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
    """A proof, for someone without the log, that ENTRY (a number) is in it (C2SP tlog-proof, to standard output)."""
    note = _covering(_notes(points), _verifiers(keys), entry)
    segments = sealed(archived, database, config_path)
    if segments and segments[0].start.seq:
        raise InputError("a proof needs the log from its first entry on; the archive begins later")
    _, old = archive.join_live(segments, ())
    hashes, canonical = [], b""
    with audit_log(database, config_path) as reader:
        for row in chain(old, reader.entries(after_seq=segments[-1].end.seq if segments else 0)):
            hashes.append(row.hash)
            canonical = row.canonical if row.seq == entry else canonical
    try:
        click.echo(prove(canonical, entry, hashes, note).text(), nl=False)
    except BadProof as error:
        click.echo(f"The audit log does not verify: {error}.", err=True)
        raise SystemExit(1) from error


def _covering(notes: list[str], keys: list[Verifier], entry: int) -> str:
    best: tuple[int, str] | None = None
    for note in notes:
        try:
            point = checkpoint.verify(note, keys)
        except AuditError:
            continue  # "audit verify" is the place that names what is wrong with checkpoints
        if point.size >= entry and (best is None or point.size > best[0]):
            best = point.size, note
    if best is None:
        raise InputError(f"no checkpoint that can be believed covers entry {entry}; give --checkpoints and --key")
    return best[1]


@command.command("check")
@_keys
@click.argument("proof", type=click.File("r", encoding="utf-8"))
@format_option
def check(keys: tuple[Path, ...], proof: IO[str], format_: str) -> None:
    """Check a proof that 'prove' made; needs nothing but the public key."""
    known = _verifiers(keys)
    if not known:
        raise click.UsageError("a proof is checked against a public key: --key")
    parsed = Proof.parse(proof.read())
    try:
        point = parsed.verify(known)
    except (BadProof, BadSignature, UnknownKey) as error:
        click.echo(f"The proof does not hold: {error}.", err=True)
        raise SystemExit(1) from error
    _show_checked(parsed, point, format_)


def _show_checked(proof: Proof, point: Checkpoint, format_: str) -> None:
    if format_ == "json":
        said = {"ok": True, "seq": proof.index + 1, "origin": point.origin, "size": point.size}
        click.echo(msgspec.json.encode(said | {"entry": msgspec.Raw(proof.canonical)}).decode())
        return
    click.echo(f"The proof holds: this is entry {proof.index + 1} of the log {point.origin}.")
    click.echo(proof.canonical.decode("utf-8", "backslashreplace"))


def _verifiers(paths: tuple[Path, ...]) -> list[Verifier]:
    return [key for path in paths for key in audit_keys.load_verifiers(path)]


def _notes(paths: tuple[Path, ...]) -> list[str]:
    return [note for path in paths for note in _found(path)]


def _found(path: Path) -> list[str]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    notes = [note for file in files for note in checkpoint.find_notes(_text(file))]
    if not notes:
        raise InputError(f"{path} holds no signed checkpoint: name of the log, entries, root, then a line '— name …'")
    return notes


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
