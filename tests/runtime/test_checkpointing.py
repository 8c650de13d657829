"""A witness that fails or hangs does not keep the checkpoint from the other witnesses, and is recorded."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from remediator.audit.signed_note import Signer
from remediator.extensions.witnesses.base import Witness, WitnessError
from remediator.runtime import checkpointing
from remediator.runtime.checkpointing import CheckpointSettings, create_checkpoint
from remediator.storage.repositories import audit
from tests.support.web_service import WebService

pytestmark = pytest.mark.promise(14)


class _Place(Witness):
    kind = "test"

    def __init__(self, error: BaseException | None = None, *, hangs: bool = False) -> None:
        self.error, self.hangs = error, hangs
        self.notes: list[str] = []

    async def publish(self, note: str) -> str:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        self.notes.append(note)
        return "here"

    async def fetch(self) -> list[str]:
        return self.notes


@pytest.mark.parametrize(
    "place",
    [_Place(hangs=True), _Place(WitnessError("refused")), _Place(ValueError("a defect")), _Place(OSError(28, "full"))],
    ids=["hangs", "refuses", "defect", "disk full"],
)
async def test_a_failed_witness_does_not_keep_others_from_the_checkpoint(
    web: WebService, monkeypatch: pytest.MonkeyPatch, place: _Place
) -> None:
    """If one witness hangs or fails, the others get the checkpoint, and the audit log records the failure."""
    monkeypatch.setattr(checkpointing, "PUBLISH_TIMEOUT", 0.1)
    good, results = _Place(), dict[str, str]()
    settings = CheckpointSettings(
        "remediator/test",
        Signer.generate("remediator/test"),
        {"bad": place, "good": good},
        10,
        timedelta(minutes=1),
        on_result=lambda name, error: results.update({name: error}),
    )
    await web.request_approval()
    await create_checkpoint(web.context, settings, await web.context.store.read(audit.get_head))
    assert len(good.notes) == 1
    assert results["bad"]
    assert not results["good"]
    assert "checkpoint.failed" in await web.audit_text()
