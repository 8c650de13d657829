"""Find out which labels the result of a PromQL expression has. An alert has these labels and the labels of its rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import promql_parser as promql

from remediator.clients.prometheus.promql import parse
from remediator.errors import InputError

_KEEPS_SERIES = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})
_ABSENT = frozenset({"absent", "absent_over_time"})
_WRITES_LABEL = frozenset({"label_replace", "label_join"})
_WITHOUT_LABELS = frozenset({"scalar", "vector", "time", "pi"})


@dataclass(frozen=True, slots=True)
class ResultLabels:
    """The labels of the result of an expression."""

    values: Mapping[str, str] = field(default_factory=dict)
    """The labels that have the same value in every result, because a matcher requires it."""
    only: frozenset[str] | None = None
    """The only labels that the result can have; None if it can have any."""
    removed: frozenset[str] = frozenset()
    """Labels that the result does not have."""

    def may_have(self, label: str) -> bool:
        """Return whether the result can have a label."""
        return label not in self.removed and (self.only is None or label in self.only)

    def limited_to(self, labels: Iterable[str]) -> ResultLabels:
        """Return this without all labels but these."""
        kept = frozenset(label for label in labels if self.may_have(label))
        return ResultLabels({name: value for name, value in self.values.items() if name in kept}, kept)

    def without(self, labels: Iterable[str]) -> ResultLabels:
        """Return this without these labels."""
        gone = frozenset(labels)
        values = {name: value for name, value in self.values.items() if name not in gone}
        return replace(self, values=values, removed=self.removed | gone)


_NOTHING = ResultLabels(only=frozenset())


def result_labels(expression: str) -> ResultLabels:
    """Return the labels of the result of an expression.

    Raises:
        InputError: the expression is not valid PromQL.
    """
    try:
        parsed = parse(expression)
    except ValueError as error:
        raise InputError(f"invalid PromQL {expression!r}: {error}") from None
    return _of(parsed) or _NOTHING


def _of(node: Any) -> ResultLabels | None:
    """Return the labels of a part of an expression; None for a number or a text."""
    match node:
        case promql.VectorSelector():
            equal = (item for item in node.matchers.matchers if item.op == promql.MatchOp.Equal and item.value)
            return ResultLabels({item.name: item.value for item in equal if item.name != "__name__"})
        case promql.MatrixSelector():
            return _of(node.vector_selector)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return _of(node.expr)
        case promql.AggregateExpr():
            inner = _of(node.expr) or _NOTHING
            if str(node.op) in _KEEPS_SERIES:
                return inner
            if node.modifier is None:
                return _NOTHING
            by = node.modifier.type == promql.AggModifierType.By
            return inner.limited_to(node.modifier.labels) if by else inner.without(node.modifier.labels)
        case promql.Call():
            return _of_call(node)
        case promql.BinaryExpr():
            return _of_operation(node)
    return None


def _of_call(node: Any) -> ResultLabels:
    name = node.func.name
    if name in _WITHOUT_LABELS:
        return _NOTHING
    inner = next((found for found in map(_of, node.args) if found is not None), _NOTHING)
    if name in _ABSENT:
        return inner.limited_to(inner.values)
    if name in _WRITES_LABEL:
        written = next((item.val for item in node.args if isinstance(item, promql.StringLiteral)), "")
        return replace(inner, values={label: value for label, value in inner.values.items() if label != written})
    return inner.without(["le"]) if name == "histogram_quantile" else inner


def _of_operation(node: Any) -> ResultLabels | None:
    left, right = _of(node.lhs), _of(node.rhs)
    if left is None or right is None:
        return left or right
    operator = str(node.op)
    if operator == "or":
        same = {name: value for name, value in left.values.items() if right.values.get(name) == value}
        only = None if left.only is None or right.only is None else left.only | right.only
        return ResultLabels(same, only, left.removed & right.removed)
    if operator in ("and", "unless") or node.modifier is None:
        return left
    return _of_matching(node.modifier, left, right)


def _of_matching(modifier: Any, left: ResultLabels, right: ResultLabels) -> ResultLabels:
    """Return the labels after ``on``, ``ignoring`` and ``group_left``, as in Prometheus' ``resultMetric``."""
    many_to_one = modifier.card == promql.VectorMatchCardinality.ManyToOne
    if many_to_one or modifier.card == promql.VectorMatchCardinality.OneToMany:
        many = left if many_to_one else right
        return many if many.only is None else replace(many, only=many.only | frozenset(modifier.group_labels or ()))
    if modifier.matching is None:
        return left
    on = modifier.matching.type == promql.LabelModifierType.Include
    return left.limited_to(modifier.matching.labels) if on else left.without(modifier.matching.labels)
