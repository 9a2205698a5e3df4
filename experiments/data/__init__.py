"""Labeled images from every source: read, checked, split and batched."""
