"""Orbax checkpoints: weights with their lineage, and the two managers of a training run.

Weights are float32 pytrees (:mod:`cosample_jax.gemma.model`). A checkpoint appears whole or not at all: Orbax writes
under a temporary name and renames. `lineage` says where weights come from, all the way back.
"""

from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh

from cosample_jax import hosts
from cosample_jax.errors import UserError
from cosample_jax.gemma import weights
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.records import is_remote, read_json, write_json


def _absolute(path) -> epath.Path:
    """Orbax takes no relative paths; a gs:// one is absolute."""
    return epath.Path(path) if is_remote(path) else epath.Path(path).absolute()


def save_weights(directory, params, lineage: dict[str, Any]) -> None:
    """Writes `params` to ``directory/weights`` and `lineage` beside it, last; weights that are already there stay.

    Several processes save together what lies on the devices of all.
    """
    directory = _absolute(directory)
    if not has_weights(directory):
        save_tree(directory / 'weights', params)
        hosts.alone(write_json, directory / 'lineage.json', lineage)


def save_tree(directory, tree) -> None:
    """Writes a tree of arrays as an Orbax checkpoint."""
    # In chunks as small as the pieces that `weights.load` reads: a chunk is decoded whole.
    chunked = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=weights.PIECE_BYTES), tree)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(_absolute(directory), tree, save_args=chunked, force=True)


def has_weights(directory) -> bool:
    return (epath.Path(directory) / 'lineage.json').exists()


def load_weights(directory, config: GemmaConfig, dtype=jnp.float32, mesh: Mesh | None = None):
    """The parameters that :func:`save_weights` wrote. Raises UserError when they are not there or not `config`'s."""
    directory = _absolute(directory)
    if not has_weights(directory):
        raise UserError(f'no weights in {directory}: run `cosample prepare` and `cosample pretrain` first')
    return weights.load(weights.open_checkpoint(directory), config, dtype, mesh)


def read_lineage(directory) -> dict[str, Any]:
    return read_json(epath.Path(directory) / 'lineage.json')


class RunCheckpoints:
    """The checkpoints of one training run, under `directory`.

    ``state/`` holds the latest resumable state (weights, moments, history), saved by the clock. ``weights/`` holds the
    best weights by validation accuracy (of equals, the earlier), or with `keep` 'all' those of every validation. They
    are separate managers because one keeps by recency and the other by merit.
    """

    def __init__(self, directory, keep: str = 'best'):
        directory = _absolute(directory)
        self._state = ocp.CheckpointManager(
            directory / 'state',
            options=ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False),
        )
        self._places = directory / 'weights'
        self._weights = ocp.CheckpointManager(
            self._places,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=1 if keep == 'best' else None,
                best_fn=lambda metrics: metrics['accuracy'] - 1e-9 * metrics['step'],
                best_mode='max',
                enable_async_checkpointing=False,
            ),
        )

    def save_state(self, step: int, state, told: dict) -> None:
        """Saves a state and what is known of the run so far (JSON)."""
        self._state.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), told=ocp.args.JsonSave(told))
        )

    def restore_state(self, like) -> tuple[Any, dict] | None:
        """The latest (state, told), shaped and sharded as the pytree `like`, or None when nothing was saved."""
        step = self._state.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        restored = self._state.restore(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), told=ocp.args.JsonRestore()),
        )
        return restored['state'], restored['told']

    def save_weights(self, step: int, params, accuracy: float) -> None:
        """Saves the weights of a validated step; a resumed run passes steps again that are already there."""
        if step not in self.all_steps():
            metrics = {'accuracy': accuracy, 'step': step}
            self._weights.save(step, args=ocp.args.StandardSave(params), metrics=metrics)

    def all_steps(self) -> list[int]:
        """Of the weights that are kept."""
        return list(self._weights.all_steps())

    def best_step(self) -> int | None:
        return self._weights.best_step()

    def load_best(self, config: GemmaConfig, dtype=jnp.float32, mesh: Mesh | None = None):
        """Split over `mesh`, whatever devices and processes saved them: Orbax alone would want the same ones again."""
        return weights.load(weights.open_checkpoint(self._places / str(self.best_step())), config, dtype, mesh)

    def close(self) -> None:
        self._state.close()
        self._weights.close()


def drop_state(directory) -> None:
    """Forgets the resumable state of a run that is done: with moments it is three times its weights."""
    hosts.alone(_drop, _absolute(directory) / 'state')


def _drop(state) -> None:
    if state.exists():
        state.rmtree()
