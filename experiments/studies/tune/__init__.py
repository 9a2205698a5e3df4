"""What to train one's own data with."""
