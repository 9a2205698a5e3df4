"""Forty bad inputs, given to optax_momentum and to Optax in four modes."""
