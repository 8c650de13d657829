"""Built-in witnesses, one file for each. To add one: write its file and add it to ``BUILTIN``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remediator.core.clock import parse_duration
from remediator.extensions.witnesses.base import Witness, WitnessFactory
from remediator.extensions.witnesses.chat import ChatWitness
from remediator.extensions.witnesses.file import FileWitness
from remediator.extensions.witnesses.git import GitWitness
from remediator.extensions.witnesses.syslog import SyslogWitness


def _s3(settings: Mapping[str, Any]) -> Witness:
    from remediator.extensions.witnesses.s3 import S3Witness  # noqa: PLC0415 - boto3 is part of an extra

    retention = {"retention": parse_duration(str(settings["retention"]))} if "retention" in settings else {}
    return S3Witness(**{**settings, **retention})


BUILTIN: Mapping[str, WitnessFactory] = {
    "chat": lambda settings: ChatWitness(**settings),
    "file": lambda settings: FileWitness(**{**settings, "path": Path(settings["path"])}),
    "git": lambda settings: GitWitness(**{**settings, "repository": Path(settings["repository"])}),
    "s3": _s3,
    "syslog": lambda settings: SyslogWitness(**settings),
}
"""For each kind, a function that creates the witness from its settings."""
