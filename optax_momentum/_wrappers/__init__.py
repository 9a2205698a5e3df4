"""Wrappers: guarding, accumulation, averaging, restarts, outer loops and packing."""
