"""Rows that need a Docker Engine or a Kubernetes cluster."""

from __future__ import annotations

from demo.judge.row import Row

ENGINE_ROWS: tuple[Row, ...] = ()
