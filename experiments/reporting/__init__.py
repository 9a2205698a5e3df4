"""Pages, drawings, statistics and event files made from finished runs."""
