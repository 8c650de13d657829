"""The rules of approvals: persons, roles and permissions, and the signed links of approval requests. No I/O.

The decisions are in the store (:mod:`remediator.storage.repositories.approvals`).
"""

from __future__ import annotations

import hmac
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from remediator.core.reason import Reason
from remediator.core.run_detail import AwaitingApprovalDetail
from remediator.core.tokens import Keyring
from remediator.errors import RemediatorError

LINK = "approval link"
"""Purpose of the tokens in links."""
BUTTON = "approval button"
"""Purpose of the tokens in chat buttons."""
LINK_HOLDER = "link holder"
"""The recorded identity of a person who is identified only by the link."""


class ApprovalStatus(StrEnum):
    """The status of an approval request."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    VOID = "void"
    """It was snoozed, or is outdated."""


class Role(StrEnum):
    """A role. Each role has all permissions of the roles before it."""

    VIEWER = "viewer"
    APPROVER = "approver"
    OPERATOR = "operator"
    ADMIN = "admin"


_ORDER = tuple(Role)


class Permission(StrEnum):
    """Something that a person can be allowed to do."""

    READ = "read"
    DECIDE = "decide"
    CREATE_STOP = "create stop"
    RELEASE_STOP = "release stop"
    CANCEL = "cancel"
    RETRY = "retry"
    START = "start"
    UNDO = "undo"
    COMMENT = "comment"
    SILENCE = "silence"
    SET_MODE = "set mode"
    CLEAR_MEMORY = "clear memory"
    BREAK_GLASS = "break glass"
    END_SESSIONS = "end sessions"


NEEDS: Mapping[Permission, Role] = {
    Permission.READ: Role.VIEWER,
    Permission.DECIDE: Role.APPROVER,
    Permission.CREATE_STOP: Role.APPROVER,  # a stop is safe: a person who may approve may also stop everything
    Permission.RELEASE_STOP: Role.OPERATOR,
    Permission.CANCEL: Role.OPERATOR,
    Permission.RETRY: Role.OPERATOR,
    Permission.START: Role.OPERATOR,
    Permission.UNDO: Role.OPERATOR,
    Permission.COMMENT: Role.APPROVER,
    Permission.SILENCE: Role.APPROVER,
    Permission.SET_MODE: Role.OPERATOR,
    Permission.CLEAR_MEMORY: Role.OPERATOR,
    Permission.BREAK_GLASS: Role.OPERATOR,
    Permission.END_SESSIONS: Role.ADMIN,
}
"""The lowest role that has each permission."""


class PermissionDenied(RemediatorError):
    """A person may not do this. Nothing was changed.

    Args:
        reason: why, as a typed value.
        message: why, in one sentence for the person.
    """

    def __init__(self, reason: DenialReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DenialReason(StrEnum):
    """The reason why a person lacks a permission."""

    ROLE = "role"
    GROUP = "group"
    REQUESTER = "requester"
    LINK_HOLDER = "link_holder"
    RISK = "risk"
    CONFIRMATION = "confirmation"
    REAUTHENTICATION = "reauthentication"
    REASON = "reason"


@dataclass(frozen=True, slots=True)
class Person:
    """A person, and how the identity is known.

    ``how`` is ``oidc``, ``slack``, ``telegram``, ``proxy``, ``link``, ``token`` or ``terminal``.
    """

    id: str
    how: str
    roles: frozenset[Role] = frozenset()
    groups: frozenset[str] = frozenset()
    name: str = ""
    claimed: frozenset[str] = frozenset()
    """The groups that the identity provider or the proxy reported; the other groups come from the people file."""
    authenticated_at: datetime | None = None
    """When the person last proved the identity; None if that time is not known, as with a link or a proxy."""

    def may(self, permission: Permission) -> bool:
        """Return whether one of the roles has the permission."""
        return any(_ORDER.index(role) >= _ORDER.index(NEEDS[permission]) for role in self.roles)

    def require(self, permission: Permission) -> None:
        """Check that one of the roles has the permission.

        Raises:
            PermissionDenied: no role has the permission.
        """
        if not self.may(permission):
            least = NEEDS[permission].value
            raise PermissionDenied(
                DenialReason.ROLE,
                f"{self.id!r} may not do this: permission {permission.value!r} needs the role {least!r}",
            )


@dataclass(frozen=True, slots=True)
class ApprovalRequirements:
    """The requirements of one approval request for its approvers."""

    groups: Collection[str]
    low_risk: bool
    destructive: bool
    requester: str | None = None
    """The person who started the run manually or with a retry, if there is one. This person may not approve it."""


def check_may_decide(person: Person, verb: str, asked: ApprovalRequirements, *, link_holders: bool) -> None:
    """Check that a person may make a decision. To reject or snooze, the role of an approver is sufficient.

    Args:
        person: who decides.
        verb: ``approve``, ``reject`` or ``snooze``.
        asked: the requirements of the request.
        link_holders: whether the settings accept persons who are identified only by the link.

    Raises:
        PermissionDenied: the person may not.
    """
    if person.id == LINK_HOLDER:
        if not link_holders:
            raise PermissionDenied(
                DenialReason.LINK_HOLDER, "a link alone is not sufficient here: sign in, or enter your operator token"
            )
    else:
        person.require(Permission.DECIDE)
    if verb != "approve":
        return
    # Everyone who can read a mailbox has its links. A personal link therefore counts as a link only, regardless of the
    # role of the person.
    if person.how == "link" and (not asked.low_risk or asked.groups):
        raise PermissionDenied(
            DenialReason.RISK,
            "this plan is not of low risk, so a link alone is not sufficient: sign in, or enter your operator token",
        )
    if asked.requester is not None and same_person(asked.requester, person.id):
        raise PermissionDenied(
            DenialReason.REQUESTER, f"{person.id!r} started this run: another person must approve it"
        )
    if not is_member(person, asked.groups):
        groups = ", ".join(sorted(asked.groups))
        raise PermissionDenied(
            DenialReason.GROUP, f"{person.id!r} is not in a group that may approve this plan: {groups}"
        )


def is_member(person: Person, groups: Collection[str]) -> bool:
    """Return whether a person is in one of the playbook's groups.

    Without groups, every person is a member; an admin is always a member.
    """
    return not groups or bool(person.groups & set(groups)) or Role.ADMIN in person.roles


REAUTHENTICATION = timedelta(minutes=5)
"""Maximum age of a sign-in that can use break-glass."""


def require_recent_proof(person: Person, now: datetime) -> None:
    """Check that a person proved the identity a short time ago, as break-glass requires.

    A user of this host's terminal is accepted: access to the database is the proof.

    Raises:
        PermissionDenied: the identity is known by a link, or the sign-in is older than :data:`REAUTHENTICATION`.
    """
    proved = person.authenticated_at
    if person.how == "terminal" or (person.how != "link" and proved is not None and now - proved <= REAUTHENTICATION):
        return
    raise PermissionDenied(
        DenialReason.REAUTHENTICATION,
        f"break-glass needs a sign-in of the last {REAUTHENTICATION.total_seconds() / 60:.0f} minutes: "
        "enter your operator token, or sign in again",
    )


def is_low_risk(reason: Reason | None, quorum: int, *, destructive: bool, costly: bool) -> bool:
    """Return whether a link alone can be sufficient.

    Nothing is destroyed, no cost is above its tolerance, the quorum is 1, and nothing is unknown.
    """
    in_doubt = reason in (Reason.GUARD_UNKNOWN, Reason.CONDITION_UNKNOWN, Reason.COMMITS_LOST)
    return not destructive and not costly and quorum == 1 and not in_doubt


def request_reason(reason: Reason, detail: AwaitingApprovalDetail, mode: str) -> str:
    """Return why people are asked, in one sentence without a full stop."""
    if reason is Reason.CONDITION_UNKNOWN:
        return f"step {detail.step}: {detail.text}"
    if reason is Reason.GUARD_UNKNOWN:
        return f"guard {detail.guard} answered unknown: {detail.text}"
    if reason in (Reason.STEP_NEEDS_APPROVAL, Reason.COMMITS_LOST):
        return f"step {detail.step}: {detail.text or 'this step needs an approval in every mode'}"
    if detail.text:
        return detail.text
    if mode == "approve":
        return "this playbook runs in mode approve"
    return "this playbook needs an approval in every mode"


def same_person(one: str, other: str) -> bool:
    """Return whether two IDs are the same person: identity providers differ in the case of one address."""
    return normalize_id(one) == normalize_id(other)


def normalize_id(identity: str) -> str:
    """Return the ID in the form for comparisons. Roles and groups use the written ID."""
    return unicodedata.normalize("NFKC", identity).strip().casefold()


def names_target(typed: str, target: str) -> bool:
    """Return whether a typed text is the name of the target."""
    return typed.strip().casefold() == target.casefold()


BUTTON_CODES: Mapping[str, str] = {
    "a": "approve",
    "r": "reject",
    "n": "snooze",
    "p": "pause",
    "t": "acknowledge",
    "s": "silence",
    "u": "undo",
}
"""The decision of a button, by its one-letter name. Some chats allow few bytes."""
_SHORT_BUTTON = "short chat button"


def short_button(keyring: Keyring, verb: str, name: str, plan: str) -> str:
    """Return the value of a button for a chat that allows 64 bytes: letter, ID, and a proof of 128 bits.

    Args:
        keyring: signs it.
        verb: one of :data:`BUTTON_CODES`.
        name: ID of the approval request, or of the run.
        plan: hash of the plan that the message shows; empty for a run.
    """
    code = next(letter for letter, each in BUTTON_CODES.items() if each == verb)
    return f"{code}:{name}:{keyring.digest(_SHORT_BUTTON, verb, name, plan)[:22]}"


def button_proof_is_valid(keyring: Keyring, proof: str, verb: str, name: str, plan: str) -> bool:
    """Return whether this installation made the proof of a short button for this verb, name and plan."""
    expected = keyring.digest(_SHORT_BUTTON, verb, name, plan)[:22]
    return hmac.compare_digest(proof.encode("utf-8", "replace"), expected.encode())


@dataclass(frozen=True, slots=True)
class ApprovalLink:
    """The content of the token of an approval link."""

    approval: str
    run: str
    plan: str
    """Hash of the plan that the link shows."""
    audience: str
    """Recipient of the link: ``channel:<name>`` or ``person:<id>``."""
    expires_at: datetime

    @property
    def person(self) -> str | None:
        """Return the person that the link was sent to; None for a link to a channel."""
        return self.audience.removeprefix("person:") if self.audience.startswith("person:") else None

    def token(self, keyring: Keyring, now: datetime, purpose: str = LINK) -> str:
        """Return the signed text for the link."""
        content = {"a": self.approval, "r": self.run, "p": self.plan, "t": self.audience}
        return keyring.sign(purpose, content, now, self.expires_at)


@dataclass(frozen=True, slots=True)
class OpenedLink:
    """A link that was opened."""

    link: ApprovalLink
    expired: bool


def open_link(keyring: Keyring, token: str, now: datetime, purpose: str = LINK) -> OpenedLink | None:
    """Return the link of a token; None if this installation did not sign it."""
    signed = keyring.read(purpose, token, now)
    if signed is None:
        return None
    approval, run, plan, audience = (signed.content.get(name) for name in ("a", "r", "p", "t"))
    if not all(isinstance(part, str) for part in (approval, run, plan, audience)):
        return None
    link = ApprovalLink(str(approval), str(run), str(plan), str(audience), signed.expires_at)
    return OpenedLink(link, signed.expired(now))
