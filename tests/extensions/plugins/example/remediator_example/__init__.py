"""A worked example of a plugin."""
