"""Chooses beta by cross-validation."""
