"""Compute-optimal sampling of synthetic training data, in JAX."""

__version__ = '0.1.0'
