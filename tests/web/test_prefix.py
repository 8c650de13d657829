"""Below a path behind nginx (``public_url: https://example.com/ops/remediator``), every link and form stays there."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from remediator.web.url_prefix import prefix_of, without_prefix
from tests.promises.conftest import MakeInstallation
from tests.promises.conftest import make_installation as make_installation
from tests.support.replicas import CrashingRemediator
from tests.support.servers import DEADLINE, Server, require

pytestmark = pytest.mark.promise(14)
PREFIX = "/ops/remediator"
_CONF = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off;
  {temporary}
  server {{
    listen 127.0.0.1:{port};
    location {prefix}/ {{
      proxy_pass http://127.0.0.1:{upstream}{strip};
      proxy_set_header Host $http_host;
      proxy_buffering off;
    }}
  }}
}}
"""


class PrefixNginx(Server):
    """nginx with the service below a path, which nginx passes on or removes."""

    def __init__(self, folder: Path, upstream: int, *, strips: bool) -> None:
        super().__init__(folder)
        self.upstream, self.strips = upstream, strips

    def command(self) -> list[str]:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        conf = self.folder / "nginx.conf"
        strip = "/" if self.strips else ""
        conf.write_text(
            _CONF.format(
                folder=self.folder,
                port=self.port,
                temporary=temporary,
                prefix=PREFIX,
                upstream=self.upstream,
                strip=strip,
            )
        )
        return [require("nginx"), "-p", str(self.folder), "-c", str(conf), "-e", "stderr"]


@pytest.fixture(params=[True, False], ids=["removed by nginx", "passed on by nginx"])
def nginx(request: pytest.FixtureRequest, make_installation: MakeInstallation, tmp_path: Path) -> Iterator[PrefixNginx]:
    """Return a service behind nginx with one run."""
    installation = make_installation()
    replica: CrashingRemediator = installation.replica()
    server = PrefixNginx(tmp_path / "nginx", replica.port, strips=request.param)
    replica.settings["public_url"] = f"http://127.0.0.1:{server.port}{PREFIX}"
    replica.start()
    server.start()
    assert replica.tell("target-0")
    replica.wait_for("succeeded")
    yield server
    server.stop()


@pytest.mark.long
def test_every_link_form_and_file_stays_below_the_path(nginx: PrefixNginx) -> None:
    """From the overview, every link, form and file of every page stays below the path."""
    with httpx.Client(base_url=f"http://127.0.0.1:{nginx.port}", trust_env=False, timeout=DEADLINE) as client:
        seen: set[str] = set()
        left = [f"{PREFIX}/"]
        forms: set[str] = set()
        while left:
            path = left.pop()
            seen.add(path)
            answer = client.get(path)
            assert answer.status_code == 200, path
            if "text/html" not in answer.headers["content-type"]:
                continue
            for kind, link in re.findall(r'\b(href|src|action)="([^"#][^"]*)"', answer.text):
                assert link.startswith(f"{PREFIX}/"), f"{path} has {kind}={link}"
                if kind == "action":
                    forms.add(link)
                elif link not in seen:
                    left.append(link)
        names = {path.removeprefix(PREFIX).split("?")[0].split("/")[1] for path in seen}
        assert names >= {"", "runs", "playbooks", "inventory", "audit", "static", "sign-in"}
        assert any(path.endswith("chart.svg") or "/runs/" in path for path in seen)
        redirected = client.get(f"{PREFIX}/favicon.ico")
        assert redirected.headers["location"] == f"{PREFIX}/static/icon.svg"
        with client.stream("GET", f"{PREFIX}/events") as events:
            assert events.status_code == 200


def test_probes_and_the_webhook_need_no_path(nginx: PrefixNginx) -> None:
    """Probes and the webhook work without the path, directly, and with the path through nginx."""
    for base in (f"http://127.0.0.1:{nginx.upstream}", f"http://127.0.0.1:{nginx.port}{PREFIX}"):
        with urllib.request.urlopen(f"{base}/readyz", timeout=60) as answer:
            assert answer.status == 200
        request = httpx.post(f"{base}/api/v1/alerts", content=b"{}", trust_env=False, timeout=DEADLINE)
        assert request.status_code == 401, "the endpoint is there, and wants its token"


def test_a_path_that_only_begins_like_the_prefix_is_another_one() -> None:
    """The prefix is removed only from the path itself and from paths below it, not from a longer name."""
    assert prefix_of("https://example.com/ops/remediator/") == PREFIX
    assert prefix_of("https://example.com") == ""
    assert without_prefix({"path": f"{PREFIX}-other/x"}, PREFIX) == {"path": f"{PREFIX}-other/x"}
    assert without_prefix({"path": PREFIX}, PREFIX)["path"] == "/"
    assert without_prefix({"path": "/runs"}, PREFIX)["path"] == "/runs"
