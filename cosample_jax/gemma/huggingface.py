"""Gemma checkpoints as Hugging Face transformers reads and writes them: safetensors files and a config.json.

There a linear weight is [outputs, inputs] with heads flattened, keys, values and gates are tensors of their own, and
every layer has its own names. The header of a safetensors file is parsed here, not by the library, because only so can
its tensors be memory-mapped and their pages given back while a file is being read.
"""

import json
import math
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from cosample_jax.errors import UserError
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.records import commit, is_remote

SHARD_BYTES = 5 * 10**9  # of a file; larger models are split, as transformers does
# Rows that real checkpoints have more than the tokenizer has pieces: image tokens of the multimodal Gemma 3.
PADDED_ROWS = {262_144: 262_208}
_PREFIXES = ('model.language_model.', 'language_model.model.', 'model.')
_NOT_TEXT = ('vision_tower.', 'multi_modal_projector.', 'model.vision_tower.', 'model.multi_modal_projector.')
_TIED = ('lm_head.weight', 'language_model.lm_head.weight')
_DTYPES = {'BF16': ml_dtypes.bfloat16, 'F16': np.float16, 'F32': np.float32, 'F64': np.float64, 'I64': np.int64,
           'I32': np.int32, 'I16': np.int16, 'I8': np.int8, 'U8': np.uint8, 'BOOL': np.bool_,
           'F8_E4M3': ml_dtypes.float8_e4m3fn, 'F8_E5M2': ml_dtypes.float8_e5m2}  # fmt: skip
_CODES = {np.dtype(dtype).name: code for code, dtype in _DTYPES.items()}


class Linear(NamedTuple):
    """How one of our leaves lies in theirs.

    Attributes:
        names: Theirs, stacked on our leading axis when there are several.
        rows: What their outputs are made of, in axis letters (n heads, k kv heads, h head, f ffw, d embed).
        columns: What their inputs are made of.
        ours: The order of these letters in our leaf.
    """

    names: tuple[str, ...]
    rows: str
    columns: str
    ours: str

    def shape(self, sizes: dict[str, int]) -> tuple[int, int]:
        return tuple(math.prod(sizes[letter] for letter in letters) for letters in (self.rows, self.columns))

    def to_ours(self, array, sizes: dict[str, int]):
        """A view of their [outputs, inputs] in our order; nothing is copied."""
        letters = self.rows + self.columns
        return array.reshape([sizes[c] for c in letters]).transpose([letters.index(c) for c in self.ours])

    def to_theirs(self, array: np.ndarray, sizes: dict[str, int]) -> np.ndarray:
        letters = self.rows + self.columns
        return array.transpose([self.ours.index(c) for c in letters]).reshape(self.shape(sizes))


_LINEAR = {
    'attn/q_einsum/w': Linear(('self_attn.q_proj',), 'nh', 'd', 'ndh'),
    'attn/kv_einsum/w': Linear(('self_attn.k_proj', 'self_attn.v_proj'), 'kh', 'd', 'kdh'),
    'attn/attn_vec_einsum/w': Linear(('self_attn.o_proj',), 'd', 'nh', 'nhd'),
    'mlp/gating_einsum/w': Linear(('mlp.gate_proj', 'mlp.up_proj'), 'f', 'd', 'fd'),
    'mlp/linear/w': Linear(('mlp.down_proj',), 'd', 'f', 'fd'),
}


def _norms(config: GemmaConfig) -> dict[str, tuple[str, int]]:
    """Our norm scales: their name and size. Gemma 1 calls the norm before the feed-forward by its place."""
    d, h = config.embed_dim, config.head_dim
    norms = {'pre_attention_norm/scale': ('input_layernorm', d)}
    if config.post_norms:
        norms |= {
            'post_attention_norm/scale': ('post_attention_layernorm', d),
            'pre_ffw_norm/scale': ('pre_feedforward_layernorm', d),
            'post_ffw_norm/scale': ('post_feedforward_layernorm', d),
        }
    else:
        norms['pre_ffw_norm/scale'] = ('post_attention_layernorm', d)
    if config.qk_norm:
        norms |= {
            'attn/_query_norm/scale': ('self_attn.q_norm', h),
            'attn/_key_norm/scale': ('self_attn.k_norm', h),
        }
    return norms


def _sizes(config: GemmaConfig) -> dict[str, int]:
    return {'n': config.num_heads, 'k': config.num_kv_heads, 'h': config.head_dim, 'f': config.ffw_dim,
            'd': config.embed_dim}  # fmt: skip


def wanted(config: GemmaConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, named without the prefix that differs between releases."""
    sizes = _sizes(config)
    shapes = {'embed_tokens.weight': (config.vocab_size, config.embed_dim)}
    for layer in range(config.num_layers):
        for linear in _LINEAR.values():
            shapes |= {f'layers.{layer}.{name}.weight': linear.shape(sizes) for name in linear.names}
        shapes |= {f'layers.{layer}.{name}.weight': (size,) for name, size in _norms(config).values()}
    return shapes | {'norm.weight': (config.embed_dim,)}


def views(tensors: dict[str, np.ndarray], config: GemmaConfig) -> dict[str, Any]:
    """Our leaves as lists, over the layers, of views of their tensors."""
    sizes = _sizes(config)
    leaves: dict[str, Any] = {
        'embedder/input_embedding': tensors['embed_tokens.weight'],
        'final_norm/scale': tensors['norm.weight'],
    }
    layers = range(config.num_layers)
    for leaf, linear in _LINEAR.items():
        parts = [
            [linear.to_ours(tensors[f'layers.{layer}.{name}.weight'], sizes) for name in linear.names]
            for layer in layers
        ]
        leaves[f'layers/{leaf}'] = parts if len(linear.names) > 1 else [each for (each,) in parts]
    for leaf, (name, _) in _norms(config).items():
        leaves[f'layers/{leaf}'] = [tensors[f'layers.{layer}.{name}.weight'] for layer in layers]
    return leaves


def files(path) -> list:
    """The safetensors files of a checkpoint; UserError when the index names one that is not there."""
    path = Path(os.fspath(path)) if not is_remote(path) else path
    if path.suffix == '.safetensors':
        return [path]
    index = path / 'model.safetensors.index.json'
    if not index.exists():
        return sorted(path.glob('*.safetensors'))
    try:
        names = sorted(set(json.loads(index.read_text())['weight_map'].values()))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f'{index} is damaged: download it again') from None
    missing = [name for name in names if not (path / name).exists()]
    if missing:
        raise UserError(f'{index} names files that are not there: {", ".join(missing)}')
    return [path / name for name in names]


def read(path) -> tuple[dict[str, np.ndarray], Callable[[], None]]:
    """The text model's tensors as memory maps, and what gives their pages back."""
    if is_remote(path):
        raise UserError(f'{path}: safetensors are memory-mapped, so they must lie on a local disk: copy them first')
    tensors: dict[str, np.ndarray] = {}
    heads, maps = [], []
    for file in files(path):
        with file.open('rb') as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if file.stat().st_size else b''
        maps.append(mapped)
        for name, array in _tensors(file, mapped):
            if name in _TIED:
                heads.append(array)
            if name in _TIED or name.startswith(_NOT_TEXT):
                continue
            short = next((name.removeprefix(p) for p in _PREFIXES if name.startswith(p)), name)
            tensors[short] = array
    table = tensors.get('embed_tokens.weight')
    if table is not None:
        if any(not np.array_equal(head[:64].view(np.uint8), table[:64].view(np.uint8)) for head in heads):
            raise UserError(f'{path}: lm_head.weight is not the embedding, and in a Gemma the two are one')
        rows = next((own for own, padded in PADDED_ROWS.items() if padded == len(table)), len(table))
        tensors['embed_tokens.weight'] = table[:rows]

    def release():
        for mapped in maps:
            mapped.madvise(mmap.MADV_DONTNEED)

    return tensors, release


def _tensors(file: Path, mapped) -> Iterator[tuple[str, np.ndarray]]:
    """(name, view) of each tensor; UserError when the file is no safetensors or is cut short."""
    size = len(mapped)
    start = 8 + int.from_bytes(mapped[:8], 'little')
    try:
        header = json.loads(mapped[8:start])
        entries = {name: entry for name, entry in header.items() if name != '__metadata__'}
        end = start + max(entry['data_offsets'][1] for entry in entries.values())
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f'{file} is not a safetensors file, or its header is cut short ({size:,} bytes)') from None
    if end != size:
        cut = [name for name, entry in entries.items() if start + entry['data_offsets'][1] > size]
        which = f', which cuts {", ".join(cut)}' if cut else ''
        raise UserError(f'{file} has {size:,} bytes and its header says {end:,}{which}: download it again')
    for name, entry in entries.items():
        dtype = _DTYPES.get(entry.get('dtype'))
        if dtype is None:
            raise UserError(f'{file}: {name} is of type {entry.get("dtype")}, which no Gemma here has')
        begin, stop = entry['data_offsets']
        shape = entry.get('shape', ())
        if math.prod(shape) * np.dtype(dtype).itemsize != stop - begin:
            raise UserError(f'{file}: {name} has {stop - begin:,} bytes for a shape of {shape}: download it again')
        flat = np.frombuffer(mapped, dtype, count=math.prod(shape), offset=start + begin)
        yield name, flat.reshape(shape)


def write(directory, params, config: GemmaConfig) -> None:
    """Writes a checkpoint that `transformers.AutoModelForCausalLM.from_pretrained(directory)` opens.

    One tensor is held in memory at a time. `params` are our parameters in host memory; their dtype is kept.
    """
    directory = Path(os.fspath(directory))
    directory.mkdir(parents=True, exist_ok=True)
    dtype = np.dtype(params['final_norm']['scale'].dtype)
    shapes = {f'model.{name}': shape for name, shape in wanted(config).items()}
    shards = _split({name: math.prod(shape) * dtype.itemsize for name, shape in shapes.items()})
    single = len(shards) == 1
    weight_map = {}
    for number, names in enumerate(shards, 1):
        name = 'model.safetensors' if single else f'model-{number:05d}-of-{len(shards):05d}.safetensors'
        weight_map |= dict.fromkeys(names, name)
        _write_file(directory / name, names, shapes, dtype, params, config)
    if not single:
        total = sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize
        index = {'metadata': {'total_size': total}, 'weight_map': weight_map}
        commit(directory / 'model.safetensors.index.json', json.dumps(index, indent=1).encode())
    # Last: without it there is no checkpoint.
    commit(directory / 'config.json', json.dumps(hf_config(config, dtype.name), indent=1).encode())


def _split(sizes: dict[str, int]) -> list[list[str]]:
    """Names in order, in groups of at most SHARD_BYTES."""
    groups, room = [[]], SHARD_BYTES
    for name, size in sizes.items():
        if size > room and groups[-1]:
            groups.append([])
            room = SHARD_BYTES
        groups[-1].append(name)
        room -= size
    return groups


def _write_file(file: Path, names: list[str], shapes, dtype: np.dtype, params, config: GemmaConfig) -> None:
    header, offset = {'__metadata__': {'format': 'pt'}}, 0
    for name in names:
        end = offset + math.prod(shapes[name]) * dtype.itemsize
        entry = {'dtype': _CODES[dtype.name], 'shape': list(shapes[name]), 'data_offsets': [offset, end]}
        header[name], offset = entry, end
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    temporary = file.with_suffix('.tmp')
    with temporary.open('wb') as out:
        out.write(len(text).to_bytes(8, 'little') + text)
        for name in names:
            out.write(np.ascontiguousarray(_tensor(name, params, config)).reshape(-1).view(np.uint8).data)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)


def _tensor(name: str, params, config: GemmaConfig) -> np.ndarray:
    """One of their tensors from our parameters."""
    name = name.removeprefix('model.').removesuffix('.weight')
    if name == 'embed_tokens':
        return np.asarray(params['embedder']['input_embedding'])
    if name == 'norm':
        return np.asarray(params['final_norm']['scale'])
    _, layer, name = name.split('.', 2)
    for leaf, linear in _LINEAR.items():
        if name in linear.names:
            array = np.asarray(_leaf(params['layers'], leaf))[int(layer)]
            array = array[linear.names.index(name)] if len(linear.names) > 1 else array
            return linear.to_theirs(array, _sizes(config))
    leaf = next(leaf for leaf, (theirs, _) in _norms(config).items() if theirs == name)
    return np.asarray(_leaf(params['layers'], leaf))[int(layer)]


def _leaf(tree, path: str):
    for key in path.split('/'):
        tree = tree[key]
    return tree


def hf_config(config: GemmaConfig, dtype: str) -> dict[str, Any]:
    """The contents of config.json: what transformers needs to build the same model."""
    architecture, model_type = {
        'gemma1': ('GemmaForCausalLM', 'gemma'),
        'gemma2': ('Gemma2ForCausalLM', 'gemma2'),
        'gemma3': ('Gemma3ForCausalLM', 'gemma3_text'),
    }[config.family]
    values = {
        'architectures': [architecture],
        'model_type': model_type,
        'torch_dtype': dtype,
        'vocab_size': config.vocab_size,
        'hidden_size': config.embed_dim,
        'intermediate_size': config.ffw_dim,
        'num_hidden_layers': config.num_layers,
        'num_attention_heads': config.num_heads,
        'num_key_value_heads': config.num_kv_heads,
        'head_dim': config.head_dim,
        'max_position_embeddings': config.context,
        'hidden_activation': 'gelu_pytorch_tanh',
        'rms_norm_eps': 1e-6,
        'attention_bias': False,
        'tie_word_embeddings': True,
        'pad_token_id': 0,
        'eos_token_id': 1,
        'bos_token_id': 2,
    }
    if config.family == 'gemma1':
        return values | {'hidden_act': 'gelu_pytorch_tanh', 'rope_theta': config.rope_base[0]}
    values |= {
        'query_pre_attn_scalar': round(config.query_scale**-2),
        'attn_logit_softcapping': config.attn_softcap,
        'final_logit_softcapping': config.final_softcap,
        'sliding_window': max(config.windows) or None,
        'layer_types': ['sliding_attention' if window else 'full_attention' for window in config.windows],
    }
    if config.family == 'gemma2':
        return values | {'rope_theta': config.rope_base[0]}
    by_window = dict(zip(config.windows, zip(config.rope_base, config.rope_scale, strict=True), strict=True))
    local, (base, scale) = by_window.pop(max(config.windows)), by_window[0]
    values |= {'rope_theta': base, 'rope_local_base_freq': local[0]}
    return values | ({'rope_scaling': {'rope_type': 'linear', 'factor': scale}} if scale != 1 else {})
