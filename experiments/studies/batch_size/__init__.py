"""From which batch size on momentum matters."""
