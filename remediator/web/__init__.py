"""The web edge: Alertmanager's door, the API, health. ``routes.py`` is the list of all of it."""
