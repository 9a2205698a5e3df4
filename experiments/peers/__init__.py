"""Other libraries, run in Python environments of their own."""
