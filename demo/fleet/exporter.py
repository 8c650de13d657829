"""One exporter for all simulated hosts: unit states with the names of the systemd collector of the node exporter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from demo.http_server import QuietHandler, serve

_SERIES = 'node_systemd_unit_state{{instance="{instance}",service="{host}",name="{unit}",state="failed"}} {value}\n'


@dataclass
class Exporter:
    """An exporter with the state of one unit on every host.

    Args:
        unit: name of the unit.
        instances: ``instance`` label of each host.
        failed: returns the hosts whose unit has failed.
    """

    unit: str
    instances: Mapping[str, str]
    failed: Callable[[], Collection[str]]
    url: str = ""
    false_alarms: set[str] = field(default_factory=set)
    """Hosts whose running unit the exporter reports as failed."""

    def metrics(self) -> str:
        """Return all series in the text format of Prometheus."""
        failed = {*self.failed(), *self.false_alarms}
        return "# TYPE node_systemd_unit_state gauge\n" + "".join(
            _SERIES.format(instance=instance, host=host, unit=self.unit, value=int(host in failed))
            for host, instance in self.instances.items()
        )

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve ``/metrics`` on a free port of loopback, at ``url``."""
        exporter = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                body = exporter.metrics().encode()
                with suppress(ConnectionError):  # Prometheus does not wait longer than its interval
                    self.send_response(200)
                    self.send_header("Content-Type", "text/plain; version=0.0.4")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

        with serve(Handler) as self.url:
            yield
