"""The set-up of docs/reliability.md: three replicas on PostgreSQL behind nginx, and two gossiping Alertmanagers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.conftest import MakeInstallation
from tests.support.replicas import CrashingRemediator, counted, succeeded
from tests.support.servers import Server, free_port, require, until
from tests.support.servers.alertmanager import Alertmanager
from tests.support.servers.remediator import ROOT

pytestmark = [pytest.mark.long, pytest.mark.promise(1), pytest.mark.promise(2)]

PAGE = ROOT / "docs" / "reliability.md"
FRAME = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off;
  {temporary}
{block}
}}
"""
CONFIGURATION = """
route:
  receiver: remediator
  group_by: [alertname]
  group_wait: 100ms
  group_interval: 1s
  repeat_interval: 5s
receivers:
  - name: remediator
    webhook_configs:
      - url: http://127.0.0.1:{port}/api/v1/alerts
        http_config: {{authorization: {{credentials: {token}}}}}
"""


class Balancer(Server):
    """nginx with the documented block, on the ports of the test."""

    replicas: list[CrashingRemediator]

    def command(self) -> list[str]:
        """Return the documented command with the addresses of the test."""
        found = re.search(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
        assert found is not None, "the page has no nginx block"
        servers = " ".join(f"server 127.0.0.1:{replica.port};" for replica in self.replicas)
        block = re.sub(r"server 10\.0\.0\.1:8095;.*?8095; }", f"{servers} }}", found[1])
        block = block.replace("listen 8095;", f"listen 127.0.0.1:{self.port};")
        assert servers in block and "10.0.0" not in block
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        path = self.folder / "nginx.conf"
        path.write_text(FRAME.format(folder=self.folder, temporary=temporary, block=block))
        for folder in (self.folder, *self.folder.parents):
            if folder.stat().st_mode & 0o5 != 0o5:
                folder.chmod(folder.stat().st_mode | 0o5)  # if the master of nginx is root, its workers run as nobody
        return [require("nginx"), "-p", str(self.folder), "-c", str(path), "-e", "stderr"]


@pytest.fixture
def balancer(tmp_path: Path) -> Iterator[Balancer]:
    """Return a balancer that is not started."""
    made = Balancer(tmp_path / "balancer")
    yield made
    made.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[Alertmanager]]:
    """Return two Alertmanagers that are not started."""
    made = [Alertmanager(tmp_path / f"alertmanager-{number}") for number in range(2)]
    for one in made:
        one.cluster_port, one.peers = free_port(), made
    yield made
    for one in made:
        one.stop()


def test_a_pair_of_alertmanagers_and_three_replicas_are_one_remedy(
    make_installation: MakeInstallation, postgres_url: str, balancer: Balancer, pair: list[Alertmanager]
) -> None:
    """One alert at both Alertmanagers gives one run and one restart.

    Both post and repeat the alert. One replica is killed, then one Alertmanager. The others still answer.
    """
    installation = make_installation(targets=2, store=postgres_url)
    replicas = [installation.replica() for _ in range(3)]
    for replica in replicas:
        replica.settings["alertmanagers"] = [{"url": one.url} for one in pair]
        replica.start()
    balancer.replicas = replicas
    balancer.start()
    token = (replicas[0].folder / "token").read_text().strip()
    for one in pair:
        one.configuration = CONFIGURATION.format(port=balancer.port, token=token)
        one.start()

    raise_on(pair, "target-0")
    until(lambda: succeeded(replicas[0]) == {"target-0"}, "the first is healed", 180)
    replicas[2].kill()
    pair[1].stop()
    raise_on(pair[:1], "target-1")
    until(lambda: succeeded(replicas[0]) == {"target-0", "target-1"}, "the second is healed", 180)

    until(lambda: counted(postgres_url, "SELECT count(*) FROM notifications") > 4, "they repeat it")

    assert [installation.starts(target) for target in installation.targets] == [2, 2]
    assert counted(postgres_url, "SELECT count(*) FROM runs") == 2
    assert counted(postgres_url, "SELECT count(*) FROM attempts WHERE mutates AND outcome = 'ok'") == 2


def raise_on(pair: list[Alertmanager], target: str) -> None:
    """Send an alert to each Alertmanager, as Prometheus does."""
    for one in pair:
        one.fire(alertname="TargetDown", service=target)
