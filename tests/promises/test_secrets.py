"""No secret leaves the service: every place for a secret gets a recognisable one, and all output is searched."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests.support.servers import until
from tests.support.servers.receivers import Receiver, receiver
from tests.support.servers.remediator import PLAYBOOK, ROOT, TOKEN, Stack

pytestmark = [pytest.mark.long, pytest.mark.promise(11)]

FILES = {
    "redis.password": "seeded/redis+pass word1",
    "chat.token": "seeded-chat-token-2",
    "chat.secret": "seeded-chat-signing-3",
}
"""Files that the settings and the inventory name, with their contents."""
OPERATOR = "rmo_seeded0operator0token0number4"
IN_DATA = {
    "url": "seededpass5",
    "bearer": "seeded0bearer0value6",
    "github": "ghp_seeded0github0token0007",
    "aws": "AKIASEEDED0KEY000008",
    "field": "seeded-field-value-9",
}
"""Secrets in labels, annotations and logs, which the remediator can recognise only by their form."""
TEXT = (
    f"cannot reach redis://app:{IN_DATA['url']}@cache:6379/0, Authorization: Bearer {IN_DATA['bearer']}\\n"
    f"key {IN_DATA['aws']}, {IN_DATA['github']}, password={IN_DATA['field']}"
)

TOLD = (b"redis-down", b"Approved by ann", b"cannot reach redis://app:[redacted]@cache", b"requirepass [redacted]")
"""Texts that must be found, which proves that the search covered the places of the secrets."""


@pytest.fixture
def chat() -> Iterator[Receiver]:
    """Return the receiver of messages to people."""
    with receiver() as made:
        yield made


@pytest.fixture
def seeded(tmp_path: Path, chat: Receiver) -> Iterator[Stack]:
    """Return the small real stack with a secret in every place."""
    made = Stack(tmp_path)
    remediator = made.remediator
    for name, value in FILES.items():
        (remediator.folder / name).write_text(value)
    password = FILES["redis.password"]
    redis = f"redis-server --port {made.redis_port} --bind 127.0.0.1 --dir {tmp_path} --save ''"
    start = tmp_path / "start.sh"
    says = f"sleep 1; printf '%b\\n' '{TEXT}'; echo 'requirepass {password}'"  # after the first log line of this start
    start.write_text(f"({says}) & exec {redis} --requirepass '{password}'")
    made.supervisord.program("redis", f"sh {start}", "startsecs=1", "stopwaitsecs=2")
    remediator.inventory["services"]["redis"]["redis"]["password_file"] = "redis.password"
    remediator.playbooks = [{**PLAYBOOK, "mode": "approve", "approval": {"groups": ["sre"], "expires": "10m"}}]
    files = {"token_file": "chat.token", "secret_file": "chat.secret"}
    remediator.settings["channels"] = {
        name: {"kind": "webhook", "url": f"{chat.url}/{name}", **files} for name in ("chat", "infrastructure")
    }
    remediator.settings["approvals"] = {"channels": ["chat"]}
    remediator.settings["access"] = {"people": "people.yaml", "anonymous_role": "viewer"}
    remediator.settings["log"] = {"format": "json", "level": "debug"}
    remediator.settings["audit"] = {
        "checkpoint_entries": 10,
        "checkpoint_interval": "1s",
        "checkpoints": [{"kind": "file", "path": "points"}],
    }
    ann = {"roles": ["admin"], "groups": ["sre"], "tokens": [hashlib.sha256(OPERATOR.encode()).hexdigest()]}
    (remediator.folder / "people.yaml").write_text(yaml.safe_dump({"kind": "People", "people": {"ann": ann}}))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _spelled(secret: str) -> set[bytes]:
    """Return the forms of a secret in text, JSON, HTML, URLs and base64."""
    raw = secret.encode()
    return {raw, json.dumps(secret)[1:-1].encode(), quote(secret, safe="").encode(), b64encode(raw).rstrip(b"=")}


def _found(secrets: dict[str, str], written: dict[str, bytes]) -> list[str]:
    return [
        f"{name} in {where}"
        for name, secret in secrets.items()
        for where, content in written.items()
        if any(form in content for form in _spelled(secret))
    ]


def _healed(stack: Stack) -> dict[str, Any]:
    """Kill Redis, send an alert full of secrets, approve with ann's token, and wait until Redis is back."""
    stack.kill_redis()
    remediator = stack.remediator
    labels = {"alertname": "RedisDown", "instance": "redis:6379", "note": IN_DATA["github"]}
    source = f"http://ann:{IN_DATA['url']}@prometheus:9090/graph"
    annotations = {"summary": TEXT.replace("\\n", "\n")}
    stack.alertmanager.send(labels=labels, annotations=annotations, generatorURL=source)
    assert remediator.post(remediator.notification("firing", **labels), token=IN_DATA["bearer"])[0] == 401
    run = remediator.wait_for("awaiting_approval")
    [asked] = remediator.get("/api/v1/approvals")
    word = json.dumps({"plan_hash": asked["plan_hash"], "reason": "seen"}).encode()
    said = remediator.post(word, f"/api/v1/approvals/{asked['id']}/approve", OPERATOR)
    assert said[0] == 200, said
    remediator.wait_for("succeeded")
    return run


def _tables(path: Path) -> Iterator[tuple[str, bytes]]:
    """Return every column of the database as it is stored."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            rows = connection.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in rows.description]
            content: dict[str, list[bytes]] = {name: [] for name in names}
            for row in rows:
                for name, value in zip(names, row, strict=True):
                    content[name].append(value if isinstance(value, bytes) else str(value).encode())
            yield from ((f"table {table}.{name}", b"\n".join(values)) for name, values in content.items())


def _pages(stack: Stack, run: str) -> Iterator[tuple[str, bytes]]:
    paths = ["/", "/runs", f"/runs/{run}", "/playbooks", "/audit", "/inventory", "/metrics"]
    paths += ["/readyz", f"/api/v1/runs/{run}", "/api/v1/runs", "/api/v1/openapi.json"]
    for path in paths:
        for as_ann in ({}, {"Authorization": f"Bearer {OPERATOR}"}):
            request = urllib.request.Request(f"{stack.remediator.url}{path}", headers=as_ann)
            with urllib.request.urlopen(request, timeout=30) as answer:
                yield f"page {path}", answer.read()


def _said(stack: Stack, run: str) -> Iterator[tuple[str, bytes]]:
    commands = [
        *(("audit", "export", "--format", form) for form in ("jsonl", "csv", "ocsf")),
        *(("report", "--since", "1d", "--format", form) for form in ("html", "md", "json")),
        *(("run", "timeline", run, "--format", form) for form in ("html", "md")),
        ("audit", "tail", "-n", "1000"),
        ("run", "show", run),
    ]
    for words in commands:
        argv = [sys.executable, "-m", "remediator", *words, "--config", str(stack.remediator.config)]
        done = subprocess.run(argv, capture_output=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
        yield f"command {' '.join(words)}", done.stdout + done.stderr


def test_a_search_of_everything_finds_no_seeded_secret(seeded: Stack, chat: Receiver) -> None:
    """After a run that used every secret, no secret is found in any output.

    The search covers database, logs, messages, pages, API, metrics, exports, report, timeline and checkpoints. Other
    secrets were in labels, annotations and logs.
    """
    run = _healed(seeded)["id"]
    state = seeded.remediator.folder / "state"
    until(lambda: (seeded.remediator.folder / "points").exists(), "a checkpoint is published")
    until(lambda: len(chat.received) >= 2, "people were told")
    written = dict(_tables(state / "remediator.db"))
    written |= dict(_pages(seeded, run)) | dict(_said(seeded, run))
    written |= {f"message {n}": one.path.encode() + b"\n" + one.body for n, one in enumerate(chat.received)}
    written["log"] = seeded.remediator.log.encode()
    written["checkpoints"] = (seeded.remediator.folder / "points").read_bytes()
    own = {path.name: path.read_text().strip() for path in state.glob("*.key")}

    found = _found({**FILES, "webhook": TOKEN, "operator": OPERATOR, **own, **IN_DATA}, written)
    assert not found, "\n".join(found)
    assert [word for word in TOLD if not any(word in content for content in written.values())] == []
