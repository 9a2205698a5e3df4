"""Other libraries, run as processes in Python environments of their own.

`programs/` holds what runs there: it imports nothing from this project.
"""
