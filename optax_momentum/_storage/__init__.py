"""Encoding of stored leaves: stochastic rounding, blocks of 8 bits, decoding."""
