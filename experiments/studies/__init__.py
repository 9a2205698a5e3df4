"""Studies: questions about momentum, each a plan, its runs and one page of answers."""
