"""From problems to what the engine takes: prompts as token ids, and the settings of a run. One way for all stages.

Beside the parts of each pool lies ``prompt.json``, what all its samples were asked with.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

from cosample_jax import hosts
from cosample_jax.errors import UserError
from cosample_jax.records import Problem, read_json, write_json
from cosample_jax.sampling.policy import SamplingSettings
from cosample_jax.sampling.schedule import Request
from cosample_jax.sampling.stops import StopStrings
from cosample_jax.tasks.prompts import Template


def shots(workdir) -> list[Problem]:
    """The problems of the few-shot prompt; none where the run has no shots, and its models are all asked zero-shot."""
    return workdir.problems('shots') if 'shots' in workdir.splits() else []


def requests(
    template: Template, problems: Iterable[Problem], shots: Sequence[Problem], count: Callable[[str], int]
) -> list[Request]:
    """`count(problem_id)` requests for each problem, side by side; zero-shot when there are no `shots`."""
    asked = []
    for problem in problems:
        prompt = template.prompt(problem.question, shots)
        asked += [Request(problem.id, index, prompt) for index in range(count(problem.id))]
    return asked


def prompt_hash(template: Template, shots: Sequence[Problem]) -> str:
    """The SHA-256 of the prompt with {question} for the question."""
    return hashlib.sha256(template.spelled('{question}', shots).encode()).hexdigest()


def described(template: Template, shots: Sequence[Problem]) -> dict:
    """The prompt of a pool as JSON: its ``text`` with {question} for the question and control tokens by name, its
    ``sha256``, the ids of the ``shots``, and what ends a sample.
    """
    return {
        'style': type(template).__name__.lower(),
        'text': template.spelled('{question}', shots),
        'sha256': prompt_hash(template, shots),
        'shots': [shot.id for shot in shots],
        'stop_strings': list(template.stop_strings),
        'stop_ids': list(template.stop_ids),
    }


def store_prompt(directory, template: Template, shots: Sequence[Problem]) -> None:
    """Writes the prompt of the pool in `directory`, before anything is sampled (one process does).

    Raises:
        UserError: what is there already was asked otherwise.
    """
    hosts.alone(_store_prompt, directory / 'prompt.json', described(template, shots))


def _store_prompt(path, wanted: dict) -> None:
    if not path.exists():
        write_json(path, wanted)
        return
    found = read_json(path)
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        raise UserError(
            f'{path}: the samples there were asked with another prompt ({", ".join(differing)}): '
            'take another --workdir, or the version that made them'
        )


def settings(config, template: Template, purpose: str, greedy: bool = False, source: str = '') -> SamplingSettings:
    """How a run samples for `purpose`: as `config.sampling` says, or a `source` with a temperature of its own, or
    greedily. A sample ends as its template says.
    """
    sampling, stops = config.sampling, template.stop_strings
    heat = config.models[source] if source and config.models[source].temperature else sampling
    return SamplingSettings(
        seed=config.seed,
        purpose=purpose,
        temperature=0.0 if greedy else heat.temperature,
        top_k=0 if greedy else heat.top_k,
        top_p=1.0 if greedy else sampling.top_p,
        max_new_tokens=sampling.max_new_tokens,
        slots=sampling.slots,
        stop_ids=template.stop_ids,
        stop_strings=StopStrings(stops, template.tokenizer.pieces) if stops else None,
    )
