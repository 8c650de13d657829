"""The local stack: Redis, exporters, app, nginx, Prometheus, Alertmanager and the remediator under supervisord."""
