"""Simulated hosts behind a real sshd: for the demonstration of a fleet, and for tests of actions on other hosts."""
