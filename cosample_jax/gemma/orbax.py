"""Gemma weights in Orbax checkpoints: those of the official `gemma` package, in each of its layouts, and our own.

The official package reads, and has published, four layouts of the same tensors: nested (what its `save_params` writes),
flat ('transformer/layer_0/attn/q_einsum': {'w'}), stacked (layers of one attention type together) and Kauldron's
training checkpoints (under 'params', in a directory 'default'). All become one set of names here, such as
'layer_0/attn/q_einsum/w'. Tensors are opened with TensorStore and read slice by slice, which Orbax does not offer.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from cosample_jax.errors import UserError
from cosample_jax.gemma import model
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.records import is_remote

# The official checkpoints of Gemma 1 and 2 pad the vocabulary by 128 rows that no token uses.
PADDED_ROWS = {256_000: 256_128}
_NOT_TEXT = re.compile(
    r'(params/)?(SigLiPFromPatches_0|vision_encoder)/|.*embedder/(mm_|audio_)|(opt_state|step|collections)\b'
)
_STACKED = re.compile(r'stacked_layers/attention_type_(\d+)/(.*)')


def read(path) -> dict[str, Any]:
    """The text model's tensors by their one name, as TensorStores. UserError when the checkpoint cannot be opened."""
    import tensorstore as ts

    path = epath.Path(path)
    url = str(path) if is_remote(path) else f'file://{path.absolute()}'
    try:
        metadata = json.loads((path / '_METADATA').read_text())
        keys = [[str(k['key']) for k in entry['key_metadata']] for entry in metadata['tree_metadata'].values()]
    except (ValueError, KeyError, TypeError):
        raise UserError(f'{path}/_METADATA is damaged: download the checkpoint again') from None
    driver = 'zarr3' if metadata.get('use_zarr3') else 'zarr'
    ocdbt = (path / 'manifest.ocdbt').exists()
    context = ts.Context({'cache_pool': {'total_bytes_limit': 0}})

    def opened(name: str):
        store = {'driver': 'ocdbt', 'base': f'{url}/', 'path': f'{name}/'} if ocdbt else f'{url}/{name}/'
        # A chunk that is not there is a damaged copy, not zeros: Orbax writes every chunk.
        spec = {'driver': driver, 'kvstore': store, 'fill_missing_data_reads': False}
        return ts.open(spec, open=True, read=True, context=context)

    pending = {}
    for key in keys:
        slashed = '/'.join(key)
        if not _NOT_TEXT.match(slashed):
            pending[_one_name(slashed)] = opened('.'.join(key))
    tensors, missing = {}, []
    for name, future in pending.items():
        try:
            tensors[name] = future.result()
        except ValueError:
            missing.append(name)
    if missing:
        raise UserError(f'{path} lists weights that are not there: {", ".join(missing)}: download the checkpoint again')
    return _unstacked(tensors)


def _one_name(name: str) -> str:
    name = name.removeprefix('params/').removeprefix('transformer/')
    return f'{name}/w' if name.endswith(('mlp/gating_einsum', 'mlp/linear')) else name


def _unstacked(tensors: dict[str, Any]) -> dict[str, Any]:
    """Layer i of a stack is layer i * (number of attention types) + its type."""
    types = 1 + max((int(m[1]) for name in tensors if (m := _STACKED.fullmatch(name))), default=-1)
    found = {}
    for name, tensor in tensors.items():
        if match := _STACKED.fullmatch(name):
            for i in range(tensor.shape[0]):
                found[f'layer_{i * types + int(match[1])}/{match[2]}'] = tensor[i]
        else:
            found[name] = tensor
    return found


def is_ours(tensors: dict[str, Any]) -> bool:
    return any(name.startswith('layers/') for name in tensors)


def _our_shapes(config: GemmaConfig) -> dict[str, tuple[int, ...]]:
    """Every leaf of `model.init` by name."""
    leaves = jax.tree.leaves_with_path(model.shapes(config))
    return {model.leaf_name(path): leaf.shape for path, leaf in leaves}


def _layer_shapes(config: GemmaConfig) -> dict[str, tuple[int, ...]]:
    """The leaves of one layer, without 'layers/' and without L."""
    shapes = _our_shapes(config).items()
    return {name.removeprefix('layers/'): shape[1:] for name, shape in shapes if name.startswith('layers/')}


def _ours_wanted(tensors: dict[str, Any], config: GemmaConfig) -> dict[str, tuple[int, ...]]:
    return _our_shapes(config)


def _gates_last(config: GemmaConfig) -> bool:
    """Whether the official gating weight is [2, D, F]: in Gemma 1 and Gemma 2 2B, the others have [2, F, D]."""
    return config.family == 'gemma1' or config.name == 'gemma2_2b'


def _official_wanted(tensors: dict[str, Any], config: GemmaConfig) -> dict[str, tuple[int, ...]]:
    n, h, d, f = config.num_heads, config.head_dim, config.embed_dim, config.ffw_dim
    layer = _layer_shapes(config)
    if config.num_kv_heads == n:  # multi-head: one weight for queries, keys and values
        del layer['attn/q_einsum/w'], layer['attn/kv_einsum/w']
        layer['attn/qkv_einsum/w'] = (3, n, d, h)
    rows = config.vocab_size
    table = tensors.get('embedder/input_embedding')
    if table is not None and table.shape[0] == PADDED_ROWS.get(rows):
        rows = table.shape[0]
    shapes = {'embedder/input_embedding': (rows, d), 'final_norm/scale': (d,)}
    for i in range(config.num_layers):
        shapes |= {f'layer_{i}/{name}': shape for name, shape in layer.items()}
        gating = f'layer_{i}/mlp/gating_einsum/w'
        found = tensors.get(gating)
        either = ((2, d, f), (2, f, d)) if _gates_last(config) else ((2, f, d), (2, d, f))
        shapes[gating] = next((s for s in either if found is not None and tuple(found.shape) == s), either[0])
    return shapes


def _ours_views(tensors: dict[str, Any], config: GemmaConfig) -> dict[str, Any]:
    return dict(tensors)


def _official_views(tensors: dict[str, Any], config: GemmaConfig) -> dict[str, Any]:
    d, f = config.embed_dim, config.ffw_dim
    layers = range(config.num_layers)
    last = (2, d, f) if d != f or _gates_last(config) else None

    def gating(i):
        tensor = tensors[f'layer_{i}/mlp/gating_einsum/w']
        return tensor.transpose([0, 2, 1]) if tuple(tensor.shape) == last else tensor

    views = {f'layers/{name}': [tensors.get(f'layer_{i}/{name}') for i in layers] for name in _layer_shapes(config)}
    if config.num_kv_heads == config.num_heads:
        qkv = [tensors[f'layer_{i}/attn/qkv_einsum/w'] for i in layers]
        views['layers/attn/q_einsum/w'] = [each[0] for each in qkv]
        views['layers/attn/kv_einsum/w'] = [[each[1], each[2]] for each in qkv]
    views['layers/mlp/gating_einsum/w'] = [gating(i) for i in layers]
    return views | {name: tensors[name] for name in ('embedder/input_embedding', 'final_norm/scale')}


class Layout(NamedTuple):
    """How the tensors of one kind of checkpoint become our parameters; see `weights.Checkpoint`."""

    format: str
    wanted: Callable[[dict[str, Any], GemmaConfig], dict[str, tuple[int, ...]]]
    views: Callable[[dict[str, Any], GemmaConfig], dict[str, Any]]


OURS = Layout('cosample', _ours_wanted, _ours_views)
OFFICIAL = Layout('official', _official_wanted, _official_views)


def official_params(params, config: GemmaConfig) -> dict[str, Any]:
    """Our parameters, in host memory, as the official package nests them: what `gm.ckpts.load_params` opens.

    Rows that pad its vocabulary are zero. Arrays are views of ours where nothing has to be turned.
    """
    layers = jax.tree.map(np.asarray, params['layers'])
    table = np.asarray(params['embedder']['input_embedding'])
    rows = PADDED_ROWS.get(len(table), len(table))
    nested: dict[str, Any] = {
        'embedder': {
            'input_embedding': np.pad(table, [(0, rows - len(table)), (0, 0)]) if rows > len(table) else table
        },
        'final_norm': {'scale': np.asarray(params['final_norm']['scale'])},
    }
    for i in range(config.num_layers):
        layer = jax.tree.map(lambda x, i=i: x[i], layers)
        gating = layer['mlp']['gating_einsum']['w']
        layer['mlp'] = {
            'gating_einsum': np.ascontiguousarray(gating.swapaxes(1, 2)) if _gates_last(config) else gating,
            'linear': layer['mlp']['linear']['w'],
        }
        if config.num_kv_heads == config.num_heads:
            q, kv = (layer['attn'].pop(name)['w'] for name in ('q_einsum', 'kv_einsum'))
            layer['attn']['qkv_einsum'] = {'w': np.concatenate([q[None], kv])}
        nested[f'layer_{i}'] = layer
    return nested
