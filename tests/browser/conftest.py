# check_pages.py is a separate command: pytest's environment lacks Playwright.
collect_ignore_glob = ["*.py"]
