"""``s3``: checkpoints in a bucket with object lock. Not even the account owner can delete them before they expire.

Requires the extra ``s3`` (boto3). The credential chain of boto3 supports instance roles and workload identities.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from remediator.audit.checkpoint import Checkpoint
from remediator.core.clock import Clock, SystemClock
from remediator.extensions.witnesses.base import Witness, WitnessError, is_latest, parse_note

_ALREADY_STORED = "PreconditionFailed"
_LAST = 10**20 - 1


class S3Witness(Witness):
    """Stores each note as an object, locked in compliance mode.

    Args:
        bucket: name of a bucket with versioning and object lock. Other buckets refuse the request.
        prefix: prefix of the object keys.
        retention: how long a note cannot be deleted.
        endpoint: URL of an S3-compatible server, if it is not AWS.
        region: region, if the environment does not set one.
        clock: clock for the end of the lock.
    """

    kind = "s3"

    def __init__(
        self,
        bucket: str,
        prefix: str = "checkpoints/",
        retention: timedelta = timedelta(days=400),
        endpoint: str | None = None,
        region: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._retention = retention
        self._clock = clock or SystemClock()
        self._client = boto3.session.Session().client("s3", endpoint_url=endpoint, region_name=region)

    async def publish(self, note: str) -> str:
        """See :meth:`Witness.publish`. The key depends only on the note, so a repeated note has the same key."""
        point = parse_note(note)
        try:
            if not is_latest(await asyncio.to_thread(self._newest), note):
                await asyncio.to_thread(self._put, self._key(point, note), note)
        except (ClientError, BotoCoreError) as error:
            raise WitnessError(f"cannot write to bucket {self._bucket!r}: {error}") from error
        return f"s3://{self._bucket}/{self._key(point, note)}"

    async def fetch(self) -> list[str]:
        """See :meth:`Witness.fetch`. It reads all versions, so hidden and overwritten notes count too."""
        try:
            return await asyncio.to_thread(self._all)
        except (ClientError, BotoCoreError) as error:
            raise WitnessError(f"cannot read bucket {self._bucket!r}: {error}") from error

    def _key(self, point: Checkpoint, note: str) -> str:
        # S3 lists keys in ascending order only: with a number that counts down, the newest note comes first
        digest = hashlib.sha256(note.encode()).hexdigest()[:16]
        return f"{self._prefix}{_LAST - point.size:020d}-{point.size}-{digest}"

    def _put(self, key: str, note: str) -> None:
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=note.encode(),
                ContentType="text/plain; charset=utf-8",
                ChecksumAlgorithm="SHA256",
                IfNoneMatch="*",
                ObjectLockMode="COMPLIANCE",
                ObjectLockRetainUntilDate=self._clock.now() + self._retention,
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != _ALREADY_STORED:
                raise

    def _versions(self) -> Iterator[tuple[str, str]]:
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=self._prefix)
        return ((item["Key"], item["VersionId"]) for page in pages for item in page.get("Versions", ()))

    def _read(self, key: str, version: str) -> str:
        answer: dict[str, Any] = self._client.get_object(Bucket=self._bucket, Key=key, VersionId=version)
        content: bytes = answer["Body"].read()
        return content.decode("utf-8", "replace")

    def _newest(self) -> list[str]:
        return [self._read(*found) for found in islice(self._versions(), 1)]

    def _all(self) -> list[str]:
        return [self._read(*found) for found in sorted(self._versions(), reverse=True)]
