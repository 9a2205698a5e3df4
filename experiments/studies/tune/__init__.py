"""The best optimizer for a user's own data."""
