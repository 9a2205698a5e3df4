"""Labelled images from every source, checked, split and batched."""
