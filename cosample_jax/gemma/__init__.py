"""Gemma 1, 2 and 3 (text) in Flax linen."""
