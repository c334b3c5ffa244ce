"""prepare: the problems of every split, the tokenizer, and the base weights that are not trained here."""

import itertools

import numpy as np

from cosample_jax import checkpoint, embedded, tasks
from cosample_jax.errors import UserError
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import tokenizer as tokenizer_lib
from cosample_jax.records import commit

# A tokenizer is trained on this many documents; enough for every word of the task to be seen often.
TOKENIZER_DOCUMENTS = 20_000


def run(config, workdir) -> dict:
    task = tasks.get(config.task.name)
    splits = task.build(config)
    for split, problems in splits.items():
        workdir.write_problems(split, problems)
    _prepare_tokenizer(config, workdir, task)
    tokenizer = tokenizer_lib.Tokenizer(workdir.tokenizer_path)
    imported = 0
    for name, entry in config.models.items():
        variant = gemma_config.variant(entry.variant)
        if tokenizer.vocab_size != variant.vocab_size:
            raise UserError(
                f'the tokenizer has {tokenizer.vocab_size} pieces but {entry.variant} (config.models.{name}) '
                f'embeds {variant.vocab_size}: choose a variant made for this tokenizer'
            )
        if entry.init == 'pretrain' or checkpoint.has_weights(workdir.model_dir(name)):
            continue
        if entry.init == 'package':
            params, lineage = (
                embedded.load_weights(entry.variant, variant),
                {'source': f'package:{entry.variant}'},
            )
        else:
            params, lineage = checkpoint.load_weights(entry.init, variant), {'source': entry.init}
        checkpoint.save_weights(workdir.model_dir(name), params, lineage | {'variant': entry.variant})
        imported += 1
    lengths = [
        len(tokenizer.encode(p.question)) + len(tokenizer.encode(p.solution)) for ps in splits.values() for p in ps
    ]
    return {
        'problems': {split: len(problems) for split, problems in splits.items()},
        'longest_problem_tokens': int(np.max(lengths)),
        'models_imported': imported,
    }


def _prepare_tokenizer(config, workdir, task) -> None:
    """The embedded one where a model's embedded weights need it, else one trained on the task's own text."""
    if workdir.tokenizer_path.exists():
        return
    if any(entry.init == 'package' for entry in config.models.values()):
        commit(workdir.tokenizer_path, embedded.tokenizer_bytes())
        return
    vocab_size = gemma_config.variant(config.models.weak.variant).vocab_size
    documents = itertools.islice(task.documents(config), TOKENIZER_DOCUMENTS)
    texts = (''.join(prompt + target for prompt, target in turns) for turns in documents)
    tokenizer_lib.train(workdir.tokenizer_path, texts, vocab_size)
