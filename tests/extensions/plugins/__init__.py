"""Plugins: actions, checks and notifiers of an installed package."""
