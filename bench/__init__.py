"""Measurements: ratios against something run side by side, never one absolute time. Each prints for eyes or as JSON."""
