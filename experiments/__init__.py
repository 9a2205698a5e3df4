"""Experiments that compare SGD with momentum on real images."""
