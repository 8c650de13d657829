"""Alert-driven remediation: receive, match, plan, guard, approve, act, verify, audit."""

__version__ = "0.1.0"
