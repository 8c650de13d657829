"""Every error that the remediator raises on purpose, as one tree.

RemediatorError
├── InputError                what a person or a peer gave us is wrong; carries findings with places
│   ├── PayloadError          a webhook body that is not Alertmanager's version 4
│   ├── ParseError         a matcher, pattern or condition that cannot be read; says at which column
│   └── ConfigurationError    a playbook, inventory or settings file that cannot be used
├── ClientError               a server that we asked did not give a usable answer
│   ├── Unreachable           no connection: nothing was asked, nothing happened
│   ├── TimedOut              asked, but not answered in time: the outcome is unknown
│   ├── Refused               answered with a refusal (4xx, a fault, an ACL error)
│   └── BadAnswer             answered with something that makes no sense
├── TargetError               a target is missing, ambiguous, or not what was planned against
├── StoreError                the store cannot do it now; the caller must not acknowledge
│   ├── StoreUnavailable      locked, full, read-only, unreachable: try again
│   ├── StoreCorrupt          the file or schema is not what this version can use
│   └── Fenced                this process's claim on the run is gone: do nothing more
└── AuditError                the audit log does not verify
"""

from __future__ import annotations


class RemediatorError(Exception):
    """Base of all of them; ``str()`` is a sentence for a person."""


class InputError(RemediatorError):
    """What a person or a peer gave us is wrong."""


class PayloadError(InputError):
    """A webhook body that is not an Alertmanager notification of version 4.

    Args:
        message: one line, safe to send back.
        status: HTTP status to answer with (4xx: Alertmanager will not retry).
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ParseError(InputError):
    """A matcher, pattern or condition that cannot be read.

    Args:
        message: what is wrong, without the place.
        column: where, counted from 1 within the text.
        hint: how to mend it; may be empty.
    """

    def __init__(self, message: str, column: int, hint: str = "") -> None:
        super().__init__(f"{message} (column {column})" + (f"; {hint}" if hint else ""))
        self.message = message
        self.column = column
        self.hint = hint


class ConfigurationError(InputError):
    """A playbook, inventory or settings file that cannot be used.

    ``findings`` are all the reasons, each ready to print as ``file:line:column: sentence``.
    """

    def __init__(self, message: str, findings: tuple[str, ...] = ()) -> None:
        super().__init__(message if not findings else "\n".join((message, *findings)))
        self.findings = findings


class ClientError(RemediatorError):
    """A server that we asked did not give a usable answer."""


class Unreachable(ClientError):
    """No connection could be made: nothing was asked, so nothing happened there."""


class TimedOut(ClientError):
    """It was asked and did not answer in time: whether it did it is unknown."""


class Refused(ClientError):
    """It answered, and the answer is no."""


class BadAnswer(ClientError):
    """It answered with something that makes no sense."""


class TargetError(RemediatorError):
    """A target is missing, ambiguous, or no longer what was planned against."""


class StoreError(RemediatorError):
    """The store cannot do this now; nothing may be acknowledged."""


class StoreUnavailable(StoreError):
    """Locked, full, read-only or unreachable: the same call may succeed later."""


class StoreCorrupt(StoreError):
    """The file or its schema is not what this version can use."""


class Fenced(StoreError):
    """This process's claim on the run is gone; it can do no more for it."""


class AuditError(RemediatorError):
    """The audit log does not verify; the message names the first bad entry."""
