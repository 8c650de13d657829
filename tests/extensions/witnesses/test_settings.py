"""Witnesses as the settings file defines them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
import yaml

from remediator.config import Config
from remediator.errors import ConfigurationError
from remediator.extensions.registry import Registry
from remediator.extensions.witnesses.file import FileWitness
from remediator.playbooks.loader import load_config
from tests.support.witness_suite import NOTES


def configured(folder: Path, *places: dict[str, Any]) -> Config:
    """Return a loaded settings file with these witnesses."""
    data = {
        "apiVersion": "remediator/v1",
        "kind": "Config",
        "state": "state",
        "playbooks": [],
        "inventory": "inventory.yaml",
        "channels": {
            "audit-mail": {"kind": "mattermost", "url": "https://chat.example/hooks/x"},
            "log": {"kind": "log"},
        },
        "audit": {"checkpoints": list(places)},
    }
    (folder / "remediator.yaml").write_text(yaml.safe_dump(data))
    return load_config(folder / "remediator.yaml", Config)


async def test_a_relative_path_is_beside_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is relative to the settings file, not to the working folder."""
    monkeypatch.chdir("/")
    config = configured(tmp_path, {"kind": "file", "path": "notes"}, {"kind": "git", "repository": "notes.git"})
    made = Registry().make_witnesses(config.audit.checkpoints, config.channels)
    assert isinstance(made["file-1"], FileWitness)
    assert await made["file-1"].publish(NOTES[3]) == str(tmp_path / "notes")
    await made["git-2"].publish(NOTES[3])
    assert (tmp_path / "notes.git").is_dir()


def test_a_duration_has_the_usual_syntax(tmp_path: Path) -> None:
    """The duration has the same syntax as in other settings; an invalid one is an error with its place."""
    config = configured(tmp_path, {"kind": "s3", "bucket": "b", "region": "eu-central-1", "retention": "30d"})
    [made] = Registry().make_witnesses(config.audit.checkpoints, {}).values()
    assert made._retention == timedelta(days=30)  # type: ignore[attr-defined]
    wrong = configured(tmp_path, {"kind": "s3", "bucket": "b", "retention": "a month"})
    with pytest.raises(ConfigurationError, match=r"audit\.checkpoints: s3: retention: invalid duration 'a month'"):
        Registry().make_witnesses(wrong.audit.checkpoints, {})


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (
            {"kind": "chat", "channel": "audit-mial"},
            "chat: unknown channel 'audit-mial'; did you mean 'audit-mail'",
        ),
        ({"kind": "chat"}, "chat: 'channel' is missing"),
        ({"kind": "chat", "channel": "log"}, "chat: a channel of kind 'log' does not store messages unchanged"),
        ({"kind": "file"}, "file: 'path' is missing"),
        ({"kind": "file", "path": "x", "pth": "y"}, "file: unknown setting 'pth'"),
        ({"kind": "s3"}, "s3: 'bucket' is missing"),
        ({"kind": "syslog", "adress": "udp://h"}, "syslog: unknown setting 'adress'"),
        ({"kind": "stone"}, "unknown kind 'stone'; known: chat, file, git, s3, syslog"),
    ],
)
def test_a_misspelt_setting_is_named(tmp_path: Path, place: dict[str, Any], said: str) -> None:
    """The error has the problem, the place and the closest valid name."""
    config = configured(tmp_path, place)
    with pytest.raises(ConfigurationError) as raised:
        Registry().make_witnesses(config.audit.checkpoints, config.channels)
    assert said in str(raised.value)


async def test_a_chat_is_a_channel_of_the_settings(tmp_path: Path) -> None:
    """The witness uses the channel with this name."""
    config = configured(tmp_path, {"kind": "chat", "channel": "audit-mail"})
    made = Registry().make_witnesses(config.audit.checkpoints, config.channels)
    async with respx.mock(base_url="https://chat.example") as router:
        router.post("/hooks/x").mock(return_value=httpx.Response(200))
        assert await made["chat-1"].publish(NOTES[3]) == "mattermost"
