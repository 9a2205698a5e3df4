"""Schedules of the learning rate, and where conventions part under them."""
