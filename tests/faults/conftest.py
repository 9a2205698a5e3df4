# Run by a command of its own: see campaign.py.
collect_ignore_glob = ["*.py"]
