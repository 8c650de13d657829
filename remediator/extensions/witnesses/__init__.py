"""Built-in witnesses, one file for each. To add one: write its file and add it to ``BUILTIN``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import Field

from remediator.core.types import Duration, FilePath, Strict
from remediator.extensions.witnesses.base import Witness, WitnessFactory
from remediator.extensions.witnesses.chat import ChatWitness
from remediator.extensions.witnesses.file import FileWitness
from remediator.extensions.witnesses.git import GitWitness
from remediator.extensions.witnesses.syslog import SyslogWitness


class ChatSettings(Strict):
    """A channel of the settings file."""

    channel: str = Field(description="Channel that gets the checkpoints, for example a mailbox.")


class FileSettings(Strict):
    """A file on another volume."""

    path: FilePath = Field(description="File to append to. Its folder must exist.")


class GitSettings(Strict):
    """A Git repository."""

    repository: FilePath = Field(description="Folder of the repository.")
    branch: str = Field(default="checkpoints", description="Branch with one commit for each checkpoint.")
    remote: str | None = Field(default=None, description="Remote to push to. Default: the branch is not pushed.")
    timeout: float = Field(default=30.0, description="Timeout of one command in seconds.")


class S3Settings(Strict):
    """An S3 bucket with object lock."""

    bucket: str = Field(description="Name of the bucket.")
    prefix: str = Field(default="checkpoints/", description="Prefix of the objects.")
    retention: Duration = Field(default=timedelta(days=400), description="How long an object cannot be deleted.")
    endpoint: str | None = Field(default=None, description="URL of the server, if it is not AWS.")
    region: str | None = Field(default=None, description="Region of the bucket.")


class SyslogSettings(Strict):
    """A syslog server."""

    address: str = Field(description="udp://HOST:PORT, tcp://HOST:PORT or unix:/PATH.")


def _s3(settings: Mapping[str, Any]) -> Witness:
    from remediator.extensions.witnesses.s3 import S3Witness  # noqa: PLC0415 - boto3 is part of an extra

    return S3Witness(**settings)


BUILTIN: Mapping[str, WitnessFactory] = {
    "chat": WitnessFactory(ChatSettings, lambda settings: ChatWitness(**settings)),
    "file": WitnessFactory(FileSettings, lambda settings: FileWitness(**settings)),
    "git": WitnessFactory(GitSettings, lambda settings: GitWitness(**settings)),
    "s3": WitnessFactory(S3Settings, _s3),
    "syslog": WitnessFactory(SyslogSettings, lambda settings: SyslogWitness(**settings)),
}
"""The factory of each kind."""
