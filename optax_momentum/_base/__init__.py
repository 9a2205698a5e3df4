"""What all transformations share: checks, scalars, placement and norms."""
