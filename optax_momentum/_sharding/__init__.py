"""Sharding: the optimizer's state divided over the devices of a mesh."""
