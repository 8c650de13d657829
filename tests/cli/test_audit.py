"""The ``remediator audit`` commands on a database, on an export and with checkpoints."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy
from click.testing import CliRunner, Result

from remediator.audit import GENESIS, Draft, Kind, Redactor, Secret, archive, keys
from remediator.cli.audit import command
from remediator.cli.audit_verify import NOT_ANCHORED
from remediator.errors import AuditError, StoreCorrupt
from remediator.storage.audit_writer import append
from tests.support.sample_logs import ORIGIN, SIGNER, START, draft, heads, make, note
from tests.support.stores import new_file

pytestmark = pytest.mark.promise(9)

SIZE = 12
ROWS, HEAD = make(SIZE)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return a database with a log of twelve entries, as the store writes it."""
    path = new_file(tmp_path / "remediator's #1.db")
    engine = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=str(path)))
    with engine.connect() as connection:
        for at in range(0, SIZE, 3):
            drafts = [draft(number, tag="") for number in range(at, at + 3)]
            append(connection, drafts, START + timedelta(seconds=at), Redactor())
        connection.commit()
    engine.dispose()
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Return the file of the public key of the checkpoints."""
    path = tmp_path / "audit.key.pub"
    path.write_text(f"# of {ORIGIN}\n{SIGNER.verifier.encode()}\n")
    return path


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Return a file with checkpoints, as a witness keeps them."""
    path = tmp_path / "checkpoints"
    path.write_text("\n".join(note(heads(ROWS)[size]) for size in (4, 8, SIZE)))
    return path


Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Return a function that runs a command. It raises expected errors, which main() would print."""

    def invoke(*words: object, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(command, [str(word) for word in words], input=stdin)

    return invoke


def _change(database: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def test_an_unchanged_log_verifies(run: Run, database: Path, checkpoints: Path, key: Path) -> None:
    """The command prints the result and the head of the log, and exits with 0."""
    done = run("verify", "--db", database, "--checkpoints", checkpoints, "--key", key)

    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "The audit log verifies: entries 1 to 12 are unchanged, and 3 checkpoints agree.",
        f"Head: entry 12, hash {HEAD.hash.hex()}, root {HEAD.root().hex()}",
    ]


def _attacks() -> Iterator[tuple[str, str, tuple[object, ...], str, int | None]]:
    changed = ROWS[4].canonical.replace(b"redis-down", b"redis-pown")
    yield "content", "UPDATE audit SET canonical = ? WHERE seq = 5", (changed,), "changed", 5
    yield "hash", "UPDATE audit SET hash = ? WHERE seq = 5", (bytes(32),), "changed", 5
    yield "drop", "DELETE FROM audit WHERE seq = 5", (), "missing", 5
    yield "truncate", "DELETE FROM audit WHERE seq > 9", (), "truncated", 10
    yield "hide", "UPDATE audit SET run_id = 'run-x' WHERE seq = 5", (), "mislabelled", 5
    yield "time", "UPDATE audit SET at = at + 1 WHERE seq = 5", (), "mislabelled", 5
    yield "head", "UPDATE audit_head SET seq = 11, tree = ?", (heads(ROWS)[11].tree,), "rewritten", 11
    back = heads(ROWS)[11]
    yield "beyond", "UPDATE audit_head SET seq = 11, hash = ?, tree = ?", (back.hash, back.tree), "rewritten", 12
    yield "everything", "DELETE FROM audit", (), "truncated", 1
    edit = "UPDATE audit SET canonical = replace(canonical, 'reason 4', 'reason 5') WHERE seq = 5"  # keeps the text
    yield "by hand", edit, (), "changed", 5
    yield "hash as text", "UPDATE audit SET hash = hex(hash) WHERE seq = 5", (), "changed", 5
    yield "a number", "UPDATE audit SET canonical = 99999999999999 WHERE seq = 5", (), "changed", 5
    yield "no time", "UPDATE audit SET at = 'soon' WHERE seq = 5", (), "mislabelled", 5
    yield "beyond time", f"UPDATE audit SET at = {2**63 - 1} WHERE seq = 5", (), "mislabelled", 5
    yield "no text", "UPDATE audit SET kind = CAST(x'ff' AS TEXT) WHERE seq = 5", (), "mislabelled", 5


@pytest.mark.parametrize(
    ("statement", "values", "problem", "seq"), [a[1:] for a in _attacks()], ids=[a[0] for a in _attacks()]
)
def test_a_changed_database_is_detected(
    run: Run, database: Path, statement: str, values: tuple[object, ...], problem: str, seq: int
) -> None:
    """Every edit of the tables is found without a checkpoint: exit status 1, with the entry and the problem."""
    _change(database, statement, *values)
    text, said = run("verify", "--db", database, "--strict"), run("verify", "--db", database, "--format", "json")
    found = json.loads(said.stdout)

    assert (text.exit_code, said.exit_code) == (1, 1)
    assert text.stdout.startswith("The audit log does not verify: ")
    assert found["ok"] is False
    assert (found["findings"][0]["problem"], found["findings"][0]["seq"]) == (problem, seq)


@pytest.mark.parametrize("words", [["tail"], ["export", "--format", "csv"], ["export", "--format", "ocsf"]])
def test_an_unreadable_entry_is_named(run: Run, database: Path, words: list[str]) -> None:
    """The error names the unreadable entry and the next action, without a traceback."""
    _change(database, "UPDATE audit SET canonical = replace(canonical, 'reason', 'REASON') WHERE seq = 5")
    error = run(*words, "--db", database).exception
    assert isinstance(error, AuditError)
    assert "cannot read entry 5" in str(error) and "remediator audit verify" in str(error)


@pytest.mark.parametrize("column", ["seq", "hash", "tree"])
def test_an_invalid_head_is_an_error(run: Run, database: Path, column: str) -> None:
    """Text in place of the head of the log raises an expected error."""
    _change(database, f"UPDATE audit_head SET {column} = 'words'")
    assert isinstance(run("verify", "--db", database).exception, StoreCorrupt)


_SENT = [
    (lambda whole: b"\xef\xbb\xbf" + whole, 1, "a byte order mark"),
    (lambda whole: whole.replace(b"\n", b"\r\n"), 1, "ends in CR LF"),
    (lambda whole: whole.decode().encode("utf-16"), 1, "UTF-16"),
    (lambda whole: gzip.compress(whole), 1, "unpack it first"),
    (lambda whole: whole[:-30], 12, "a line that was cut off"),
    (lambda whole: whole + b"\n", 13, "an empty line"),
    (lambda whole: whole.replace(b'"hash":', b'"hash": '), 1, "reformatted after the export"),
    (lambda whole: b"Dear auditor,\n" + whole, 1, "a line that is not JSON"),
    (lambda whole: whole.replace(b'"hash"', b'"hush"'), 1, "not a line of an export"),
]


@pytest.mark.parametrize(("sent", "seq", "what"), _SENT, ids=[item[2] for item in _SENT])
def test_a_changed_export_is_explained(
    run: Run, database: Path, sent: Callable[[bytes], bytes], seq: int, what: str
) -> None:
    """The message distinguishes a forged export from an export that an editor or a mail program changed."""
    done = run("verify", "--export", "-", stdin=sent(run("export", "--db", database).stdout_bytes))
    assert done.exit_code == 1
    assert f"something else in place of entry {seq}" in done.stdout and what in done.stdout.splitlines()[0]


@pytest.mark.parametrize("form", ["csv", "ocsf"])
def test_exports_that_cannot_be_verified_are_recognised(run: Run, database: Path, form: str) -> None:
    """The error about a CSV or OCSF export names the format that can be verified."""
    done = run("verify", "--export", "-", stdin=run("export", "--db", database, "--format", form).stdout_bytes)
    assert done.exit_code == 1 and "--format jsonl" in done.stdout
    assert "give it with --db" in run("verify", "--export", database).stdout


def test_an_empty_export_is_an_error(run: Run, database: Path) -> None:
    """An empty pipe from a failed export is an error. An export from the end of the log gets its own message."""
    assert isinstance(run("verify", "--export", "-", stdin=b"").exception, AuditError)
    part = run("export", "--db", database, "--since", "1s").stdout_bytes
    said = run("verify", "--export", "-", stdin=part).stdout
    assert "there is no entry after 12" in said and "Entries 1 to 12 were not checked" in said


def test_checkpoints_reveal_an_old_copy_of_the_database(run: Run, database: Path, checkpoints: Path, key: Path) -> None:
    """If tables and head are set back together, only a checkpoint stored elsewhere shows it."""
    old = heads(ROWS)[6]
    _change(database, "DELETE FROM audit WHERE seq > 6")
    _change(database, "UPDATE audit_head SET seq = 6, hash = ?, tree = ?", old.hash, old.tree)
    done = run("verify", "--db", database, "--checkpoints", checkpoints, "--key", key)

    assert run("verify", "--db", database).exit_code == NOT_ANCHORED
    assert done.exit_code == 1 and "entries 7 to 12 are missing" in done.stdout and "old copy" in done.stdout


def test_an_export_is_verified_without_the_database(
    run: Run, database: Path, checkpoints: Path, key: Path, tmp_path: Path
) -> None:
    """An export verifies from a file or a pipe, and a changed byte is found."""
    run("export", "--db", database, "--output", tmp_path / "log.jsonl")
    content = (tmp_path / "log.jsonl").read_bytes()
    database.unlink()

    assert run("verify", "--export", tmp_path / "log.jsonl", "--checkpoints", checkpoints, "--key", key).exit_code == 0
    assert run("verify", "--export", "-", stdin=content).exit_code == NOT_ANCHORED
    done = run("verify", "--export", "-", stdin=content.replace(b"reason 4", b"reason 5"))
    assert done.exit_code == 1 and "entry 5 was changed" in done.stdout


def test_an_export_that_begins_later_verifies(run: Run, database: Path, checkpoints: Path, key: Path) -> None:
    """An export with ``--since`` contains the head before its first entry, and agrees with later checkpoints."""
    part = run("export", "--db", database, "--since", "2026-03-01T03:00:06Z").stdout_bytes
    done = run("verify", "--export", "-", "--checkpoints", checkpoints, "--key", key, "--format", "json", stdin=part)

    assert (json.loads(done.stdout)["first"], json.loads(done.stdout)["checkpoints"]) == (7, [8, 12])
    assert run("export", "--db", database, "--since", "1s").stdout_bytes.startswith(b'{"start":{"seq":12,')


def test_archive_and_database_verify_together(
    run: Run, database: Path, checkpoints: Path, key: Path, tmp_path: Path
) -> None:
    """After entries were archived, the log verifies with the archive but not from the database alone."""
    archive.write(tmp_path / "elsewhere", GENESIS, ROWS[:6], heads(ROWS)[6])
    _change(database, "DELETE FROM audit WHERE seq <= 6")
    both = ("verify", "--db", database, "--archive", tmp_path / "elsewhere", "--checkpoints", checkpoints, "--key", key)

    assert run("verify", "--db", database).exit_code == 1
    assert run(*both).exit_code == 0
    _change(database, "DELETE FROM audit WHERE seq = 7")
    assert "entry 7 is missing" in run(*both).stdout


def test_a_proof_is_checked_without_the_log(
    run: Run, database: Path, checkpoints: Path, key: Path, tmp_path: Path
) -> None:
    """A proof verifies without the log, but only with the right key and if it is unchanged."""
    proof = tmp_path / "entry.tlog-proof"
    made = run("prove", "--db", database, "--checkpoints", checkpoints, "--key", key, "7")
    proof.write_text(made.stdout)
    stranger = tmp_path / "stranger.pub"
    keys.create(tmp_path / "stranger", ORIGIN)
    checked = run("check-proof", "--key", key, proof)

    assert (made.exit_code, checked.exit_code) == (0, 0)
    assert checked.stdout.startswith(f"The proof is valid: this is entry 7 of the log {ORIGIN}.\n")
    assert ROWS[6].canonical.decode() in checked.stdout
    assert json.loads(run("check-proof", "--key", key, "--format", "json", proof).stdout)["entry"]["seq"] == 7
    assert run("check-proof", "--key", stranger, proof).exit_code == 1
    proof.write_text(made.stdout.replace("index 6", "index 5"))
    assert run("check-proof", "--key", key, proof).exit_code == 1


def test_a_changed_log_gives_no_proof(run: Run, database: Path, checkpoints: Path, key: Path) -> None:
    """For a changed log, the command exits with 1 and writes nothing to standard output."""
    _change(database, "UPDATE audit SET hash = ? WHERE seq = 3", bytes(32))
    done = run("prove", "--db", database, "--checkpoints", checkpoints, "--key", key, "7")

    assert done.exit_code == 1 and done.stdout == "" and done.stderr.startswith("cannot prove entry 7: ")


def test_tail_and_search_find_entries(run: Run, database: Path) -> None:
    """Search combines all conditions. Its output is text, or JSON that verifies."""
    lines = run("tail", "--db", database, "-n", "3").stdout.splitlines()
    found = run("search", "--db", database, "--run", "run-2", "--format", "json", "REASON 8").stdout.splitlines()

    assert [line.split()[0] for line in lines] == ["10", "11", "12"]
    assert "2026-03-01T03:00:09Z" in lines[0] and "redis-down" in lines[0]
    assert [json.loads(line)["seq"] for line in found] == [9]
    assert run("search", "--db", database, "--kind", ROWS[4].kind).stdout.split()[0] == "5"
    assert run("search", "--db", database, "--since", "2026-03-01T03:00:09Z").stdout.count("\n") == 3
    assert run("search", "--db", database, "--actor", "nobody").stdout == ""
    few = run("search", "--db", database, "--limit", "2")
    assert few.stdout.count("\n") == 2
    assert "only the first 2 entries are shown" in few.stderr
    assert run("search", "--db", database, "--limit", SIZE).stderr == ""


def test_control_characters_are_not_printed(run: Run, database: Path) -> None:
    """The command prints no escape sequence and no line break of a label to the terminal."""
    engine = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=str(database)))
    with engine.connect() as connection:
        evil = Draft(Kind.EVIDENCE, "alertmanager", reason="\x1b[2J\nok\u202e", data={"x": Secret("hunter2")})
        append(connection, [evil], START, Redactor())
        connection.commit()
    engine.dispose()
    [line] = run("tail", "--db", database, "-n", "1").stdout.splitlines()

    assert line.isprintable() and "hunter2" not in line and "[redacted]" in line


def test_export_as_csv_and_ocsf(run: Run, database: Path) -> None:
    """The CSV has a header, and OCSF has one event per line."""
    table = list(csv.DictReader(io.StringIO(run("export", "--db", database, "--format", "csv").stdout, newline="")))
    events = [json.loads(line) for line in run("export", "--db", database, "--format", "ocsf").stdout.splitlines()]

    assert [row["hash"] for row in table] == [row.hash.hex() for row in ROWS]
    assert [event["metadata"]["uid"] for event in events] == [row.hash.hex() for row in ROWS]


def test_the_database_is_only_read(run: Run, database: Path, checkpoints: Path, key: Path) -> None:
    """No command changes a byte of the database."""
    before = database.read_bytes()
    for words in (
        ["verify"],
        ["tail"],
        ["search"],
        ["export"],
        ["prove", "--checkpoints", checkpoints, "--key", key, "3"],
    ):
        done = run(words[0], "--db", database, *words[1:])
        assert done.exit_code == (NOT_ANCHORED if words[0] == "verify" else 0)

    assert database.read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "--db", "nothing.db"],
        ["verify", "--db", "{db}", "--checkpoints", "{points}"],
        ["verify", "--db", "{db}", "--checkpoints", "nowhere"],
        ["search", "--db", "{db}", "--since", "yesterday"],
        ["search", "--db", "{db}", "--kind", "no.such"],
        ["check-proof", "{points}"],
        ["prove", "--db", "{db}", "zero"],
    ],
)
def test_wrong_usage_has_status_2(run: Run, database: Path, checkpoints: Path, words: list[str]) -> None:
    """Missing files, missing keys and invalid values give exit status 2."""
    done = run(*(word.format(db=database, points=checkpoints) for word in words))

    assert done.exit_code == 2, done.output


def test_an_unreadable_database_is_an_expected_error(run: Run, tmp_path: Path, database: Path) -> None:
    """For a missing, damaged or wrong file, main() prints the error and exits with 3."""
    (tmp_path / "plain").write_text("plain text, and long enough to be looked at" * 100)
    (tmp_path / "empty").touch()
    for path in (tmp_path / "plain", tmp_path / "empty"):
        error = run("verify", "--db", path).exception
        assert type(error).__name__ == "StoreUnavailable" and str(path) in str(error)
    assert type(run("verify", "--config", tmp_path / "missing.yaml").exception).__name__ == "ConfigurationError"
