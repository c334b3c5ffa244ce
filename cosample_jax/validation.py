"""Accuracy of a model on a set of problems: generated zero-shot and greedily, graded as everything else is."""

from collections.abc import Callable

from cosample_jax import hosts, memory, sharding, tasks
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.grading import equivalence
from cosample_jax.records import Problem
from cosample_jax.sampling import asking
from cosample_jax.sampling.engine import Engine
from cosample_jax.tasks.prompts import Template


class Validation:
    """Prepared once, asked for each checkpoint of each cell: only the weights change, so nothing compiles twice."""

    def __init__(self, config, problems: list[Problem], template: Template):
        self._golds = {problem.id: problem.answer for problem in problems}
        self._task = tasks.get(config.task.name)
        self._template = template
        self._mesh, self._sizes = sharding.run_mesh(config), config.mesh
        self._requests = asking.requests(template, problems, shots=(), count=lambda _: 1)
        self._settings = asking.settings(config, template, 'validation', greedy=True)

    def accuracy(self, params, variant: GemmaConfig, should_stop: Callable[[], bool] = lambda: False) -> float | None:
        """Share of the problems whose greedy solution has the right final answer; None when `should_stop` said so."""
        settings = memory.with_slots(self._settings, variant, self._sizes, self._requests)
        engine = Engine(params, variant, settings, self._requests, self._mesh)
        pairs = {
            done.problem_id: (self._golds[done.problem_id], self._template.text(done.tokens))
            for done in engine.sample(self._requests, should_stop)
        }
        if len(pairs) < len(self._requests):
            return None
        return hosts.alone(self._graded, pairs)

    def _graded(self, pairs: dict[str, tuple[str, str]]) -> float:
        verdicts = equivalence.grade_many(self._task, pairs)
        return sum(verdict.correct for verdict in verdicts.values()) / len(verdicts)
