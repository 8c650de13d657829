"""Follow the routing tree of an Alertmanager, as ``amtool config routes test`` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from remediator.core.matchers import Matcher, Operator, parse_matcher

MAX_DEPTH = 50
"""A deeper tree is not followed. The configuration comes from another system, and YAML anchors can make cycles."""


def top_receiver(configuration: str) -> str:
    """Return the receiver of the top route of a configuration file; empty if it cannot be read."""
    try:
        config = yaml.safe_load(configuration)
    except yaml.YAMLError:
        return ""
    route = config.get("route") if isinstance(config, dict) else None
    return str(route.get("receiver", "")) if isinstance(route, dict) else ""


def receivers_for(route: Mapping[str, Any], labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the receivers of an alert, each once, in the order of the routes.

    Args:
        route: the key ``route`` of a configuration.
        labels: the labels of the alert.

    Raises:
        ParseError: a matcher cannot be read.
    """
    return tuple(dict.fromkeys(_reached(route, labels, str(route.get("receiver", "")), 0)))


def _reached(route: Mapping[str, Any], labels: Mapping[str, str], inherited: str, depth: int) -> Iterator[str]:
    """Yield the receivers below a route that matches. Its own receiver is used if no child matches."""
    receiver = str(route.get("receiver") or inherited)
    matched = False
    for child in (route.get("routes") or ()) if depth < MAX_DEPTH else ():
        if not all(matcher.matches(labels) for matcher in _matchers(child)):
            continue
        matched = True
        yield from _reached(child, labels, receiver, depth + 1)
        if not child.get("continue"):
            break
    if not matched:
        yield receiver


def _matchers(route: Mapping[str, Any]) -> Iterator[Matcher]:
    for name, value in (route.get("match") or {}).items():
        yield Matcher(str(name), Operator.EQUAL, str(value))
    for name, value in (route.get("match_re") or {}).items():
        yield Matcher(str(name), Operator.MATCHES, str(value))
    for text in route.get("matchers") or ():
        yield parse_matcher(str(text))
