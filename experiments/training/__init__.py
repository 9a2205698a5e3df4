"""Training: steps, epochs, scoring, checkpoints and the start-up check."""
