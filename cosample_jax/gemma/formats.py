"""What weights a directory holds, told from file names and headers: nothing is loaded, no JAX, no network.

Enough to tell a variant from another and a whole download from half of one; loading checks every shape.
"""

import json
import re
import struct
from pathlib import Path

from cosample_jax.errors import UserError
from cosample_jax.gemma.config import GemmaConfig

OURS, HUGGINGFACE, OFFICIAL = 'ours', 'hf', 'official'
_NAMES = {OURS: 'weights of this package', HUGGINGFACE: 'Hugging Face safetensors', OFFICIAL: 'an Orbax checkpoint'}


def detect(path: Path) -> str:
    """'ours', 'hf', 'official', or '' for a directory without weights."""
    if (path / 'lineage.json').is_file():
        return OURS
    if (path / 'model.safetensors.index.json').is_file() or any(path.glob('*.safetensors')):
        return HUGGINGFACE
    return OFFICIAL if (path / '_METADATA').is_file() else ''


def describe(path, variant: GemmaConfig) -> str:
    """One line on the weights in the local directory `path`.

    Raises UserError when there are none, part of them is missing, or they are another variant's.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        raise UserError(f'{path} is not there' if not path.exists() else f'{path} is no directory')
    kind = detect(path)
    if not kind:
        inside = [child for child in sorted(path.iterdir()) if child.is_dir() and detect(child)]
        hint = f', but {inside[0]} does: name that' if inside else ''
        raise UserError(f'{path} holds no weights (lineage.json, *.safetensors or _METADATA){hint}')
    try:
        if culprits := {OURS: _ours, HUGGINGFACE: _huggingface, OFFICIAL: _official}[kind](path, variant):
            raise UserError(f'{path} does not hold {variant.name} weights: {"; ".join(culprits)}')
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise UserError(f'{path} holds {_NAMES[kind]} that cannot be read ({error!r}): fetch them again') from None
    return f'{_NAMES[kind]}, {path}'


def _ours(path: Path, variant: GemmaConfig) -> list[str]:
    found = json.loads((path / 'lineage.json').read_text()).get('variant', variant.name)
    culprits = [] if found == variant.name else [f'they are {found}']
    return culprits + ([] if (path / 'weights').is_dir() else ['the directory weights is missing'])


def _huggingface(path: Path, variant: GemmaConfig) -> list[str]:
    index = path / 'model.safetensors.index.json'
    wanted = set(json.loads(index.read_text())['weight_map'].values()) if index.is_file() else set()
    missing = sorted(name for name in wanted if not (path / name).is_file())
    if missing:
        return [f'{name} is missing: the download is not complete' for name in missing]
    shapes, culprits = {}, []
    for file in [path / name for name in sorted(wanted)] or sorted(path.glob('*.safetensors')):
        with open(file, 'rb') as opened:
            (length,) = struct.unpack('<Q', opened.read(8))
            header = json.loads(opened.read(length))
        header.pop('__metadata__', None)
        end = 8 + length + max((entry['data_offsets'][1] for entry in header.values()), default=0)
        if file.stat().st_size < end:
            culprits.append(f'{file.name} has {file.stat().st_size:,} of its {end:,} bytes: fetch it again')
        # Of a multimodal checkpoint only the language model counts.
        shapes |= {name: entry['shape'] for name, entry in header.items() if 'vision' not in name}
    rows, width = next((s for name, s in shapes.items() if name.endswith('embed_tokens.weight')), (0, 0))
    if width != variant.embed_dim:
        culprits.append(f'the embedding is {width} wide, not {variant.embed_dim}')
    if rows < variant.vocab_size:
        culprits.append(f'the embedding has {rows:,} rows, fewer than {variant.vocab_size:,}')
    return culprits + _layers(re.findall(r'\blayers\.(\d+)\.', '\n'.join(shapes)), variant)


def _official(path: Path, variant: GemmaConfig) -> list[str]:
    """Shapes are not in the metadata; the number of layers and which norms there are tell the variants apart."""
    names = '\n'.join(json.loads((path / '_METADATA').read_text())['tree_metadata'])
    culprits = _layers(re.findall(r'\blayer_(\d+)\b', names), variant)
    for norm, wanted in (('query_norm', variant.qk_norm), ('post_attention_norm', variant.post_norms)):
        if (norm in names) != wanted:
            culprits.append(f'{norm} is {"missing" if wanted else "not part of the model"}')
    return culprits


def _layers(found: list[str], variant: GemmaConfig) -> list[str]:
    count = 1 + max(map(int, found), default=-1)
    return [] if count == variant.num_layers else [f'{count} layers, not {variant.num_layers}']
