"""Transformations around others: guards, accumulation, averages, restarts, packing."""
