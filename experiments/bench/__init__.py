"""Benchmarks: our programs and others, measured in turn and compared by medians."""
