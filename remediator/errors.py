"""All errors that the remediator raises itself, as one tree.

RemediatorError
├── InputError                wrong input from a person or another system
│   ├── NotFound              the named object does not exist
│   ├── Conflict              well-formed, but not possible now
│   ├── PayloadError          a webhook body that is not an Alertmanager notification of version 4
│   ├── ParseError            a matcher, pattern or condition that cannot be parsed; has the column
│   └── ConfigurationError    a playbook, inventory or settings file that cannot be used
├── ClientError               another server did not give a usable answer
│   ├── Unreachable           no connection: nothing was requested, so nothing happened
│   ├── TimedOut              no answer in time: the outcome is unknown
│   ├── Refused               an answer that refuses (4xx, a fault, an ACL error)
│   └── BadAnswer             an answer that cannot be understood
├── TargetError               a target is missing, ambiguous, or not as planned
├── StoreError                the store cannot do this now; the caller must not acknowledge
│   ├── StoreUnavailable      locked, full, read-only or unreachable: retry later
│   ├── StoreCorrupt          the file or its schema cannot be used by this version
│   └── Fenced                the claim of this process on the run is lost: do nothing more
└── AuditError                the audit log does not verify
"""

from __future__ import annotations


class RemediatorError(Exception):
    """Base of all errors here; ``str()`` is a message for a person."""


class InputError(RemediatorError):
    """Wrong input from a person or another system."""


class NotFound(InputError):
    """The named object does not exist."""


class Conflict(InputError):
    """The request is valid, but not possible now with this run, playbook or replica."""


class PayloadError(InputError):
    """A webhook body that is not a notification of its source.

    Args:
        message: one line, safe to return to the sender.
        status: HTTP status of the answer (4xx: Alertmanager does not retry).
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ParseError(InputError):
    """A matcher, pattern or condition that cannot be parsed.

    Args:
        message: what is wrong, without the position.
        column: position in the text, counted from 1.
        hint: how to fix it; may be empty.
    """

    def __init__(self, message: str, column: int, hint: str = "") -> None:
        super().__init__(f"{message} (column {column})" + (f"; {hint}" if hint else ""))
        self.message = message
        self.column = column
        self.hint = hint


class ConfigurationError(InputError):
    """A playbook, inventory or settings file that cannot be used.

    ``findings`` has all errors, each as text ``file:line:column: message``.
    """

    def __init__(self, message: str, findings: tuple[str, ...] = ()) -> None:
        super().__init__(message if not findings else "\n".join((message, *findings)))
        self.findings = findings


class ClientError(RemediatorError):
    """Another server did not give a usable answer."""


class Unreachable(ClientError):
    """No connection could be made: nothing was requested, so nothing happened."""


class TimedOut(ClientError):
    """The server did not answer in time: the outcome is unknown."""


class Refused(ClientError):
    """The server refused the request."""


class BadAnswer(ClientError):
    """The answer of the server cannot be understood."""


class TargetError(RemediatorError):
    """A target is missing, ambiguous, or not as planned."""


class StoreError(RemediatorError):
    """The store cannot do this now; the caller must not acknowledge anything."""


class StoreUnavailable(StoreError):
    """The store is locked, full, read-only or unreachable: the same call may succeed later."""


class StoreCorrupt(StoreError):
    """The database file or its schema cannot be used by this version."""


class Fenced(StoreError):
    """The claim of this process on the run is lost; it must do nothing more for the run."""


class AuditError(RemediatorError):
    """The audit log does not verify; the message names the first bad entry."""
