"""Simulate the engine on a virtual clock with every kind of fault. A seed determines all events.

``python -m tests.simulation 1..1000`` runs schedules. A seed that breaks a promise replays exactly.
"""
