"""From which batch size on momentum is better than SGD."""
