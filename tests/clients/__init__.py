"""The clients, against the real servers."""
