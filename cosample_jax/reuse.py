"""Samples of another run, where they are what this one would draw: then nothing is drawn twice.

A sample depends on its keys (seed, problem, index), the prompt, the weights and how tokens are chosen
(:mod:`cosample_jax.sampling.policy`), not on how many others are drawn; where all of these agree it is taken over.
"""

from collections.abc import Sequence

from cosample_jax import checkpoint, hosts
from cosample_jax import config as config_lib
from cosample_jax.errors import UserError
from cosample_jax.records import read_json
from cosample_jax.sampling.policy import hash32
from cosample_jax.sampling.schedule import Request
from cosample_jax.workdir import Workdir

_FIELDS = ('seed', 'tokenizer', 'task.name', 'sampling.temperature', 'sampling.top_k', 'sampling.top_p')
_FIELDS += ('sampling.max_new_tokens', 'sampling.slots')
_OF_THE_MODEL = ('variant', 'chat', 'shots', 'temperature', 'top_k')
_OF_AN_API = ('init', 'api.thinking')


def take(config, workdir, source: str, requests: Sequence[Request]) -> int:
    """Appends those of the `requests` that the run in config.sampling.pools has drawn of `source`; how many.

    0 where it has none, or shorter pools: what is missing is drawn.

    Raises:
        UserError: there is no such run, or it was sampled otherwise: names how.
    """
    other = Workdir(config.sampling.pools)
    path = other.path('config.json')
    if not path.exists():
        raise UserError(f'config.sampling.pools: {other.root} is not the workdir of a run')
    drawn = other.pool('train', source)
    if not len(drawn):
        return 0
    there, here = config_lib.flatten(read_json(path)), config_lib.flatten(config_lib.to_json(config))
    is_remote = config_lib.endpoint(config, source) is not None
    fields = [*_FIELDS, *(f'models.{source}.{name}' for name in _OF_THE_MODEL + _OF_AN_API * is_remote)]
    if config.models[config_lib.weights_of(config, source)].init == 'pretrain':  # of which the lineage tells little
        fields += [field for field in here if field.startswith('pretrain.')]
    for field in fields:
        if there.get(field) != here[field]:
            raise UserError(
                f'config.sampling.pools: {other.root} was sampled with {field} {there.get(field)!r}, not '
                f'{here[field]!r}: leave it out, or take the same'
            )
    same = {'the prompt': lambda run: read_json(run.pool('train', source).directory / 'prompt.json')}
    if not is_remote:
        weights = config_lib.weights_of(config, source)
        same['the weights'] = lambda run: checkpoint.read_lineage(run.model_dir(weights))
    for what, of in same.items():
        if of(other) != of(workdir):
            raise UserError(f'config.sampling.pools: {what} of {source} in {other.root} is another: leave it out')
    _check_questions(other, workdir)
    store = workdir.pool('train', source)
    wanted = {(request.problem_id, source, request.sample_index) for request in requests} - store.keys()
    hosts.wait('the pool is read')  # before anybody writes: all must miss the same samples
    taken = [s for s in drawn.read() if (s.problem_id, source, s.sample_index) in wanted]
    store.append([sample for sample in taken if hosts.is_mine(hash32(sample.problem_id))])
    hosts.wait('samples are taken over')
    return len(taken)


def _check_questions(other: Workdir, workdir: Workdir) -> None:
    """UserError unless problems of the same id are the same."""
    theirs = {problem.id: problem.question for problem in other.problems('train')}
    for problem in workdir.problems('train'):
        if theirs.get(problem.id, problem.question) != problem.question:
            raise UserError(f'config.sampling.pools: problem {problem.id} of {other.root} is another one: leave it out')
