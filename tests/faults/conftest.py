# campaign.py runs these modules; pytest must not collect them.
collect_ignore_glob = ["*.py"]
