"""Built-in witnesses, one file for each. To add one: write its file and add it to ``BUILTIN``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remediator.core.clock import parse_duration
from remediator.extensions.witnesses.base import Witness, WitnessFactory
from remediator.extensions.witnesses.chat import ChatNotary
from remediator.extensions.witnesses.file import FileNotary
from remediator.extensions.witnesses.git import GitNotary
from remediator.extensions.witnesses.syslog import SyslogNotary


def _s3(settings: Mapping[str, Any]) -> Witness:
    from remediator.extensions.witnesses.s3 import S3Notary  # noqa: PLC0415 - boto3 is installed with the extra only

    retention = {"retention": parse_duration(str(settings["retention"]))} if "retention" in settings else {}
    return S3Notary(**{**settings, **retention})


BUILTIN: Mapping[str, WitnessFactory] = {
    "chat": lambda settings: ChatNotary(**settings),
    "file": lambda settings: FileNotary(**{**settings, "path": Path(settings["path"])}),
    "git": lambda settings: GitNotary(**{**settings, "repository": Path(settings["repository"])}),
    "s3": _s3,
    "syslog": lambda settings: SyslogNotary(**settings),
}
"""By kind, a function that makes the witness from its settings."""
