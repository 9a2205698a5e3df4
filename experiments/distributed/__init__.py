"""Training on several devices and processes, and stopping it by a signal."""
