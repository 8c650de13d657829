"""The engine on a virtual clock, in a world that goes wrong in every way that it can: what happens follows from a seed.

``python -m tests.simulation 1..1000`` runs schedules; a seed whose schedule breaks a promise replays exactly.
"""
