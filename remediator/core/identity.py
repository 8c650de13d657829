"""The people file: who may decide, their IDs, and the hashes of their tokens. It never contains a token."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from remediator.core.approval import LINK_HOLDER, Person, Role, normalize_id
from remediator.core.types import FieldError, Strict

PREFIX = "rmo_"
"""Prefix of operator tokens, so that scanners for leaked secrets can recognize them."""

PersonId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,199}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Entry(Strict):
    """One person or machine."""

    name: str = Field(default="", description="Name that other users see.")
    roles: tuple[Role, ...] = Field(default=(Role.VIEWER,), description="viewer, approver, operator or admin.")
    groups: tuple[str, ...] = Field(default=(), description="Groups that playbooks name under approval.groups.")
    tokens: tuple[Digest, ...] = Field(
        default=(), description="SHA-256 of each operator token, in hex; 'remediator approval token' makes one."
    )
    slack: str = Field(
        default="",
        pattern=r"^$|^T[A-Z0-9]+/[UW][A-Z0-9]+$",
        description="Workspace and user ID in Slack, for example T012AB/U034CD.",
    )
    telegram: str = Field(
        default="", pattern=r"^\d{0,20}$", description="User ID in Telegram, for example 123456789. Not the user name."
    )


class People(Strict):
    """The known people, by the ID that identity providers use (usually an e-mail address)."""

    apiVersion: Literal["remediator/v1"] = Field(default="remediator/v1", description="Version of the format.")
    kind: Literal["People"] = Field(default="People", description="Kind of the file.")
    people: dict[PersonId, Entry] = Field(default={}, description="People by ID, as the identity provider writes it.")

    @model_validator(mode="after")
    def _one_each(self) -> People:
        seen: dict[str, str] = {}
        ids: dict[str, str] = {}
        for who in self.people:
            if ids.setdefault(normalize_id(who), who) != who:
                raise FieldError(f"{who!r} and {ids[normalize_id(who)]!r} are the same ID; remove one", ("people", who))
        for who, entry in self.people.items():
            chats = [f"slack {entry.slack}"] if entry.slack else []
            chats += [f"telegram {entry.telegram}"] if entry.telegram else []
            for known in (*entry.tokens, *chats):
                if seen.setdefault(known, who) != who:
                    raise FieldError(
                        f"{who!r} and {seen[known]!r} have the same token or chat ID; a person needs their own",
                        ("people", who),
                    )
        return self

    def by_id(self, who: str, how: str) -> Person | None:
        """Return the person with an ID."""
        entry = self.people.get(who)
        return None if entry is None else _person(who, entry, how)

    def by_token(self, token: str) -> Person | None:
        """Return the person with an operator token."""
        digest = hash_token(token)
        found = None
        for who, entry in self.people.items():  # compare all tokens, so that the duration reveals nothing
            for known in entry.tokens:
                if hmac.compare_digest(known, digest):
                    found = _person(who, entry, "token")
        return found

    def by_slack(self, workspace: str, user: str) -> Person | None:
        """Return the person of a Slack user. Display names are not used, because users can change them."""
        return self.by_chat("slack", f"{workspace}/{user}")

    def by_chat(self, kind: str, user: str) -> Person | None:
        """Return the person of a user of a chat.

        Args:
            kind: ``slack`` or ``telegram``.
            user: ID of the user, as the people file has it.
        """
        ids = {who: {"slack": entry.slack, "telegram": entry.telegram}.get(kind) for who, entry in self.people.items()}
        return next(
            (_person(who, self.people[who], kind) for who, known in ids.items() if known and known == user), None
        )

    def with_groups(self, who: str, how: str, groups: Mapping[str, Role] | None, claimed: frozenset[str]) -> Person:
        """Return a person that an identity provider has authenticated, with the roles of the file and of the groups.

        Args:
            who: the ID.
            how: how the person signed in.
            groups: the role that each group of the provider gives.
            claimed: the groups that the provider reports.
        """
        entry = self.people.get(who, Entry(roles=()))
        roles = {role for group, role in (groups or {}).items() if group in claimed}
        groups_now = frozenset(entry.groups) | claimed
        return Person(who, how, frozenset(entry.roles) | roles, groups_now, entry.name or who, claimed)

    def current(self, who: str, how: str, groups: Mapping[str, Role], claimed: frozenset[str]) -> Person | None:
        """Return a person with today's roles; None if the person is no longer known.

        Args:
            who: the ID, as recorded.
            how: how the identity was known then.
            groups: the role that each group of the provider gives.
            claimed: the groups that the provider reported then.
        """
        if how in ("oidc", "proxy"):
            return self.with_groups(who, how, groups, claimed)
        if how == "terminal":  # access to the database is the proof; the people file does not name these users
            return Person(who, how, frozenset({Role.OPERATOR}))
        if who == LINK_HOLDER:
            return Person(who, how)
        return self.by_id(who, how)


def _person(who: str, entry: Entry, how: str) -> Person:
    return Person(who, how, frozenset(entry.roles), frozenset(entry.groups), entry.name or who)


def make_token() -> str:
    """Return a new operator token of 256 bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """Return the hash of a token for the file. A plain digest is sufficient, because a token is random."""
    return hashlib.sha256(token.strip().encode("utf-8", "replace")).hexdigest()
