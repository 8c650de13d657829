"""A small catalogue of actions, checks and guards for the fixtures, independent of the real one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from remediator.core.types import Duration, Strict
from remediator.playbooks.catalogue import ActionTraits, Catalogue
from remediator.playbooks.facts import Fact


class Nothing(Strict):
    """Parameters of an action or check that has none."""


class Logs(Strict):
    """Parameters of service.logs."""

    lines: int = Field(default=100, ge=1, le=2000, description="Last lines.")
    previous: bool = Field(default=False, description="Of the incarnation before.")


class Restart(Strict):
    """Parameters of service.restart."""

    stop_timeout: Duration = Field(default=timedelta(seconds=30), description="How long it may take to stop.")


class Prune(Strict):
    """Parameters of files.prune."""

    keep: int = Field(ge=1, description="Leave so many.")
    policy: Literal["oldest", "largest"] = Field(default="oldest", description="Which go first.")
    note: str = Field(default="", max_length=20, description="For the log.")


class Query(Strict):
    """Parameters of promql."""

    query: str = Field(description="PromQL.")
    max_age: Duration = Field(default=timedelta(minutes=1), description="Older data cannot tell.")


class Cooldown(Strict):
    """Settings of cooldown."""

    period: Duration = Field(default=timedelta(minutes=5), description="Time between two runs.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"period": value} if isinstance(value, str) else value


class Budget(Strict):
    """Settings of a budget."""

    target: tuple[str, ...] = Field(default=("3/1h",), description="For each target.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"target": value} if isinstance(value, list | tuple) else value


class Precondition(Strict):
    """One precondition."""

    promql: str | None = Field(default=None, description="PromQL.")
    check: str | None = Field(default=None, description="Or a check.")
    max_age: Duration = Field(default=timedelta(minutes=1), description="Older data cannot tell.")


class Preconditions(Strict):
    """Settings of preconditions."""

    all_of: tuple[Precondition, ...] = Field(default=(), description="The conditions.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"all_of": value} if isinstance(value, list | tuple) else value


LOG_FACTS = (
    Fact("signs", "object", "Signs of a cause."),
    Fact("signs.disk_full", "string", "The disk is full."),
    Fact("signs.corrupt_data", "string", "A file is corrupt."),
    Fact("traceback", "boolean", "There is a traceback."),
)
PING_FACTS = (
    Fact("state", "string", "State of the server.", values=("serving", "down", "silent", "loading")),
    Fact("version", "string", "Version."),
    Fact("clients", "integer", "Connected clients."),
)

ACTIONS: dict[str, tuple[type[BaseModel], ActionTraits]] = {
    "service.logs": (
        Logs,
        ActionTraits(mutates=False, idempotent=True, summary="Read a service's logs.", facts=LOG_FACTS),
    ),
    "service.restart": (Restart, ActionTraits(interrupts=True, summary="Restart a service.")),
    "service.scale": (Nothing, ActionTraits(summary="Change the number of instances.")),
    "files.prune": (Prune, ActionTraits(idempotent=True, destructive=True, summary="Delete old files.")),
}

CATALOGUE = Catalogue(
    actions={name: model for name, (model, _) in ACTIONS.items()},
    checks={"redis.ping": Nothing, "service.running": Nothing, "promql": Query},
    guards={"cooldown": Cooldown, "rate_limit": Budget, "preconditions": Preconditions, "storm": Nothing},
    traits={name: traits for name, (_, traits) in ACTIONS.items()},
    check_facts={"redis.ping": PING_FACTS},
    uses_prometheus=frozenset({"promql"}),
    needs={("check", "redis.ping"): ("redis",), ("action", "files.prune"): ("disk", "backups")},
    unsupported={"supervisor": lambda _: frozenset({"service.scale"})},
    summaries={"redis.ping": "Redis answers.", "promql": "An expression holds.", "cooldown": "Leave it alone."},
)
