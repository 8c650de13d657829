"""Approvals as words: who a person is, what a person may, and the link that asks one. Pure.

What was decided is in the store (:mod:`remediator.storage.repositories.approvals`); here is only what the rules are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from remediator.core.plan import Plan
from remediator.core.reason import Reason
from remediator.core.tokens import Keyring, Signed
from remediator.errors import RemediatorError

LINK = "approval link"
"""Purpose of the tokens in links."""
BUTTON = "approval button"
"""Purpose of the tokens in buttons of a chat."""
LINK_HOLDER = "link holder"
"""Who is on record where nobody knows more than that somebody had the link."""


class Role(StrEnum):
    """What somebody is here for; each can do all that those before can."""

    VIEWER = "viewer"
    APPROVER = "approver"
    OPERATOR = "operator"
    ADMIN = "admin"


_ORDER = tuple(Role)


class Permission(StrEnum):
    """Something that can be done, named as the API and the CLI name it."""

    SEE = "see"
    DECIDE = "decide"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"
    BREAK_GLASS = "break glass"


NEEDS: Mapping[Permission, Role] = {
    Permission.SEE: Role.VIEWER,
    Permission.DECIDE: Role.APPROVER,
    Permission.PAUSE: Role.APPROVER,  # stopping is safe; whoever is asked may say "stop everything"
    Permission.RESUME: Role.OPERATOR,
    Permission.CANCEL: Role.OPERATOR,
    Permission.RETRY: Role.OPERATOR,
    Permission.BREAK_GLASS: Role.OPERATOR,
}
"""The least role for each power."""


class PermissionDenied(RemediatorError):
    """This person may not do this; says why. Nothing was changed.

    Args:
        reason: a word of :class:`DenialReason`.
        message: a sentence for the person.
    """

    def __init__(self, reason: DenialReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DenialReason(StrEnum):
    """Why somebody may not."""

    UNKNOWN_PERSON = "unknown_person"
    ROLE = "role"
    GROUP = "group"
    REQUESTER = "requester"
    LINK_HOLDER = "link_holder"
    RISK = "risk"
    CONFIRMATION = "confirmation"
    REASON = "reason"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, and how we know.

    ``how`` is ``oidc``, ``slack``, ``proxy``, ``link``, ``token``, ``terminal`` or ``break_glass``.
    """

    id: str
    how: str
    roles: frozenset[Role] = frozenset()
    groups: frozenset[str] = frozenset()
    name: str = ""

    def can(self, power: Permission) -> bool:
        """Whether one of the roles is enough."""
        return any(_ORDER.index(role) >= _ORDER.index(NEEDS[power]) for role in self.roles)

    def need(self, power: Permission) -> None:
        """Refuse what the roles do not allow.

        Raises:
            NotAllowed: they do not.
        """
        if not self.can(power):
            least = NEEDS[power].value
            raise PermissionDenied(
                DenialReason.ROLE, f"{self.id} may not do that: it needs the role {least} ({power.value})"
            )


@dataclass(frozen=True, slots=True)
class ApprovalRequirements:
    """What one request for approval demands of those who decide."""

    groups: Collection[str]
    low_risk: bool
    destructive: bool
    requester: str | None = None
    """Who started the run by hand, if somebody did: may not approve it."""


def check_may_decide(person: Person, verb: str, asked: ApprovalRequirements, *, link_holders: bool) -> None:
    """Whether this person may say this; to reject or to snooze needs no more than to be asked.

    Args:
        verb: ``approve``, ``reject`` or ``snooze``.
        link_holders: whether the settings accept people of whom only the link is known.

    Raises:
        NotAllowed: with the reason.
    """
    if person.id == LINK_HOLDER:
        _may_link_holder(verb, asked, enabled=link_holders)
        return
    person.need(Permission.DECIDE)
    if verb != "approve":
        return
    if asked.requester is not None and same_person(asked.requester, person.id):
        raise PermissionDenied(DenialReason.REQUESTER, f"{person.id} started this run; somebody else has to approve it")
    if not is_member(person, asked.groups):
        groups = ", ".join(sorted(asked.groups))
        raise PermissionDenied(
            DenialReason.GROUP, f"{person.id} is in none of the groups that may approve this: {groups}"
        )


def is_member(person: Person, groups: Collection[str]) -> bool:
    """Whether a person is one of those whom a playbook's groups name; no groups name everybody."""
    return not groups or bool(person.groups & set(groups)) or Role.ADMIN in person.roles


def _may_link_holder(verb: str, asked: ApprovalRequirements, *, enabled: bool) -> None:
    if not enabled:
        raise PermissionDenied(
            DenialReason.LINK_HOLDER, "a link alone is not enough here: sign in, or give your operator token"
        )
    if verb == "approve" and (not asked.low_risk or asked.groups):
        raise PermissionDenied(DenialReason.RISK, "this plan is not one of low risk: it needs a person whom we know")


def low_risk(plan: Plan, reason: Reason | None) -> bool:
    """Whether somebody unknown could be enough: nothing is destroyed, one yes is needed, and no guard was in doubt."""
    in_doubt = reason in (Reason.GUARD_UNKNOWN, Reason.CONDITION_UNKNOWN)
    return not destructive(plan) and plan.quorum == 1 and not in_doubt


def destructive(plan: Plan) -> bool:
    """Whether any step can lose something for good."""
    return any(step.destructive for step in plan.steps)


def same_person(one: str, other: str) -> bool:
    """Whether two ids mean one person: doors spell one address with capitals or without."""
    return mark(one) == mark(other)


def mark(identity: str) -> str:
    """An id as it is compared with others; roles and groups still go by the id as it is written."""
    return unicodedata.normalize("NFKC", identity).strip().casefold()


def fits(typed: str, target: str) -> bool:
    """Whether what somebody typed is the target's name."""
    return typed.strip().casefold() == target.casefold()


@dataclass(frozen=True, slots=True)
class ApprovalLink:
    """What the token of a link is bound to."""

    approval: str
    run: str
    plan: str
    """Hash of the plan that it shows."""
    audience: str
    """``channel:<name>`` or ``person:<id>``: whom it was sent to."""
    expires_at: datetime

    @property
    def person(self) -> str | None:
        """The one person that it was sent to, if it was sent to one."""
        return self.audience.removeprefix("person:") if self.audience.startswith("person:") else None

    def token(self, keyring: Keyring, now: datetime, purpose: str = LINK) -> str:
        """The signed text that goes into the link."""
        content = {"a": self.approval, "r": self.run, "p": self.plan, "t": self.audience}
        return keyring.sign(purpose, content, now, self.expires_at)


@dataclass(frozen=True, slots=True)
class OpenedLink:
    """A link that somebody came with."""

    link: ApprovalLink
    expired: bool


def open_link(keyring: Keyring, token: str, now: datetime, purpose: str = LINK) -> OpenedLink | None:
    """The link behind a token; None for whatever is not one of ours."""
    signed = keyring.read(purpose, token, now)
    if signed is None:
        return None
    link = _link(signed)
    return None if link is None else OpenedLink(link, signed.expired(now))


def _link(signed: Signed) -> ApprovalLink | None:
    approval, run, plan, audience = (signed.content.get(name) for name in ("a", "r", "p", "t"))
    if not all(isinstance(part, str) for part in (approval, run, plan, audience)):
        return None
    return ApprovalLink(str(approval), str(run), str(plan), str(audience), signed.expires_at)


@dataclass(frozen=True, slots=True)
class Count:
    """How far a request is."""

    quorum: int
    agreed: Sequence[str] = field(default_factory=tuple)

    @property
    def missing(self) -> int:
        """How many more have to agree."""
        return max(0, self.quorum - len(set(map(mark, self.agreed))))
