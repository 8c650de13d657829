"""Promises of the bundled app."""
