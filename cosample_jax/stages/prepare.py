"""prepare: the problems of every split, the tokenizer, and the base weights that are not trained here."""

import itertools

import numpy as np

from cosample_jax import checkpoint, embedded, hosts, remotes, sharding, tasks
from cosample_jax import config as config_lib
from cosample_jax.errors import UserError
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import tokenizer as tokenizer_lib
from cosample_jax.gemma import weights
from cosample_jax.grading import equivalence, judge
from cosample_jax.records import commit

# A tokenizer is trained on this many documents; enough for every word of the task to be seen often.
TOKENIZER_DOCUMENTS = 20_000


def run(config, workdir) -> dict:
    models = {config_lib.field_of(name): (name, entry) for name, entry in config_lib.own_weights(config).items()}
    found = {
        name: _open(f'{who}.init', entry)
        for who, (name, entry) in models.items()
        if entry.init not in ('package', 'pretrain') and not checkpoint.has_weights(workdir.model_dir(name))
    }
    counters = hosts.alone(_prepare_texts, config, workdir)
    tokenizer = tokenizer_lib.Tokenizer(workdir.tokenizer_path)
    imported = 0
    for who, (name, entry) in models.items():
        variant, mesh = gemma_config.variant(entry.variant), sharding.run_mesh(config)
        tokenizer.check(variant, who)
        if entry.init == 'pretrain' or checkpoint.has_weights(workdir.model_dir(name)):
            continue
        if entry.init == 'package':
            params = embedded.load_weights(entry.variant, variant, mesh)
            lineage = {'source': f'package:{entry.variant}'}
        else:
            _check_lineage(f'{who}.init', entry.init, tokenizer)
            params = weights.load(found[name], variant, mesh=mesh, description=f'read {entry.variant}')
            lineage = {'source': str(entry.init), 'format': found[name].format}
        lineage |= {'variant': entry.variant, 'tokenizer': tokenizer.fingerprint}
        checkpoint.save_weights(workdir.model_dir(name), params, lineage)
        imported += 1
    return counters | {'models_imported': imported}


def _prepare_texts(config, workdir) -> dict:
    """The problems and the tokenizer; what refuses the run does so before anything is written."""
    task = tasks.get(config.task.name)
    equivalence.readiness(task)
    judge.names(config, task)
    given = None if workdir.tokenizer_path.exists() else tokenizer_lib.given(config)
    for name in config_lib.api_models(config):
        print(f'{config_lib.field_of(name)}: {remotes.check(config, name)}')
    splits = tasks.build(config)
    notes = list(getattr(splits, 'notes', ()))
    if notes:
        print(*notes, sep='\n')
    for split, problems in splits.items():
        workdir.write_problems(split, problems)
    _prepare_tokenizer(config, workdir, task, given)
    tokenizer = tokenizer_lib.Tokenizer(workdir.tokenizer_path)
    lengths = [
        len(tokenizer.encode(p.question)) + len(tokenizer.encode(p.solution)) for ps in splits.values() for p in ps
    ]
    return {
        'problems': {split: len(problems) for split, problems in splits.items()},
        'left_out': notes,
        'longest_problem_tokens': int(np.max(lengths)),
    }


def _prepare_tokenizer(config, workdir, task, given: tokenizer_lib.Tokenizer | None) -> None:
    """The given one; else the embedded one where a model's embedded weights need it, else one trained on the task's
    own text.
    """
    if workdir.tokenizer_path.exists():
        return
    if given is not None:
        commit(workdir.tokenizer_path, given.content)
        return
    if any(entry.init == 'package' for entry in config.models.values()):
        commit(workdir.tokenizer_path, embedded.tokenizer_bytes())
        return
    vocab_size = gemma_config.variant(next(iter(config_lib.local_models(config).values())).variant).vocab_size
    documents = itertools.islice(task.documents(config), TOKENIZER_DOCUMENTS)
    texts = (''.join(prompt + target for prompt, target in turns) for turns in documents)
    tokenizer_lib.train(workdir.tokenizer_path, texts, vocab_size)


def _open(who: str, entry) -> weights.Checkpoint:
    """The checkpoint of a model, of any format that is read here; UserError unless it is its variant's."""
    try:
        found = weights.open_checkpoint(entry.init)
        weights.check(found, gemma_config.variant(entry.variant))
    except UserError as error:
        raise UserError(f'{who}: {error} (`cosample doctor` with this configuration tells how to get them)') from None
    return found


def _check_lineage(who: str, path, tokenizer: tokenizer_lib.Tokenizer) -> None:
    """UserError when weights made by this package were trained with another tokenizer, even one of the same size."""
    if not checkpoint.has_weights(path):
        return
    trained_with = checkpoint.read_lineage(path).get('tokenizer', tokenizer.fingerprint)
    if trained_with != tokenizer.fingerprint:
        raise UserError(
            f'{who}: the weights in {path} were trained with another tokenizer ({trained_with}) than this run '
            f'has ({tokenizer.fingerprint}): set config.tokenizer to tokenizer/tokenizer.model of their workdir'
        )
