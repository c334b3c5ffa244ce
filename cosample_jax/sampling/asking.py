"""From problems to what the engine takes: prompts as token ids, and the settings of a run. One way for all stages."""

from collections.abc import Callable, Iterable, Sequence

from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.records import Problem
from cosample_jax.sampling.policy import SamplingSettings
from cosample_jax.sampling.rows import Finished
from cosample_jax.sampling.schedule import Request
from cosample_jax.sampling.stops import StopStrings
from cosample_jax.tasks import prompts


def requests(
    tokenizer: Tokenizer, problems: Iterable[Problem], shots: Sequence[Problem], count: Callable[[str], int]
) -> list[Request]:
    """`count(problem_id)` requests for each problem, side by side; zero-shot when there are no `shots`.

    A prompt is tokenised whole: pieces tokenised apart give other tokens at the seams.
    """
    asked = []
    for problem in problems:
        prompt = tokenizer.encode(prompts.few_shot(shots, problem.question), bos=True)
        asked += [Request(problem.id, index, prompt) for index in range(count(problem.id))]
    return asked


def settings(config, tokenizer: Tokenizer, purpose: str, greedy: bool = False) -> SamplingSettings:
    """How a run samples for `purpose`: as `config.sampling` says, or greedily. A blank line ends a solution too."""
    sampling = config.sampling
    return SamplingSettings(
        seed=config.seed,
        purpose=purpose,
        temperature=0.0 if greedy else sampling.temperature,
        top_k=0 if greedy else sampling.top_k,
        top_p=1.0 if greedy else sampling.top_p,
        max_new_tokens=sampling.max_new_tokens,
        slots=sampling.slots,
        stop_ids=tokenizer.stop_ids(prompts.STOP),
        stop_strings=StopStrings(prompts.STOP_STRINGS, tokenizer.pieces),
    )


def text(tokenizer: Tokenizer, done: Finished) -> str:
    """What a sample says, up to where it stopped."""
    return prompts.before_stop(tokenizer.decode(done.tokens))
