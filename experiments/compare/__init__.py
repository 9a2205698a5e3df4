"""SGD against momentum: the command `compare` and its page."""
