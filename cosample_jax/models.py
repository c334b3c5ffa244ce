"""A model of a run by its name, ready to be asked: one of its models, or a fine-tuned cell."""

from cosample_jax import cells, checkpoint
from cosample_jax import config as config_lib
from cosample_jax.errors import UserError, did_you_mean
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import model
from cosample_jax.records import read_json
from cosample_jax.sampling import asking


def load(name: str, config, workdir, mesh=None):
    """(variant, chat, weights, shots) of a base model, which is asked few-shot, or a fine-tuned cell, zero-shot.

    Raises:
        UserError: The run has none of this name, it is not trained, or it is behind an API.
    """
    of = model_of(name, config)
    if name == of:
        variant = gemma_config.variant(config.models[name].variant)
        directory = workdir.model_dir(config_lib.weights_of(config, name))
        base = checkpoint.load_weights(directory, variant, model.compute_dtype(), mesh)
        return variant, config.models[name].chat, base, asking.shots(workdir) if config.models[name].shots else []
    record = _record(name, workdir)
    variant = gemma_config.variant(config.models[of].variant)
    checkpoints = checkpoint.RunCheckpoints(workdir.cell_dir(name) / record['weights'])
    params = checkpoints.load_best(variant, model.compute_dtype())
    checkpoints.close()
    return variant, config.models[of].chat, params, []


def model_of(name: str, config) -> str:
    """The model of the run that `name` is, or that the cell `name` was trained from.

    UserError when it is neither, or behind an API.
    """
    if name in config_lib.api_models(config):
        raise UserError(f'--model={name}: {config.models[name].init} is behind an API and has no weights here')
    if name in config.models:
        return name
    grid = {cell.name: cell for cell in cells.grid(config)}
    if name not in grid:
        raise UserError(
            f'--model={name}: neither a model nor a cell of this run{did_you_mean(name, [*config.models, *grid])}'
        )
    return grid[name].model


def lineage(name: str, config, workdir) -> dict:
    """Where the weights of a model come from, and for a cell what it was trained on."""
    of = model_of(name, config)
    told = checkpoint.read_lineage(workdir.model_dir(config_lib.weights_of(config, of)))
    return told if name == of else {'trained': _record(name, workdir), 'from': told}


def _record(name: str, workdir) -> dict:
    path = workdir.cell_dir(name) / 'cell.json'
    if not path.exists():
        raise UserError(f'{name} is not trained yet: run `cosample finetune --workdir={workdir.root}` first')
    record = read_json(path)
    if not record['trained']:
        raise UserError(f'{name} was not trained: {record["reason"]}')
    return record
