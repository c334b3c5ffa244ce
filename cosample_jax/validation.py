"""Accuracy of a model on a set of problems: generated zero-shot and greedily, graded as everything else is."""

from cosample_jax import sharding, tasks
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.grading import equivalence
from cosample_jax.records import Problem
from cosample_jax.sampling.engine import Engine, Request, SamplingSettings
from cosample_jax.tasks import prompts


class Validation:
    """Prepared once, asked for each checkpoint of each cell: only the weights change, so nothing compiles twice."""

    def __init__(self, config, problems: list[Problem], tokenizer: Tokenizer):
        self._golds = {problem.id: problem.answer for problem in problems}
        self._markers = tasks.get(config.task.name).MARKERS
        self._tokenizer = tokenizer
        self._mesh = sharding.run_mesh(config)
        self._requests = [Request(p.id, 0, tokenizer.encode(prompts.zero_shot(p.question), bos=True)) for p in problems]
        self._settings = SamplingSettings(
            seed=config.seed,
            purpose='validation',
            temperature=0.0,
            top_k=0,
            max_new_tokens=config.sampling.max_new_tokens,
            slots=config.sampling.slots,
            stop_ids=(tokenizer.eos, tokenizer.piece_id(prompts.STOP)),
        )

    def accuracy(self, params, variant: GemmaConfig) -> float:
        """Share of the problems whose greedy solution has the right final answer."""
        engine = Engine(params, variant, self._settings, self._requests, self._mesh)
        pairs = {
            done.problem_id: (self._golds[done.problem_id], self._tokenizer.decode(done.tokens))
            for done in engine.sample(self._requests)
        }
        verdicts = equivalence.grade_many(self._markers, pairs)
        return sum(verdict.correct for verdict in verdicts.values()) / len(verdicts)
