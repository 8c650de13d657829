"""Whether any channel reaches a person."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediator.extensions.notifiers.log import LogNotifier
from remediator.extensions.notifiers.mattermost import MattermostNotifier
from remediator.runtime.notification_reach import reach_problem

pytestmark = pytest.mark.promise(13)


def test_a_log_reaches_nobody() -> None:
    """No channel at all, and a channel that is only a log."""
    assert "the settings have no channels" in reach_problem({})
    assert "infrastructure: log notifies nobody" in reach_problem({"infrastructure": LogNotifier({})})


def test_a_placeholder_reaches_nobody(tmp_path: Path) -> None:
    """The address that the examples have until a person replaces it, in the settings or in its file."""
    (tmp_path / "chat_url").write_text("https://chat.invalid/replace-this-url\n")
    channels = {
        "file": MattermostNotifier({"url_file": str(tmp_path / "chat_url")}),
        "settings": MattermostNotifier({"url": "https://chat.invalid/hooks/1"}),
    }
    assert "file: the host chat.invalid is a placeholder" in reach_problem(channels)
    assert "settings: the host chat.invalid is a placeholder" in reach_problem(channels)


def test_one_channel_is_enough() -> None:
    """A chat beside a log: the log is no problem."""
    channels = {"chat": MattermostNotifier({"url": "https://chat.example.com/hooks/1"}), "log": LogNotifier({})}
    assert reach_problem(channels) == ""
