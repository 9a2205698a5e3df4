"""Which library keeps which promise, and how each reacts to bad inputs."""
