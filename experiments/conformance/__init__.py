"""Which library keeps which promise, and what each does with bad inputs."""
