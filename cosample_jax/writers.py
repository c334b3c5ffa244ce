"""A model that writes training data: asked as its pool of samples was asked from the first one on."""

import functools
from collections.abc import Callable, Mapping

from cosample_jax import checkpoint, hosts, memory, remotes, sharding, tasks
from cosample_jax import config as config_lib
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import model
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.progress import Bar
from cosample_jax.sampling import asking
from cosample_jax.sampling.engine import Engine
from cosample_jax.sampling.pool import fill_pool
from cosample_jax.sampling.remote import Remote
from cosample_jax.sampling.schedule import Request


class Writer:
    """A source model with its pool of samples for training; its weights are here, or it is behind an API.

    Attributes:
        requests: All that the shapes of the engine follow from, side by side for each problem.
        store: The pool.
    """

    def __init__(self, config, workdir, name: str, count: Callable[[str], int]):
        """`count(problem_id)` requests for each training problem; the pool may be given more or fewer samples."""
        self.name = name
        self._config, self._workdir = config, workdir
        entry = config.models[name]
        self.is_remote = config_lib.endpoint(config, name) is not None
        if self.is_remote:
            self._template = tasks.api_template(config, entry.chat)
        else:
            self._template = tasks.template(config, Tokenizer(workdir.tokenizer_path), entry.chat)
        shots = asking.shots(workdir) if entry.shots else []
        self.requests = asking.requests(self._template, workdir.problems('train'), shots, count)
        self.store = workdir.pool('train', name)
        asking.store_prompt(self.store.directory, self._template, shots)

    @functools.cached_property
    def engine(self) -> Engine | Remote:
        """Loads the weights, or knocks at the API."""
        config, name = self._config, self.name
        if self.is_remote:
            return remotes.open_door(config, self._workdir, name, 'train', self._template)
        variant, mesh = gemma_config.variant(config.models[name].variant), sharding.run_mesh(config)
        settings = asking.settings(config, self._template, 'train', source=name)
        settings = memory.with_slots(settings, variant, config.mesh, self.requests)
        directory = self._workdir.model_dir(config_lib.weights_of(config, name))
        params = checkpoint.load_weights(directory, variant, model.compute_dtype(), mesh)
        return Engine(params, variant, settings, self.requests, mesh)

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
        """Draws what the pool does not have of them yet (`fill_pool`); an API is asked by one process."""
        if self.is_remote:
            hosts.alone(self._fill, requests, bar)
        else:
            self._fill(requests, bar)

    def _fill(self, requests: list[Request], bar: Bar | None) -> None:
        fill_pool(self.store, self.engine, requests, text=self._template.text, model=self.name, bar=bar)
