"""Tests of the guards, one module each."""
