"""Building blocks of all transformations: checks, scalars, placement and norms."""
