"""The verbs that are no stage, one file each with `main(args)`; see `cosample_jax.verbs.VERBS`."""
