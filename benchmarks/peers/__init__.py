"""Other libraries' samplers behind one interface, each a `make(config, params) -> generate`, for a benchmark."""

import importlib
from collections.abc import Callable


def _lazy(module: str, *packages: str) -> Callable | None:
    """`module.make`, imported when called; None, with the reason printed, where a package is not installed."""

    def make(config, params):
        for package in packages:
            try:
                importlib.import_module(package)
            except ImportError as error:
                print(f'SKIPPED {module}: {error}')
                return None
        return importlib.import_module(f'{__name__}.{module}').make(config, params)

    return make


# What each gives is None where its package is missing. The file of the second has another name than the package.
PEERS: dict[str, Callable] = {
    'gemma': _lazy('official', 'gemma.gm'),
    'tunix': _lazy('tunix_sampler', 'tunix.generate.sampler', 'tunix.models.gemma.model'),
    'transformers': _lazy('hf', 'torch', 'transformers'),
}
