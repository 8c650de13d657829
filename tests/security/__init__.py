"""Attacks on the service, one module for each kind of fault."""
