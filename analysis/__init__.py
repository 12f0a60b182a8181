"""Algorithms on plain arrays with pixel sizes, blind to every truth."""
