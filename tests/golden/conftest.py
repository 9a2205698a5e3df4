"""Exclude the recorders from doctest collection: their libraries aren't installed."""

collect_ignore_glob = ["*.py"]
