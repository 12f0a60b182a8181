"""Kinds of specimen, one file each."""
