"""Tests of the behaviour that every notary must have, run on each implementation that can be read back."""

from __future__ import annotations

import pytest

from remediator.audit import BadNote
from remediator.extensions.witnesses.base import Witness, WitnessConflict
from tests.support.sample_logs import check, heads, make, note

ROWS, HEAD = make(12)
HEADS = heads(ROWS)
NOTES = [note(head) for head in HEADS]
OTHERS = [note(head) for head in heads(make(12, tag="other")[0])]


class NotarySuite:
    """Tests of a notary. Subclasses define a fixture ``notary``."""

    async def test_what_is_published_is_kept(self, notary: Witness) -> None:
        """Published notes are returned unchanged, oldest first, and verify the log."""
        for size in (3, 7, 12):
            assert await notary.publish(NOTES[size])

        assert await notary.fetch() == [NOTES[3], NOTES[7], NOTES[12]]
        assert check(ROWS, *(await notary.fetch())).checkpoints == (3, 7, 12)

    async def test_nothing_is_kept_at_first(self, notary: Witness) -> None:
        """An empty place is not an error."""
        assert await notary.fetch() == []

    async def test_publishing_again_changes_nothing(self, notary: Witness) -> None:
        """After a crash it is unknown whether a note was stored, so publishing it again is harmless."""
        places = [await notary.publish(NOTES[5]) for _ in range(3)]

        assert await notary.fetch() == [NOTES[5]]
        assert len(set(places)) == 1

    async def test_a_database_that_was_set_back_is_noticed(self, notary: Witness) -> None:
        """A checkpoint of fewer entries than the stored ones is refused."""
        await notary.publish(NOTES[9])

        with pytest.raises(WitnessConflict, match="has 9 entries, this one has 8"):
            await notary.publish(NOTES[8])
        assert await notary.fetch() == [NOTES[9]]

    async def test_a_log_that_was_rewritten_is_noticed(self, notary: Witness) -> None:
        """A checkpoint of the same size with another root is refused."""
        await notary.publish(NOTES[9])

        with pytest.raises(WitnessConflict, match="rewritten"):
            await notary.publish(OTHERS[9])
        assert await notary.fetch() == [NOTES[9]]

    async def test_only_checkpoints_are_kept(self, notary: Witness) -> None:
        """Any text that is not a checkpoint is refused before it is stored."""
        for text in ("", "text\n", NOTES[3][:-1], NOTES[3].replace("\n\n", "\n")):
            with pytest.raises(BadNote):
                await notary.publish(text)
        assert await notary.fetch() == []
