"""``file_sd``: targets in files, in the format of ``file_sd_configs`` in Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import yaml

from remediator.core import untrusted_json
from remediator.core.local_files import open_regular
from remediator.core.sizes import MEBIBYTE
from remediator.errors import InputError
from remediator.extensions.discoverers.base import Discoverer, Labels, TargetGroup, targets_of
from remediator.playbooks.discovery import FileSd

_MAX_BYTES = 64 * MEBIBYTE


class FileSdDiscoverer(Discoverer):
    """Reads JSON and YAML files."""

    kind = "file_sd"

    async def find(self, discovery: FileSd) -> Sequence[Labels]:
        return await asyncio.to_thread(lambda: targets_of(_groups(discovery.files)))


def _groups(paths: Sequence[Path]) -> Iterator[TargetGroup]:
    for path in paths:
        files = sorted(path.parent.glob(path.name))
        if not files:
            raise InputError(f"{path}: no such file")
        for file in files:
            with open_regular(file) as opened:
                content = opened.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                raise InputError(f"{file}: longer than {_MAX_BYTES // MEBIBYTE} MiB")
            try:
                if file.suffix == ".json":
                    groups = untrusted_json.decode(content, list[TargetGroup])
                else:
                    groups = msgspec.convert(yaml.safe_load(content), type=list[TargetGroup])
            except (ValueError, RecursionError, yaml.YAMLError) as error:
                short = " ".join(str(error).split())
                expected = '[{"targets": ["host:port"], "labels": {…}}]'
                raise InputError(f"{file}: expected {expected}: {short}") from None
            yield from groups
