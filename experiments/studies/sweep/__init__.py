"""The best learning rate and beta of each method, and what they gain."""
