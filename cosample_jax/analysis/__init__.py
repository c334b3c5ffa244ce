"""What the numbers carry: estimators over graded pools, and the intervals around them (no JAX)."""
