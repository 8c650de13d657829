"""The whole stack on loopback under supervisord, without containers: ``python -m deploy.local up|down|status``."""
