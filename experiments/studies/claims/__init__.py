"""Tests the tutorial's four claims about momentum by measurement."""
