"""From problems to what the engine takes: prompts as token ids, and the settings of a run. One way for all stages."""

from collections.abc import Callable, Iterable, Sequence

from cosample_jax.records import Problem
from cosample_jax.sampling.policy import SamplingSettings
from cosample_jax.sampling.schedule import Request
from cosample_jax.sampling.stops import StopStrings
from cosample_jax.tasks.prompts import Template


def requests(
    template: Template, problems: Iterable[Problem], shots: Sequence[Problem], count: Callable[[str], int]
) -> list[Request]:
    """`count(problem_id)` requests for each problem, side by side; zero-shot when there are no `shots`."""
    asked = []
    for problem in problems:
        prompt = template.prompt(problem.question, shots)
        asked += [Request(problem.id, index, prompt) for index in range(count(problem.id))]
    return asked


def settings(config, template: Template, purpose: str, greedy: bool = False) -> SamplingSettings:
    """How a run samples for `purpose`: as `config.sampling` says, or greedily. A sample ends as its template says."""
    sampling, stops = config.sampling, template.stop_strings
    return SamplingSettings(
        seed=config.seed,
        purpose=purpose,
        temperature=0.0 if greedy else sampling.temperature,
        top_k=0 if greedy else sampling.top_k,
        top_p=1.0 if greedy else sampling.top_p,
        max_new_tokens=sampling.max_new_tokens,
        slots=sampling.slots,
        stop_ids=template.stop_ids,
        stop_strings=StopStrings(stops, template.tokenizer.pieces) if stops else None,
    )
