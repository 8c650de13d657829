"""Checkpoints in a bucket with object lock."""

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
    # it warns that an extra of it is missing, of which S3 needs nothing
    warnings.simplefilter("ignore")
    from moto.server import ThreadedMotoServer

pytestmark = [
    pytest.mark.promise(9),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server that speaks S3, in this process, on a port that the kernel chose."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def client(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return boto3.session.Session().client("s3", endpoint_url=endpoint)


@pytest.fixture
def bucket(client: Any, request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own, with object lock."""
    name = f"bucket-{abs(hash(request.node.nodeid))}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.fixture
def notary(bucket: str, endpoint: str) -> S3Witness:
    """A notary for it."""
    return S3Witness(bucket, endpoint=endpoint)


class TestS3Notary(NotarySuite):
    """The suite, on a bucket."""


async def test_a_note_is_locked(notary: S3Witness, client: Any, bucket: str) -> None:
    """In compliance mode, for the retention that was asked for: deleting it is refused."""
    place = await notary.publish(NOTES[3])
    key = place.removeprefix(f"s3://{bucket}/")
    kept = client.head_object(Bucket=bucket, Key=key)
    left = kept["ObjectLockRetainUntilDate"] - SystemClock().now()

    assert kept["ObjectLockMode"] == "COMPLIANCE" and timedelta(days=399) < left <= timedelta(days=400)
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=bucket, Key=key, VersionId=kept["VersionId"])


async def test_a_note_that_was_hidden_is_still_found(notary: S3Witness, client: Any, bucket: str) -> None:
    """A delete marker hides an object from listings; verification reads the version below it."""
    place = await notary.publish(NOTES[3])
    client.delete_object(Bucket=bucket, Key=place.removeprefix(f"s3://{bucket}/"))

    assert await notary.fetch() == [NOTES[3]]


async def test_a_bucket_without_lock_is_refused(client: Any, endpoint: str) -> None:
    """Where notes could be deleted, keeping them would promise too much."""
    client.create_bucket(Bucket="unlocked")

    with pytest.raises(WitnessError, match="cannot write to bucket"):
        await S3Witness("unlocked", endpoint=endpoint).publish(NOTES[3])


async def test_a_bucket_that_is_not_there_is_said(notary: S3Witness, endpoint: str) -> None:
    """Neither writing nor reading."""
    missing = S3Witness("missing", endpoint=endpoint)

    with pytest.raises(WitnessError, match="cannot write to bucket"):
        await missing.publish(NOTES[3])
    with pytest.raises(WitnessError, match="cannot read bucket"):
        await missing.fetch()
