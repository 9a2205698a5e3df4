"""Optimizers to compare, including a user's, and learning-rate schedules."""
