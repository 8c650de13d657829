"""Fuzz the parsers: for every text, a parser returns a value or raises its own error.

The texts are valid examples with parts replaced, repeated, cut and inserted. ``FUZZ=60`` fuzzes for 60 seconds (`make
fuzz`). The default is a third of a second for each parser. A failure prints the seed, and ``FUZZ_SEED=n`` repeats it.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml

from remediator.audit import checkpoint, export
from remediator.audit.export_diagnosis import describe_line
from remediator.authoring import explain
from remediator.clients.http import Answer
from remediator.clients.prometheus.promql import selectors
from remediator.config import Config
from remediator.core import clock
from remediator.core.alert import Notification, instant, parse_notification, receiver_name
from remediator.core.listen import parse_listen
from remediator.core.matchers import parse_matcher
from remediator.errors import RemediatorError
from remediator.extensions.discoverers import ansible_inventory, file_sd
from remediator.extensions.registry import Registry
from remediator.extensions.sources.grafana import GrafanaSettings, GrafanaSource
from remediator.extensions.sources.json import JsonSettings, JsonSource
from remediator.playbooks import cel
from remediator.playbooks.discovery import AnsibleInventory
from remediator.playbooks.loader import load_playbooks, read_model
from remediator.playbooks.parsing.promql import parse_error
from remediator.playbooks.parsing.yaml_reader import read_bytes
from remediator.storage.url import parse_postgresql_url
from tests.support.servers import grafana
from tests.support.servers.remediator import PLAYBOOK
from tests.support.web_service import WebService

pytestmark = [pytest.mark.promise(8), pytest.mark.fuzz]
Parser = Callable[[bytes, Path], object]
SEED = int(os.environ.get("FUZZ_SEED", time.time_ns() % 2**32))
CATALOGUE = Registry().catalogue()
GRAFANA = GrafanaSource("grafana", GrafanaSettings())
MAPPED = JsonSource(
    "any",
    JsonSettings.model_validate(
        {
            "mapping": {
                "decode": ["m"],
                "status": "body.s",
                "labels": {"alertname": "body.m.a[0]"},
                "labels_from": "body.l",
                "starts_at": "body.t",
            }
        }
    ),
)
NOTIFICATION = {
    "version": "4",
    "receiver": "remediator",
    "truncatedAlerts": 0,
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "RedisDown", "instance": "redis:6379"},
            "annotations": {"summary": "Redis is down"},
            "startsAt": "2026-01-01T00:00:00.123456789+01:00",
            "endsAt": "0001-01-01T00:00:00Z",
        }
    ],
}
SETTINGS = {
    "apiVersion": "remediator/v1",
    "kind": "Config",
    "listen": "127.0.0.1:8095",
    "state": "state",
    "playbooks": ["playbooks"],
    "inventory": "inventory.yaml",
    "webhook": {"token_file": "token", "tokens": {"new": "other"}},
    "channels": {"chat": {"kind": "slack", "token_file": "x", "channel": "C1"}},
    "access": {"proxy": {"addresses": ["10.0.0.0/24", "unix"]}},
    "timing": {"lease": "60s"},
    "sources": {
        "any": {
            "kind": "json",
            "hmac": {"secret_files": ["s"], "header": "X-Signature"},
            "mapping": {"status": "body.s", "labels": {"alertname": "body.n"}},
        }
    },
}


def text(raw: bytes) -> str:
    """Return fuzzed bytes as text."""
    return raw.decode("utf-8", "replace")


def as_file(raw: bytes, folder: Path, name: str) -> Path:
    """Write fuzzed bytes into a file."""
    (folder / name).write_bytes(raw)
    return folder / name


PARSERS: dict[str, tuple[Parser, list[bytes]]] = {
    "notification": (lambda raw, folder: parse_notification(raw), [json.dumps(NOTIFICATION).encode()]),
    "notification of Grafana": (
        lambda raw, folder: (GRAFANA.check(raw), GRAFANA.read(raw)),
        [grafana.notification(alertname="RedisDown", instance="redis:6379")],
    ),
    "JSON of a source": (
        lambda raw, folder: (MAPPED.check(raw), MAPPED.read(raw)),
        [b'{"m": "{\\"a\\": [1, {\\"b\\": null}]}", "s": "firing", "t": 17e8, "l": [{"name": "x", "value": 1}]}'],
    ),
    "mapping": (
        lambda raw, folder: cel.compile_expression(text(raw)).evaluate({"body": {"a": {"b": [1, "x"]}}, "alert": {}}),
        [b'has(body.a) ? body.a.b[1] : "none"', b"body.a.b.filter(x, x > 3)[0]"],
    ),
    "playbook": (
        lambda raw, folder: load_playbooks([as_file(raw, folder, "redis-down.yaml")], CATALOGUE, None),
        [yaml.safe_dump(PLAYBOOK).encode()],
    ),
    "YAML": (lambda raw, folder: read_bytes(raw, "x.yaml"), [b"a: [1, {b: 'c'}]\nd: |\n  text\n", b"? [x]\n: &a *a\n"]),
    "condition": (
        lambda raw, folder: cel.compile(text(raw)).evaluate({"evidence": {"a": {"facts": {"l": [1], "t": "x"}}}}),
        [b"evidence.a.facts.l.exists(x, x > 3) && !('a' in params.p)", b'target.name == "redis" ? 1 < 2 : true'],
    ),
    "matcher": (lambda raw, folder: parse_matcher(text(raw)), [b'severity=~"critical|warn.*"', b"env != prod"]),
    "PromQL": (
        lambda raw, folder: (parse_error(text(raw), {}), selectors(text(raw))),
        [b'sum by (job) (rate(up{job=~"a.*"}[5m])) > 3 # comment', b"max_over_time(up[60:5] offset -1e3)"],
    ),
    "time": (lambda raw, folder: instant(text(raw)), [b"2026-01-01T00:00:00.123456789+01:00", b"0001-01-01T00:00:00Z"]),
    "duration": (
        lambda raw, folder: (clock.before(datetime.now(UTC), text(raw)), clock.is_duration(text(raw))),
        [b"1h30m", b"250ms"],
    ),
    "receiver": (lambda raw, folder: receiver_name(text(raw)), [b"team/remediator/webhook[0]"]),
    "settings": (
        lambda raw, folder: read_model(as_file(raw, folder, "remediator.yaml"), Config),
        [yaml.safe_dump(SETTINGS).encode()],
    ),
    "address": (lambda raw, folder: parse_listen(text(raw)), [b"127.0.0.1:8095", b"[::1]:80", b"unix:/run/x.sock"]),
    "database URL": (
        lambda raw, folder: parse_postgresql_url(text(raw)),
        [b"postgresql://u:p@a:1,b:2/d?sslmode=require", b"postgresql:///d?host=/run"],
    ),
    "checkpoint": (
        lambda raw, folder: list(checkpoint.find_notes(text(raw))),
        [b"log\n5\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\xe2\x80\x94 log AAAA\n", b'{"text": "a"}'],
    ),
    "alert of a command": (lambda raw, folder: explain.read_alert(text(raw)), [json.dumps(NOTIFICATION).encode()]),
    "targets of Prometheus": (
        lambda raw, folder: list(file_sd._groups([as_file(raw, folder, "targets.json")])),
        [b'[{"targets": ["redis:6379"], "labels": {"job": "redis"}}]'],
    ),
    "inventory of Ansible": (
        lambda raw, folder: ansible_inventory._hosts(
            AnsibleInventory.model_construct(file=as_file(raw, folder, "inventory.json"), groups=("web",))
        ),
        [b'{"_meta": {"hostvars": {"a": {"ansible_host": "10.0.0.1"}}}, "web": {"hosts": ["a"], "children": []}}'],
    ),
    "answer of a server": (
        lambda raw, folder: Answer("GET /", 200, {}, raw).json(Notification),
        [json.dumps(NOTIFICATION).encode()],
    ),
    "line of an export": (lambda raw, folder: describe_line(raw), [b'{"seq":1,"hash":"00","entry":{"v":1}}\n']),
    "export": (
        lambda raw, folder: list(export.read(raw.splitlines(keepends=True))[1]),
        [b'{"seq":1,"hash":"' + b"0" * 64 + b'","entry":{"v":1}}\n', b'{"start":{"seq":12,"hash":"00","tree":""}}\n'],
    ),
}
PIECES = [
    *(b"", b"\0", b"\xff", b"\n", b"\r\n", b"\t", b"'", b'"', b"\\", b"{", b"}", b"[", b"]", b"(", b")", b"&a ", b"*a"),
    *(
        b"!!python/object:os.system ",
        b"<<: ",
        b"---\n",
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"NaN",
        b"99999999999999999999",
    ),
    *(
        "\u202e\u2028\ud7ff\U0010ffff".encode(),
        b"${x}",
        b"$${x}",
        b"%s",
        b"../../etc/passwd",
        b"#",
        b"//",
        b"=~",
        b":",
        b",",
    ),
    *(b"0001-01-01T00:00:00Z", b"9999-12-31T23:59:60Z", b"+99:99", b"(" * 500, b"[" * 500, b"a" * 5000, b"- " * 300),
    *(b"[" * 3000, b'{"a":' * 3000),
]


def mutated(raw: bytes, random_: random.Random) -> bytes:
    """Return an example with a few changes."""
    for _ in range(random_.randint(1, 6)):
        start, end = sorted(random_.randint(0, len(raw)) for _ in range(2))
        end = min(end, start + random_.choice((0, 1, 3, 40)))
        piece = random_.choice((random_.choice(PIECES), raw[start:end] * random_.randint(2, 9), random_.randbytes(3)))
        raw = raw[:start] + piece + raw[end:]
    return raw[:100_000]


LEAST = 20
"""Minimum number of inputs for each parser and for the pages, however slow the machine is."""


def fuzz_seconds() -> float:
    """Return the time for one parser in seconds."""
    return float(os.environ.get("FUZZ", (len(PARSERS) + 1) / 3)) / (len(PARSERS) + 1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_returns_a_value_or_its_own_error(name: str, tmp_path: Path) -> None:
    """A parser raises no other exception, and no input takes longer than two seconds."""
    parse, examples = PARSERS[name]
    end, number = time.monotonic() + fuzz_seconds(), 0
    while number < LEAST or time.monotonic() < end:
        number += 1
        random_ = random.Random(f"{SEED}.{number}")
        raw = mutated(random_.choice(examples), random_)
        began = time.process_time()
        try:
            parse(raw, tmp_path)
        except RemediatorError as error:
            assert str(error)
        except Exception as error:
            raise AssertionError(f"{name}: FUZZ_SEED={SEED}, input {number}: {raw[:500]!r}: {error!r}") from error
        taken = time.process_time() - began
        assert taken < 2, f"{name}: FUZZ_SEED={SEED}, input {number} took {taken:.1f} s of CPU: {raw[:500]!r}"


async def test_forms_and_bodies_get_an_answer(web: WebService) -> None:
    """Slack forms, JSON bodies and pages never get a 5xx or a traceback."""
    payload = {"payload": json.dumps({"actions": [{"value": "x"}], "user": {"id": "U1"}, "response_url": "https://x"})}
    targets = [
        ("POST", "/api/v1/slack/interactions", urlencode(payload).encode()),
        ("POST", "/api/v1/alerts", json.dumps(NOTIFICATION).encode()),
        ("POST", "/api/v1/stops", b'{"reason": "x", "scope": "global", "duration": "1h"}'),
        ("POST", "/sign-in", b"token=x&next=/"),
        ("GET", "/approve/x.y.z", b""),
        ("GET", "/api/v1/runs?limit=5&status=running&before=x", b""),
    ]
    end, number = time.monotonic() + fuzz_seconds(), 0
    async with web.client() as client:
        while number < LEAST or time.monotonic() < end:
            number += 1
            random_ = random.Random(f"{SEED}.{number}")
            method, path, body = random_.choice(targets)
            headers = {"Content-Type": random_.choice(("application/json", "application/x-www-form-urlencoded"))}
            if body:
                body = mutated(body, random_)
            else:
                path = "/" + "".join(chr(each) for each in mutated(path[1:].encode(), random_) if 32 < each < 127)[:500]
            answer = await client.request(method, f"http://remediator.test{path}", content=body, headers=headers)
            what = f"FUZZ_SEED={SEED}, request {number}: {method} {path} {body[:300]!r}: {answer.status_code}"
            assert answer.status_code < 500, what
            assert "Traceback" not in answer.text, what
