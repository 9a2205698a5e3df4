# Run by a command of its own, with Playwright, which pytest's environment lacks.
collect_ignore_glob = ["*.py"]
