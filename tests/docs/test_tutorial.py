"""The tutorials work exactly as written: this test writes their files and runs their commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tutorials import TUTORIALS, Tutorial


@pytest.mark.long
@pytest.mark.parametrize("name", TUTORIALS)
def test_every_command_of_the_tutorial_works(tmp_path: Path, name: str) -> None:
    """Every command succeeds in order, and every line of an expected output appears."""
    tutorial = Tutorial(name, tmp_path)
    lines = list(tutorial.run())
    assert tutorial.status == 0, "\n".join(line.text for line in lines)
    assert any(block.expected for block in tutorial.blocks)
    for number, block in enumerate(tutorial.blocks):
        shown = "\n".join(line.text for line in lines if line.block == number)
        for expected in block.expected:
            assert expected in shown, f"{expected!r} is not in:\n{shown}"
