"""Compiled programs that outlive the process: a resumed run, or the next one, finds them. No JAX here."""

import os


def keep() -> None:
    """Tells JAX where to keep them, unless the user has; to be called before JAX is imported, which reads it then."""
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', os.path.expanduser('~/.cache/cosample_jax/compiled'))
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
