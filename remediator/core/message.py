"""The kinds of messages to people."""

from __future__ import annotations

from enum import StrEnum


class MessageKind(StrEnum):
    """The purpose of a message."""

    APPROVAL = "approval"
    """Asks for a decision on a plan."""
    ESCALATION = "escalation"
    """Hands a run over to people."""
    HELD_BACK = "held_back"
    """Reports that a guard blocks a run."""
    PAGE = "page"
    """Pages people about a request before its deadline."""
    REMINDER = "reminder"
    """Reminds people of a request."""
    UPDATE = "update"
    """Shows news in a message that was sent before."""
    NOTICE = "notice"
    """Reports something that no run of an incident is about, for example a storm of alerts."""


ROOTS = (MessageKind.APPROVAL, MessageKind.ESCALATION, MessageKind.HELD_BACK, MessageKind.PAGE)
"""Kinds of messages that represent the whole incident: later news is shown in them."""
