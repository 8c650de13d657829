"""Promises of the remediator, as tests."""
