"""Benchmarks: ours in turn with others, as ratios of medians taken in one run."""
