"""Keeps pytest's doctest collection away from the recorders and their libraries."""

collect_ignore_glob = ["*.py"]
