"""Tests of the remediator and its promises."""
