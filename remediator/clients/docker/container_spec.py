"""The specification of a container that is recreated from another image.

A container's configuration merges its author's settings with those of its image. Only the author's settings are kept,
so that a new image does not run with the command, variables and health check of the old one. Privileges are never
granted.
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
    """The body that creates the new container, and the networks to connect it to afterwards."""

    body: Document
    more_networks: Mapping[str, Document]


def successor_spec(container: Document, its_image: Document, new_image: str) -> ContainerSpec:
    """Return the same container with another image: settings, limits, volumes and networks are kept.

    Args:
        container: the Engine's document of the running container.
        its_image: the Engine's document of its image.
        new_image: name of the new image.

    Raises:
        BadAnswer: the document lacks a required field.
        InputError: the running container has privileges, which are never granted to a new one.
    """
    try:
        config, host = _section(container, "Config"), _section(container, "HostConfig")
        short_id = str(container["Id"])[:12]
        first, more = _networks(_section(_section(container, "NetworkSettings"), "Networks"), host, short_id)
    except KeyError as error:
        raise BadAnswer(f"the Engine's document of the container has no field {error}") from None
    body = {
        **_own(config, its_image.get("Config") or {}, short_id),
        "Image": new_image,
        "HostConfig": {**host, **_storage(host, container.get("Mounts") or [])},
        "NetworkingConfig": {"EndpointsConfig": first},
    }
    check_privileges(body)
    return ContainerSpec(body, more)


def clone_spec(container: Document, its_image: Document) -> ContainerSpec:
    """Return another container like this one, to run beside it, with its own anonymous volumes and addresses.

    Raises:
        BadAnswer: see `successor_spec`.
        InputError: it cannot run twice: it publishes a host port, has a fixed address, or has privileges.
    """
    made = successor_spec(container, its_image, str(_section(container, "Config")["Image"]))
    host, networks = _section(container, "HostConfig"), _section(_section(container, "NetworkSettings"), "Networks")
    if any(binding.get("HostPort") for bindings in (host.get("PortBindings") or {}).values() for binding in bindings):
        raise InputError("the container publishes a port of the host, so a second one cannot run")
    if any((network.get("IPAMConfig") or {}) for network in networks.values()):
        raise InputError("the container has a fixed IP address, so a second one cannot run")
    storage = {"Binds": host.get("Binds"), "Mounts": host.get("Mounts")}
    return ContainerSpec({**made.body, "HostConfig": {**host, **storage}}, made.more_networks)


def with_labels(made: ContainerSpec, labels: Mapping[str, str | None]) -> ContainerSpec:
    """Return the specification with these labels added; None removes a label."""
    both = {**made.body["Labels"], **labels}
    kept = {name: value for name, value in both.items() if value is not None}
    return ContainerSpec({**made.body, "Labels": kept}, made.more_networks)


def check_privileges(body: Document) -> None:
    """Check that a container with this body has no privileges on its host.

    Raises:
        InputError: it has; the message names the setting.
    """
    host = body.get("HostConfig") or {}
    assert isinstance(host, Mapping)
    if host.get("Privileged"):
        raise InputError("privileged containers are not created; recreate it manually")
    for key in _GRANTS:
        if host.get(key):
            raise InputError(f"containers with {key} are not created; recreate it manually")
    for key in _HOST_NAMESPACES:
        if host.get(key) == "host":
            raise InputError(f"containers with {key}=host are not created; recreate it manually")
    for option in host.get("SecurityOpt") or ():
        if "unconfined" in option or "disable" in option:
            raise InputError(f"containers with the security option {option!r} are not created; recreate it manually")
    binds = [bind.split(":", 1)[0] for bind in host.get("Binds") or ()]
    mounts = [mount.get("Source", "") for mount in host.get("Mounts") or () if mount.get("Type") == "bind"]
    for source in [path for path in (*binds, *mounts) if path.startswith("/")]:
        if source.rstrip("/") in ("", *_CLOSED_PATHS) or source.endswith(_SOCKETS):
            raise InputError(f"containers that mount {source!r} of the host are not created; recreate it manually")


def _section(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = document[name]
    if not isinstance(section, dict):
        raise KeyError(name)
    return section


def _own(config: Mapping[str, Any], image: Mapping[str, Any], short_id: str) -> dict[str, Any]:
    """Return the author's settings: the configuration without the values of the image.

    A setting of the author with the same value as in the image counts as the image's.
    """
    own = {key: value for key, value in config.items() if value not in (None, "", image.get(key)) and key != "Image"}
    if own.get("Hostname") == short_id:
        del own["Hostname"]
    if "Entrypoint" in own and config.get("Cmd"):
        own["Cmd"] = config["Cmd"]  # a custom entrypoint resets the command of the image
    given = image.get("Env") or []
    own["Env"] = [variable for variable in config.get("Env") or () if variable not in given]
    for key in ("Labels", "ExposedPorts", "Volumes"):
        theirs = (image.get(key) or {}).items()
        own[key] = dict(item for item in (config.get(key) or {}).items() if item not in theirs)
    return own


def _storage(host: Mapping[str, Any], mounts: Any) -> dict[str, Any]:
    """Return binds and mounts. Anonymous volumes are added by name, so that their content is kept."""
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
    """Return the network to create the container in (from its network mode), and the networks to connect it to."""
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
