"""The whole stack on loopback under supervisord, without containers: ``python -m demo.stack up|down|status``."""
