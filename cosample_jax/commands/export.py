"""`cosample export`: the kept solutions of a source as JSON lines, for any other trainer."""

import json
from collections.abc import Sequence

from cosample_jax import tasks, training_sets
from cosample_jax.errors import UserError, did_you_mean
from cosample_jax.records import commit, read_json
from cosample_jax.tasks import prompts

FORMATS = ('chat', 'completion')


def main(args) -> None:
    """Writes what a cell of `args.data` at `args.budget` learns from to `args.output`, in the order of training data.

    `chat` rows have `messages` of a user and an assistant, to be put into turns by the trainer's own chat template;
    `completion` rows have `prompt` and `completion`, to be joined as they are and ended by the trainer. Both say what
    this project's own templates ask and teach. The other fields tell where a row is from. The output appears whole or
    not at all.

    Raises:
        UserError: unknown data, budget or format, or nothing was graded yet.
    """
    config, workdir = args.config, args.workdir
    budget = args.budget or (config.recipes.get(args.data) or {}).get('budget') or config.budget.levels[0]
    format_ = args.format or FORMATS[0]
    _choice('data', args.data, (*config.roles.sources, 'gold', *config.recipes))
    _choice('budget', budget, config.budget.levels)
    _choice('format', format_, FORMATS)
    if args.data != 'gold':
        workdir.done_info('grade')
    kept, contaminated = training_sets.training_data(config, workdir, args.data, budget)
    if not kept:
        raise UserError(f'--data={args.data}: nothing was kept at the {budget} budget, there is nothing to export')
    origins = {source: _origin(config, workdir, source) for source in {each.source for each in kept}}
    told = {'data': args.data, 'budget': budget, 'task': config.task.name, 'run': config.name}
    stops = tasks.stops(config)
    rows = (_row(each, format_, stops) | told | origins[each.source] for each in kept)
    lines = [json.dumps(row, ensure_ascii=False) + '\n' for row in rows]
    commit(args.output, ''.join(lines).encode())
    left_out = f', {contaminated:,} left out that quote a test problem' if contaminated else ''
    print(f'{args.output}: {len(kept):,} solutions of {len({k.problem.id for k in kept}):,} problems{left_out}')


def _origin(config, workdir, source: str) -> dict:
    """Who wrote a solution, and how it was asked."""
    if source == 'gold':
        return {'source': 'gold', 'model': 'reference'}
    path = workdir.pool('train', source).directory / 'prompt.json'
    asked = read_json(path)['sha256'] if path.exists() else ''
    return {
        'source': source,
        'model': config.models[source].variant or config.models[source].init,
        'prompt_sha256': asked,
    }


def _choice(flag: str, value: str, choices) -> None:
    if value not in choices:
        raise UserError(
            f'--{flag}={value}: not a choice of this run ({", ".join(choices)}){did_you_mean(value, choices)}'
        )


def _row(kept: training_sets.Kept, format_: str, stops: Sequence[str]) -> dict:
    problem, solution = kept.problem, kept.solution
    if format_ == 'chat':
        asked = {'role': 'user', 'content': problem.question.strip()}
        row = {'messages': [asked, {'role': 'assistant', 'content': solution.strip()}]}
    else:
        row = {'prompt': prompts.zero_shot(problem.question), 'completion': prompts.target(solution, stops)}
    about = {'answer': problem.answer, 'level': problem.level, 'subject': problem.subject}
    return row | {'id': problem.id, 'sample_index': kept.sample_index} | about
