"""Schedules of the learning rate, and momentum's conventions under them."""
