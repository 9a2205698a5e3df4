"""The tutorial's four claims about momentum, each put to a measured test."""
