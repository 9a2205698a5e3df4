"""State surgery: changing the momentum of a run in progress."""
