"""What a run leaves on disk: its config, its record, the plan it belongs to."""
