"""Checkpoints in a bucket with object lock: nobody, not even its owner, deletes them before their time.

Needs the extra ``s3`` (boto3), whose credential chain also knows instance roles and workload identities.
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
from remediator.extensions.witnesses.base import NotaryError, Witness, agree, parse

_HELD = "PreconditionFailed"
_LAST = 10**20 - 1


class S3Notary(Witness):
    """Puts each note as an object of its own, locked in compliance mode.

    Args:
        bucket: with versioning and object lock on; without, the bucket refuses, and that is an error.
        prefix: of the objects' keys.
        retention: for how long a note cannot be deleted by anyone.
        endpoint: of a server that speaks S3, if it is not Amazon's.
        region: if the environment does not tell.
        clock: tells until when the lock holds.
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
        """See :meth:`Witness.publish`. The key depends on the note alone, so a repeated note finds itself there."""
        point = parse(note)
        try:
            if not agree(await asyncio.to_thread(self._newest), note):
                await asyncio.to_thread(self._put, self._key(point, note), note)
        except (ClientError, BotoCoreError) as error:
            raise NotaryError(f"the bucket {self._bucket} did not take the checkpoint: {error}") from error
        return f"s3://{self._bucket}/{self._key(point, note)}"

    async def fetch(self) -> list[str]:
        """See :meth:`Witness.fetch`. Every version is read: a note that was hidden or written over counts as well."""
        try:
            return await asyncio.to_thread(self._all)
        except (ClientError, BotoCoreError) as error:
            raise NotaryError(f"the bucket {self._bucket} could not be read: {error}") from error

    def _key(self, point: Checkpoint, note: str) -> str:
        # S3 lists keys in their order only: counting down, the newest comes first and is found without the others
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
            if error.response.get("Error", {}).get("Code") != _HELD:
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
