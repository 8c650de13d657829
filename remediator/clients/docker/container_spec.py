"""How a container is made again from another image: what is kept, what comes from the image, what is never granted.

A container's configuration is its author's settings laid over the image's own. Only the author's are carried over, so
that a new image is not run with the command, the variables and the health check of the old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediator.clients.docker.models import Document
from remediator.errors import BadAnswer, InputError

_HOST_NAMESPACES = ("PidMode", "IpcMode", "UTSMode", "UsernsMode")
_GRANTS = ("CapAdd", "Devices", "DeviceRequests", "DeviceCgroupRules")
_CLOSED_PATHS = ("/", "/etc", "/root", "/boot", "/dev", "/proc", "/sys", "/usr", "/var/lib/docker", "/run/containerd")
_SOCKETS = ("docker.sock", "containerd.sock", "podman.sock")
_NETWORK_KEYS = ("IPAMConfig", "Links", "DriverOpts", "GwPriority")


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """The body that creates the new container, and the networks it has to be connected to after that."""

    body: Document
    more_networks: Mapping[str, Document]


def successor_spec(container: Document, its_image: Document, new_image: str) -> ContainerSpec:
    """The same container from another image: settings, limits, volumes and networks kept.

    Args:
        container: the running one, as the Engine describes it.
        its_image: the image it was made from, as the Engine describes it.
        new_image: what the new one is to be made from.

    Raises:
        BadAnswer: the description lacks what every Engine says.
        InputError: the running one has privileges, which no new container is given.
    """
    try:
        config, host = _section(container, "Config"), _section(container, "HostConfig")
        short_id = str(container["Id"])[:12]
        first, more = _networks(_section(_section(container, "NetworkSettings"), "Networks"), host, short_id)
    except KeyError as error:
        raise BadAnswer(f"the Engine described a container without {error}") from None
    body = {
        **_own(config, its_image.get("Config") or {}, short_id),
        "Image": new_image,
        "HostConfig": {**host, **_storage(host, container.get("Mounts") or [])},
        "NetworkingConfig": {"EndpointsConfig": first},
    }
    check_privileges(body)
    return ContainerSpec(body, more)


def clone_spec(container: Document, its_image: Document) -> ContainerSpec:
    """One more container like this one, to run beside it: its own anonymous volumes, its own addresses.

    Raises:
        BadAnswer: as `successor_spec` does.
        InputError: there can be only one: it has a port or an address of its own, or privileges.
    """
    made = successor_spec(container, its_image, str(_section(container, "Config")["Image"]))
    host, networks = _section(container, "HostConfig"), _section(_section(container, "NetworkSettings"), "Networks")
    if any(binding.get("HostPort") for bindings in (host.get("PortBindings") or {}).values() for binding in bindings):
        raise InputError("it publishes a port of the host, which a second container cannot have too")
    if any((network.get("IPAMConfig") or {}) for network in networks.values()):
        raise InputError("it has an address of its own, which a second container cannot have too")
    storage = {"Binds": host.get("Binds"), "Mounts": host.get("Mounts")}
    return ContainerSpec({**made.body, "HostConfig": {**host, **storage}}, made.more_networks)


def with_labels(made: ContainerSpec, labels: Mapping[str, str | None]) -> ContainerSpec:
    """The same with these labels besides; None takes one away."""
    both = {**made.body["Labels"], **labels}
    kept = {name: value for name, value in both.items() if value is not None}
    return ContainerSpec({**made.body, "Labels": kept}, made.more_networks)


def check_privileges(body: Document) -> None:
    """Return if a container with this body would have no power over its host.

    Raises:
        InputError: it would; the message names the setting.
    """
    host = body.get("HostConfig") or {}
    assert isinstance(host, Mapping)
    if host.get("Privileged"):
        raise InputError("a privileged container is never created; do it by hand")
    for key in _GRANTS:
        if host.get(key):
            raise InputError(f"a container with {key} is never created; do it by hand")
    for key in _HOST_NAMESPACES:
        if host.get(key) == "host":
            raise InputError(f"a container with {key} host is never created; do it by hand")
    for option in host.get("SecurityOpt") or ():
        if "unconfined" in option or "disable" in option:
            raise InputError(f"a container with the security option {option} is never created; do it by hand")
    for source in _host_paths(host):
        if source.rstrip("/") in ("", *_CLOSED_PATHS) or source.endswith(_SOCKETS):
            raise InputError(f"a container with the host's {source} inside is never created; do it by hand")


def _host_paths(host: Mapping[str, Any]) -> list[str]:
    binds = [bind.split(":", 1)[0] for bind in host.get("Binds") or ()]
    mounts = [mount.get("Source", "") for mount in host.get("Mounts") or () if mount.get("Type") == "bind"]
    return [path for path in (*binds, *mounts) if path.startswith("/")]


def _section(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = document[name]
    if not isinstance(section, dict):
        raise KeyError(name)
    return section


def _own(config: Mapping[str, Any], image: Mapping[str, Any], short_id: str) -> dict[str, Any]:
    """What the container's author set: the configuration without what is the image's.

    A setting that the author made and that says the same as the image cannot be told from the image's.
    """
    own = {key: value for key, value in config.items() if value not in (None, "", image.get(key)) and key != "Image"}
    if own.get("Hostname") == short_id:
        del own["Hostname"]
    if "Entrypoint" in own and config.get("Cmd"):
        own["Cmd"] = config["Cmd"]  # an entrypoint of its own drops the image's command
    given = image.get("Env") or []
    own["Env"] = [variable for variable in config.get("Env") or () if variable not in given]
    for key in ("Labels", "ExposedPorts", "Volumes"):
        theirs = (image.get(key) or {}).items()
        own[key] = dict(item for item in (config.get(key) or {}).items() if item not in theirs)
    return own


def _storage(host: Mapping[str, Any], mounts: Any) -> dict[str, Any]:
    """Binds and mounts, with the volumes that have no name of their own: what is in them is kept."""
    binds = [bind for bind in host.get("Binds") or () if ":" in bind]
    named = [mount for mount in host.get("Mounts") or () if mount.get("Type") != "volume" or mount.get("Source")]
    taken = {bind.split(":")[1] for bind in binds} | {mount["Target"] for mount in named}
    for mount in mounts:
        if mount.get("Type") == "volume" and mount["Destination"] not in taken:
            binds.append(f"{mount['Name']}:{mount['Destination']}" + ("" if mount.get("RW", True) else ":ro"))
    return {"Binds": binds, "Mounts": named}


def _networks(
    networks: Mapping[str, Any], host: Mapping[str, Any], short_id: str
) -> tuple[dict[str, Any], dict[str, Document]]:
    """The network to be born in, which is that of the network mode, and those to be connected to afterwards."""
    settings = {name: _network(network, short_id) for name, network in networks.items()}
    mode = host.get("NetworkMode")
    if mode in ("default", "bridge", "host", "none") or str(mode).startswith("container:"):
        return {}, {name: each for name, each in settings.items() if name not in (mode, "bridge", "host", "none")}
    first = mode if mode in settings else next(iter(settings), None)
    return (
        {name: each for name, each in settings.items() if name == first},
        {name: each for name, each in settings.items() if name != first},
    )


def _network(network: Mapping[str, Any], short_id: str) -> dict[str, Any]:
    kept = {key: network[key] for key in _NETWORK_KEYS if network.get(key)}
    aliases = [alias for alias in network.get("Aliases") or () if alias != short_id]
    return {**kept, "Aliases": aliases} if aliases else kept
