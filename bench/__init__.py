"""Measurements: ratios against a reference in the same run, and no absolute times. Each prints text or JSON."""
