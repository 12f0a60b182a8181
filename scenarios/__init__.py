"""Recipes: a sample, an instrument and the tasks set on their data."""
