"""Plugins: a package of others brings actions, checks and notifiers."""
