"""Service addresses, names and volumes for a cluster of one node without kube-proxy, DNS and storage.

The node is this machine. Service addresses become addresses of the loopback interface, on which this process forwards
connections to ready pods. DNS queries of pods are redirected to this process, which knows Services and asks the
resolver of this machine for all other names.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.support.servers import cluster_controllers

BRIDGE = "docker0"
_POLL = 0.5
_UNKNOWN_POD = 4.0
"""Seconds to wait for the namespace of a pod. Resolvers ask again after five."""


class ClusterNetwork:
    """Service addresses and names for pods, set up with kubectl.

    Args:
        kubeconfig: the administrator's.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._api = urlsplit(yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
        self._services: dict[tuple[str, str], str] = {}
        self._endpoints: dict[tuple[str, str, str], list[tuple[str, int]]] = {}
        self._namespaces: dict[str, str] = {}
        self._servers: dict[tuple[str, int], socketserver.ThreadingTCPServer] = {}
        self._addresses: set[str] = set()
        self._stopping = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Provide addresses and names until the context ends."""
        with ExitStack() as stack:
            dns = _serve(_Dns, ("0.0.0.0", 0), _handler(self._answer))
            stack.callback(dns.server_close)
            stack.callback(dns.shutdown)
            rule = ["PREROUTING", "-t", "nat", "-i", BRIDGE, "-p", "udp", "--dport", "53", "-j", "REDIRECT"]
            rule += ["--to-ports", str(dns.server_address[1])]
            _run("iptables", "-I", *rule)
            stack.callback(_run, "iptables", "-D", *rule)
            stack.callback(self._close)
            self._refresh()
            thread = threading.Thread(target=self._follow, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(self._stopping.set)
            yield

    def _follow(self) -> None:
        while not self._stopping.wait(_POLL):
            with suppress(subprocess.SubprocessError, OSError):
                self._refresh()

    def _refresh(self) -> None:
        found = json.loads(
            _run("kubectl", f"--kubeconfig={self._kubeconfig}", "get", "svc,ep,pods", "-A", "-o", "json")
        )
        of_kind: dict[str, list[Any]] = {"Service": [], "Endpoints": [], "Pod": []}
        for each in found["items"]:
            of_kind[each["kind"]].append(each)
        self._endpoints = {
            (each["metadata"]["namespace"], each["metadata"]["name"], port.get("name", "")): [
                (address["ip"], port["port"]) for address in subset.get("addresses", ())
            ]
            for each in of_kind["Endpoints"]
            for subset in each.get("subsets", ())
            for port in subset["ports"]
        }
        self._namespaces = {
            each["status"]["podIP"]: each["metadata"]["namespace"]
            for each in of_kind["Pod"]
            if each["status"].get("podIP")
        }
        for each in of_kind["Service"]:
            metadata, spec = each["metadata"], each["spec"]
            if spec.get("clusterIP", "None") == "None":
                continue
            self._services[metadata["name"], metadata["namespace"]] = spec["clusterIP"]
            for port in spec["ports"]:
                self._listen(
                    spec["clusterIP"], port["port"], (metadata["namespace"], metadata["name"], port.get("name", ""))
                )

    def _listen(self, address: str, port: int, backend: tuple[str, str, str]) -> None:
        if (address, port) in self._servers:
            return
        if address not in self._addresses:
            with suppress(subprocess.CalledProcessError):  # left over from a killed run
                _run("ip", "address", "add", f"{address}/32", "dev", "lo")
            self._addresses.add(address)
        handler = _handler(lambda client: self._forward(client.request, backend))
        self._servers[address, port] = _serve(_Tcp, (address, port), handler)

    def _forward(self, client: socket.socket, backend: tuple[str, str, str]) -> None:
        if backend[:2] == ("default", "kubernetes"):
            places = [(str(self._api.hostname), self._api.port or 443)]
        else:
            places = self._endpoints.get(backend, [])
        if not places:
            return  # without a ready pod, the connection ends
        with suppress(OSError), socket.create_connection(random.choice(places), timeout=5) as server:
            server.settimeout(None)
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()

    def _answer(self, query: socketserver.BaseRequestHandler) -> None:
        data, reply = query.request
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode("ascii", "replace").lower())
            at += 1 + data[at]
        name, kind = ".".join(labels), int.from_bytes(data[at + 1 : at + 3], "big")
        address = self._resolve(name.removesuffix(".cluster.local").removesuffix(".svc"), query.client_address[0])
        if address is None:
            reply.sendto(_upstream(data), query.client_address)
            return
        question = data[12 : at + 5]
        record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04" + socket.inet_aton(address) if kind == 1 else b""
        header = data[:2] + b"\x85\x80\x00\x01" + (b"\x00\x01" if record else b"\x00\x00") + b"\x00\x00\x00\x00"
        reply.sendto(header + question + record, query.client_address)

    def _resolve(self, name: str, client: str) -> str | None:
        service, _, namespace = name.partition(".")
        if not namespace:  # the API server learns that a pod runs a moment after the pod's first query
            deadline = time.monotonic() + _UNKNOWN_POD
            while client not in self._namespaces and time.monotonic() < deadline:
                time.sleep(_POLL / 5)
            namespace = self._namespaces.get(client, "")
        return self._services.get((service, namespace))

    def _close(self) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()
        for address in self._addresses:
            _run("ip", "address", "del", f"{address}/32", "dev", "lo")


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


class _Dns(socketserver.ThreadingUDPServer):
    daemon_threads = True


def _handler(handle: Callable[[Any], None]) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            handle(self)

    return Handler


def _serve(kind: Any, address: tuple[str, int], handler: type[socketserver.BaseRequestHandler]) -> Any:
    server = kind(address, handler)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    return server


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _upstream(data: bytes) -> bytes:
    servers = [line.split()[1] for line in Path("/etc/resolv.conf").read_text().splitlines() if "nameserver" in line]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.settimeout(5)
        try:
            asked.sendto(data, (servers[0], 53))
            return asked.recv(4096)
        except (OSError, IndexError):
            return data[:2] + b"\x81\x82" + data[4:]  # SERVFAIL


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout


@contextmanager
def volumes(kubeconfig: Path, *sizes: str, small: str = "") -> Iterator[None]:
    """Provide one volume of each size, as folders of this machine, for claims without a storage class.

    Args:
        kubeconfig: the administrator's.
        sizes: the declared sizes of the volumes.
        small: a declared size. The volume with it has only 96 MiB, so that a test can fill it.
    """
    folder = Path(tempfile.mkdtemp(prefix="volumes-"))
    names, mounted = [], list[Path]()
    for number, size in enumerate(sizes):
        place = folder / str(number)
        place.mkdir()
        if size == small:
            _run("mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(place))
            mounted.append(place)
        place.chmod(0o777)
        names.append(f"{folder.name.replace('_', '-')}-{number}".lower())
        spec = {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(place)},
        }
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": names[-1]}, "spec": spec}
        argv = ["kubectl", f"--kubeconfig={kubeconfig}", "apply", "-f", "-"]
        subprocess.run(argv, input=json.dumps(volume), text=True, check=True, capture_output=True)
    try:
        yield
    finally:
        _run("kubectl", f"--kubeconfig={kubeconfig}", "delete", "pv", *names, "--wait=false")
        for place in mounted:
            _run("umount", "--lazy", str(place))
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run until interrupted, for manual tests: ``python -m tests.support.servers.cluster_network KUBECONFIG``.

    It also starts the controllers that the cluster lacks.
    """
    kubeconfig = Path(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background processes with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        stack.enter_context(suppress(KeyboardInterrupt))
        stack.enter_context(cluster_controllers.running(kubeconfig))
        stack.enter_context(ClusterNetwork(kubeconfig).running())
        stack.enter_context(volumes(kubeconfig, "1Gi", "2Gi", "10Gi", "10Gi"))
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
