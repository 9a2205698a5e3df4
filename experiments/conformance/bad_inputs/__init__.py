"""Forty bad inputs to an optimizer, in four modes: what ours and what Optax's does."""
