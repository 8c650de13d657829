"""The check whether any channel reaches a person."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediator.extensions.notifiers.log import LogNotifier
from remediator.extensions.notifiers.mattermost import MattermostNotifier
from remediator.runtime.notification_reach import reach_problem

pytestmark = pytest.mark.promise(13)


def test_a_log_reaches_no_person() -> None:
    """Without any channel, and with a log as the only channel, no person is reached."""
    assert "the settings have no channels" in reach_problem({})
    assert "infrastructure: log notifies nobody" in reach_problem({"infrastructure": LogNotifier({})})


def test_a_placeholder_reaches_no_person(tmp_path: Path) -> None:
    """The example address counts as no channel, in the settings and in a file."""
    (tmp_path / "chat_url").write_text("https://chat.invalid/replace-this-url\n")
    channels = {
        "file": MattermostNotifier({"url_file": str(tmp_path / "chat_url")}),
        "settings": MattermostNotifier({"url": "https://chat.invalid/hooks/1"}),
    }
    assert "file: the host chat.invalid is a placeholder" in reach_problem(channels)
    assert "settings: the host chat.invalid is a placeholder" in reach_problem(channels)


def test_one_channel_is_enough() -> None:
    """A chat is sufficient; a log beside it is no problem."""
    channels = {"chat": MattermostNotifier({"url": "https://chat.example.com/hooks/1"}), "log": LogNotifier({})}
    assert reach_problem(channels) == ""
