"""The sweep: which learning rate and beta each method wants."""
