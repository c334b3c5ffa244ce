"""The judges of a run, as its configuration names them; where a model judges, it is asked through the sampler."""

import dataclasses
import functools
import math
from collections.abc import Iterator

from cosample_jax import checkpoint, memory, remotes, sharding, tasks
from cosample_jax import config as config_lib
from cosample_jax.cells import FILTERING
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import model
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.grading import judge as judge_lib
from cosample_jax.grading.pool import JUDGING
from cosample_jax.records import UNCHECKED
from cosample_jax.sampling import asking
from cosample_jax.sampling.engine import Engine
from cosample_jax.sampling.pool import fill_pool
from cosample_jax.sampling.remote import Remote
from cosample_jax.sampling.schedule import Request
from cosample_jax.tasks import api_prompts, prompts


def of(config, workdir) -> Iterator[judge_lib.Judge]:
    """Who judges, one after the other, the one whose verdicts are the false-positive rate first.

    Raises:
        UserError: as `judge.names`.
    """
    task = tasks.get(config.task.name)
    programs = {
        judge_lib.STEPS: lambda: judge_lib.steps(task),
        judge_lib.CALCULATOR: judge_lib.calculating,
    }
    for name in judge_lib.names(config, task):
        yield programs[name]() if name in programs else ModelJudge(config, workdir, name)


class ModelJudge:
    """A model, asked zero-shot and greedily in its own template: a Gemma, or one behind an API. What it writes is kept
    in `pools/judge/<name>`.

    Killed, it goes on where it stopped: its texts are committed as they come, and verdicts are read off them.
    """

    def __init__(self, config, workdir, name: str):
        self.name, self.samples = name, config.judge.samples
        self._config, self._workdir = config, workdir
        entry = config_lib.all_models(config)[name]
        self._is_remote = config_lib.endpoint(config, name) is not None
        self.needs_all = not self._is_remote
        if self._is_remote:
            self._template = api_prompts.template(entry.chat)
            return
        self._variant = gemma_config.variant(entry.variant)
        self._template = prompts.template(Tokenizer(workdir.tokenizer_path), entry.chat)
        self._mesh = sharding.run_mesh(config)

    @functools.cached_property
    def _params(self):
        directory = self._workdir.model_dir(self.name)
        return checkpoint.load_weights(directory, self._variant, model.compute_dtype(), self._mesh)

    def judge(self, items: judge_lib.Items) -> judge_lib.Said:
        """UNCHECKED is what is too long for the model's context."""
        # An API knows itself what is too long for it.
        room = math.inf if self._is_remote else self._variant.context - self._config.judge.max_new_tokens
        said, asked = {}, {}
        for key, (problem, text) in items.items():
            prompt = self._template.prompt(judge_lib.question(problem, text, key[0] != FILTERING))
            if len(prompt) > room:
                said[key] = UNCHECKED, f'{len(prompt)} tokens to read, {room} fit'
            else:
                asked[key] = Request('/'.join(map(str, key)), 0, prompt)
        texts = self._ask(list(asked.values())) if asked else {}
        return said | {key: judge_lib.parse(texts[request.problem_id]) for key, request in asked.items()}

    def _ask(self, requests: list[Request]) -> dict[str, str]:
        store = self._workdir.pool(JUDGING, self.name)
        fill_pool(store, self._engine(requests), requests, text=self._template.text, model=self.name)
        return {sample.problem_id: sample.text for sample in store.read()}

    def _engine(self, requests: list[Request]) -> Engine | Remote:
        limit = self._config.judge.max_new_tokens
        if self._is_remote:
            return remotes.open_door(
                self._config, self._workdir, self.name, JUDGING, self._template, greedy=True, max_new_tokens=limit
            )
        settings = asking.settings(self._config, self._template, JUDGING, greedy=True)
        settings = dataclasses.replace(settings, max_new_tokens=limit)
        settings = memory.with_slots(settings, self._variant, self._config.mesh, requests)
        return Engine(self._params, self._variant, settings, requests, self._mesh)
