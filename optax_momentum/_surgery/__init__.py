"""Changes to the momentum of a run in progress."""
