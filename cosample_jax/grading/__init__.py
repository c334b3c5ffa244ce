"""Final answers: extract them, compare them, and grade whole pools. Nothing in this room imports JAX."""
