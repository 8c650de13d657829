"""The HTTP interface: webhook endpoint, API, console and health endpoints. ``routes.py`` lists every path."""
