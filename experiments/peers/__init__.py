"""Other libraries, run as processes in separate Python environments.

`programs/` holds what runs there: it imports nothing from this project.
"""
