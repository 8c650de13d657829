"""The kinds of messages to people."""

from __future__ import annotations

from enum import StrEnum


class MessageKind(StrEnum):
    """What a message is for."""

    APPROVAL = "approval"
    """It asks for a decision on a plan."""
    ESCALATION = "escalation"
    """It hands a run over to people."""
    HELD_BACK = "held_back"
    """It reports that a guard blocks a run."""
    PAGE = "page"
    """It pages people about a request before its deadline."""
    REMINDER = "reminder"
    """It reminds of a request."""
    UPDATE = "update"
    """It shows news in a message that was sent before."""
    NOTICE = "notice"
    """It reports something that no run of an incident is about, for example a storm of alerts."""


ROOTS = (MessageKind.APPROVAL, MessageKind.ESCALATION, MessageKind.HELD_BACK, MessageKind.PAGE)
"""Kinds of messages that stand for the whole incident: what is new later is shown in them."""
