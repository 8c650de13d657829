"""Fuzz a running service by its own OpenAPI document, with Schemathesis.

A body or a parameter that the document allows is not refused for its form. One that the document does not allow is
refused. Every answer has its documented form. ``FUZZ=60`` takes about 60 seconds (`make fuzz`). A failure prints the
command that repeats it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from remediator.core.identity import hash_token, make_token
from tests.support.servers.remediator import Remediator

pytestmark = [pytest.mark.promise(8), pytest.mark.fuzz, pytest.mark.long, pytest.mark.process]
SEED = os.environ.get("FUZZ_SEED", "1")
EXAMPLES = max(2, int(float(os.environ.get("FUZZ", "0")) / 4))
"""Generated requests for each operation, in addition to those at the limits of each schema."""
TOKEN = make_token()
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "ignored_auth",
)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Remediator]:
    """Return a service with one run and one person who has all rights."""
    made = Remediator(tmp_path / "remediator")
    platform = {"kind": "supervisor", "url": "unix:///none", "program": "redis"}
    made.inventory |= {"services": {"redis": {"platform": platform}}}
    made.settings |= {"access": {"people": "people.yaml"}}
    person = {"roles": ["admin"], "tokens": [hash_token(TOKEN)]}
    (made.folder / "people.yaml").write_text(yaml.safe_dump({"kind": "People", "people": {"olga": person}}))
    made.start()
    try:
        made.post(made.notification("firing", alertname="RedisDown", severity="critical", service="redis"))
        made.wait_for("escalated")
        yield made
    finally:
        made.stop()


def test_the_running_service_does_what_its_description_says(service: Remediator, tmp_path: Path) -> None:
    """Every answer agrees with the OpenAPI document."""
    argv = [str(Path(sys.executable).with_name("st")), "run", f"{service.url}/api/v1/openapi.json"]
    argv += ["--header", f"Authorization: Bearer {TOKEN}", "--checks", ",".join(CHECKS)]
    argv += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", SEED, "--workers", "1"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:] + service.log[-2_000:]
    assert "Traceback" not in service.log
