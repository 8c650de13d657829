"""Attacks on the service, with one module for each kind of attack."""
