"""Optimizers to compare, a user's own among them, and learning-rate schedules."""
