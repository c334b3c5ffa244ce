"""What `import cosample_jax as cs` gives in a notebook: the names that `cosample_jax.__all__` lists."""
