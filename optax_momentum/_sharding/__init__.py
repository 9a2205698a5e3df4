"""A state divided over the devices of a mesh."""
