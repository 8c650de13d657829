"""Checkpoints in an S3 bucket with object lock."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from remediator.core.clock import SystemClock
from remediator.extensions.witnesses.base import WitnessError
from remediator.extensions.witnesses.s3 import S3Witness
from tests.support.witness_suite import NOTES, NotarySuite

with warnings.catch_warnings():
    # moto warns about a missing extra that S3 does not need
    warnings.simplefilter("ignore")
    from moto.server import ThreadedMotoServer

pytestmark = [
    pytest.mark.long,
    pytest.mark.promise(9),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Start an S3 server in this process, and return its URL."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def client(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a client of the server."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return boto3.session.Session().client("s3", endpoint_url=endpoint)


@pytest.fixture
def bucket(client: Any, request: pytest.FixtureRequest) -> str:
    """Create a bucket with object lock for the test."""
    name = f"bucket-{abs(hash(request.node.nodeid))}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.fixture
def notary(bucket: str, endpoint: str) -> S3Witness:
    """Return a witness with the bucket."""
    return S3Witness(bucket, endpoint=endpoint)


class TestS3Notary(NotarySuite):
    """Run the tests of all witnesses on a bucket."""


async def test_a_note_is_locked(notary: S3Witness, client: Any, bucket: str) -> None:
    """A note is locked in compliance mode for the configured retention, so its deletion is refused."""
    place = await notary.publish(NOTES[3])
    key = place.removeprefix(f"s3://{bucket}/")
    kept = client.head_object(Bucket=bucket, Key=key)
    left = kept["ObjectLockRetainUntilDate"] - SystemClock().now()

    assert kept["ObjectLockMode"] == "COMPLIANCE" and timedelta(days=399) < left <= timedelta(days=400)
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=bucket, Key=key, VersionId=kept["VersionId"])


async def test_a_note_that_was_hidden_is_still_found(notary: S3Witness, client: Any, bucket: str) -> None:
    """A delete marker hides an object from listings; the verification reads the version below it."""
    place = await notary.publish(NOTES[3])
    client.delete_object(Bucket=bucket, Key=place.removeprefix(f"s3://{bucket}/"))

    assert await notary.fetch() == [NOTES[3]]


async def test_a_bucket_without_lock_is_refused(client: Any, endpoint: str) -> None:
    """A bucket without object lock is refused, because its notes could be deleted."""
    client.create_bucket(Bucket="unlocked")

    with pytest.raises(WitnessError, match="cannot write to bucket"):
        await S3Witness("unlocked", endpoint=endpoint).publish(NOTES[3])


async def test_a_missing_bucket_is_an_error(notary: S3Witness, endpoint: str) -> None:
    """If the bucket is missing, writing and reading are errors."""
    missing = S3Witness("missing", endpoint=endpoint)

    with pytest.raises(WitnessError, match="cannot write to bucket"):
        await missing.publish(NOTES[3])
    with pytest.raises(WitnessError, match="cannot read bucket"):
        await missing.fetch()
