"""Tests of the bundled app."""
