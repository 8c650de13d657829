"""Grafana: the alerts of its own Alertmanager."""
