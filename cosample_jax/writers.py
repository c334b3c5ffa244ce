"""A model that writes training data: asked as its pool of samples was asked from the first one on."""

import functools
from collections.abc import Callable, Mapping

from cosample_jax import checkpoint, memory, sharding, tasks
from cosample_jax import config as config_lib
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import model
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.progress import Bar
from cosample_jax.sampling import asking
from cosample_jax.sampling.engine import Engine
from cosample_jax.sampling.pool import fill_pool
from cosample_jax.sampling.schedule import Request


class Writer:
    """A source model with its pool of samples for training.

    Attributes:
        requests: All that the shapes of the engine follow from, side by side for each problem.
        store: The pool.
    """

    def __init__(self, config, workdir, name: str, count: Callable[[str], int]):
        """`count(problem_id)` requests for each training problem; the pool may be given more or fewer samples."""
        self.name = name
        entry = config.models[name]
        self._template = tasks.template(config, Tokenizer(workdir.tokenizer_path), entry.chat)
        self._variant = gemma_config.variant(entry.variant)
        self._mesh = sharding.run_mesh(config)
        self._directory = workdir.model_dir(config_lib.weights_of(config, name))
        shots = asking.shots(workdir) if entry.shots else []
        self.requests = asking.requests(self._template, workdir.problems('train'), shots, count)
        settings = asking.settings(config, self._template, 'train', source=name)
        self._settings = memory.with_slots(settings, self._variant, config.mesh, self.requests)
        self.store = workdir.pool('train', name)
        asking.store_prompt(self.store.directory, self._template, shots)

    @functools.cached_property
    def engine(self) -> Engine:
        """Loads the weights."""
        params = checkpoint.load_weights(self._directory, self._variant, model.compute_dtype(), self._mesh)
        return Engine(params, self._variant, self._settings, self.requests, self._mesh)

    @property
    def is_loaded(self) -> bool:
        return 'engine' in self.__dict__

    def release(self) -> None:
        """Gives the memory back; what was compiled stays, so the next engine only loads the weights."""
        self.__dict__.pop('engine', None)

    def first(self, counts: Mapping[str, int]) -> list[Request]:
        """The requests for the first samples of each problem, as many as `counts` says."""
        prompts = {request.problem_id: request.prompt for request in self.requests}
        return [Request(problem, index, prompts[problem]) for problem, n in counts.items() for index in range(n)]

    def missing(self, requests: list[Request]) -> bool:
        """Whether the pool does not have all of them yet."""
        have = self.store.keys()
        return any((request.problem_id, self.name, request.sample_index) not in have for request in requests)

    def fill(self, requests: list[Request], bar: Bar | None = None) -> None:
        """Draws what the pool does not have of them yet (`fill_pool`)."""
        fill_pool(self.store, self.engine, requests, text=self._template.text, model=self.name, bar=bar)
