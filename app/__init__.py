"""The bundled app: a small FastAPI service with a Redis cache. Start it with ``python -m app``."""

__version__ = "1.0.0"
