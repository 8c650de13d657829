"""The bundled app: a small FastAPI service with a Redis cache, worth remediating. Start it with ``python -m app``."""

__version__ = "1.0.0"
