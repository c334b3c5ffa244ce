"""Where the real weights come from: the repositories of each variant, and the steps to have them. No JAX, no network.

Sources: the model pages of Kaggle and Hugging Face, the README of Kaggle's command-line tool (docs/README.md of
Kaggle/kaggle-cli) and the one of `hf` (docs/source/en/guides/cli.md of huggingface/huggingface_hub).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Source(NamedTuple):
    """The repositories of a variant. Both ask for the same licence to be accepted, each on its own page.

    Attributes:
        huggingface: The pretrained weights as safetensors.
        kaggle: The pretrained weights as an Orbax checkpoint (owner/model/framework/variation); the instruction-tuned
            ones are called the same with '-it' behind.
    """

    huggingface: str
    kaggle: str

    @property
    def kaggle_page(self) -> str:
        return f'https://www.kaggle.com/models/{"/".join(self.kaggle.split("/")[:2])}'

    @property
    def huggingface_page(self) -> str:
        return f'https://huggingface.co/{self.huggingface}'


LICENCE = 'https://ai.google.dev/gemma/terms'

SOURCES: dict[str, Source] = {
    'gemma_2b': Source('google/gemma-2b', 'google/gemma/flax/2b'),
    'gemma_7b': Source('google/gemma-7b', 'google/gemma/flax/7b'),
    'gemma2_2b': Source('google/gemma-2-2b', 'google/gemma-2/flax/gemma2-2b'),
    'gemma2_9b': Source('google/gemma-2-9b', 'google/gemma-2/flax/gemma2-9b'),
    'gemma2_27b': Source('google/gemma-2-27b', 'google/gemma-2/flax/gemma2-27b'),
    'gemma3_270m': Source('google/gemma-3-270m', 'google/gemma-3/flax/gemma-3-270m'),
    'gemma3_1b': Source('google/gemma-3-1b-pt', 'google/gemma-3/flax/gemma3-1b'),
    'gemma3_4b': Source('google/gemma-3-4b-pt', 'google/gemma-3/flax/gemma3-4b'),
    'gemma3_12b': Source('google/gemma-3-12b-pt', 'google/gemma-3/flax/gemma3-12b'),
    'gemma3_27b': Source('google/gemma-3-27b-pt', 'google/gemma-3/flax/gemma3-27b'),
}


def steps(wanted: Mapping[str, str]) -> list[str]:
    """What to do, line by line, to have the weights of each variant in the directory that `wanted` has for it."""
    kaggle_pages = dict.fromkeys(SOURCES[variant].kaggle_page for variant in wanted)
    huggingface_pages = dict.fromkeys(SOURCES[variant].huggingface_page for variant in wanted)
    kaggle, huggingface = kaggle_token(), huggingface_token()
    kaggle_step = (
        'pip install kaggle; make a token at https://www.kaggle.com/settings/api, then `kaggle auth login`, or '
    )
    kaggle_step += 'export KAGGLE_API_TOKEN=..., or put its kaggle.json into ~/.kaggle'
    huggingface_step = 'pip install huggingface_hub; make a token with read access at '
    huggingface_step += 'https://huggingface.co/settings/tokens, then `hf auth login`, or export HF_TOKEN=...'
    return [
        f'from Hugging Face or from Kaggle, with their tokenizer (licence: {LICENCE})',
        f'HF 1. log in and accept the licence: {" ".join(huggingface_pages)}',
        f'HF 2. {f"a token is set up ({huggingface})" if huggingface else huggingface_step}',
        *(f'HF 3. hf download {SOURCES[v].huggingface} --local-dir {where}' for v, where in wanted.items()),
        f'Kaggle 1. log in and accept the licence: {" ".join(kaggle_pages)}',
        f'Kaggle 2. {f"a token is set up ({kaggle})" if kaggle else kaggle_step}',
        *(
            f'Kaggle 3. kaggle models instances versions download {SOURCES[v].kaggle}/1 -p {where} --untar'
            for v, where in wanted.items()
        ),
    ]


def kaggle_token() -> str:
    """Where a Kaggle token is set up, never the token itself; '' when there is none."""
    if os.environ.get('KAGGLE_API_TOKEN'):
        return '$KAGGLE_API_TOKEN'
    if os.environ.get('KAGGLE_USERNAME') and os.environ.get('KAGGLE_KEY'):
        return '$KAGGLE_USERNAME and $KAGGLE_KEY'
    home, xdg = Path.home(), Path(os.environ.get('XDG_CONFIG_HOME') or Path.home() / '.config')
    own = os.environ.get('KAGGLE_CONFIG_DIR')
    folders = [Path(own)] if own else [home / '.kaggle', xdg / 'kaggle']
    return _first_file(folder / name for folder in folders for name in ('access_token', 'kaggle.json'))


def huggingface_token() -> str:
    """Where a Hugging Face token is set up, never the token itself; '' when there is none."""
    if os.environ.get('HF_TOKEN'):
        return '$HF_TOKEN'
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    home = Path(os.environ.get('HF_HOME') or cache / 'huggingface')
    return _first_file([Path(os.environ.get('HF_TOKEN_PATH') or home / 'token')])


def _first_file(paths: Sequence[Path]) -> str:
    return next((str(path) for path in paths if path.is_file()), '')
