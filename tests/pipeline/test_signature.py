"""Signed bodies: the secret, the time and the body must match, as Grafana signs them."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest

from remediator.pipeline.receive import Credentials, Signature, Unauthorized
from tests.support.servers import grafana

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BODY = grafana.notification(alertname="Down")
TIMED = Signature(
    (b"old-secret", grafana.SECRET.encode()),
    b"x-grafana-alerting-signature",
    b"x-grafana-alerting-timestamp",
    timedelta(minutes=5),
)


def headers(**changed: str) -> list[tuple[bytes, bytes]]:
    more = {name.replace("_", "-"): text for name, text in changed.items()}
    made = {**grafana.signed(BODY, at=NOW.timestamp()), **more}
    return [(name.lower().encode(), value.encode()) for name, value in made.items()]


@pytest.mark.parametrize("off", [-299, 0, 299])
def test_a_signature_of_any_current_secret_is_valid(off: int) -> None:
    """A signature with any current secret is valid within the allowed difference of the clocks."""
    assert TIMED.problem(headers(), BODY, NOW + timedelta(seconds=off)) == ""


@pytest.mark.parametrize(
    ("given", "body", "at", "why"),
    [
        (headers(), BODY + b" ", NOW, "the signature is wrong"),
        (headers(X_Grafana_Alerting_Signature="0" * 64), BODY, NOW, "the signature is wrong"),
        (headers(X_Grafana_Alerting_Signature=""), BODY, NOW, "is missing"),
        ([], BODY, NOW, "the header x-grafana-alerting-signature is missing"),
        (headers(X_Grafana_Alerting_Timestamp="1767225601"), BODY, NOW, "the signature is wrong"),
        (headers(X_Grafana_Alerting_Timestamp="-1"), BODY, NOW, "is not a Unix time"),
        (headers(X_Grafana_Alerting_Timestamp="9" * 5000), BODY, NOW, "is not a Unix time"),
        (headers(), BODY, NOW + timedelta(seconds=301), "too far from the time here"),
        (headers(), BODY, NOW - timedelta(seconds=301), "too far from the time here"),
    ],
)
def test_an_invalid_signature_is_refused(given: list[tuple[bytes, bytes]], body: bytes, at: datetime, why: str) -> None:
    """Another body, secret or time is refused, and so is a request that is sent again later."""
    assert why in TIMED.problem(given, body, at)


def test_a_signature_without_a_time_covers_the_body() -> None:
    """A signature without a time covers the body; its prefix and its case may differ."""
    plain = Signature((b"s3cret-s3cret",), b"x-signature-256")
    digest = hmac.new(b"s3cret-s3cret", BODY, hashlib.sha256).hexdigest()
    for value in (digest, f"sha256={digest}", digest.upper()):
        assert plain.problem([(b"x-signature-256", value.encode())], BODY, NOW) == ""
    assert plain.problem([(b"x-signature-256", digest.encode())], b"other", NOW) == "the signature is wrong"


def test_a_token_and_a_signature_are_both_required() -> None:
    """Both are required, and a request without credentials gets a challenge."""
    both = Credentials({"t": b"token-token"}, None, TIMED, "sources.grafana")
    both.check(b"Bearer token-token")
    with pytest.raises(Unauthorized, match="compare with 'sources\\.grafana'"):
        both.check(b"")
    with pytest.raises(Unauthorized, match="the header x-grafana-alerting-signature is missing: compare with"):
        both.check_signature([], BODY, NOW)
    assert both.challenge == b"Bearer"
    assert Credentials(basic=(b"sns", b"password")).challenge == b'Basic realm="remediator"'
