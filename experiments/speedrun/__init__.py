"""CIFAR-10 to 94% by the published recipe: what it takes, part by part."""
