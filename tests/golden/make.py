"""Makes the golden file: logits of Hugging Face transformers, to compare with where torch is not installed.

    pip install -e '.[parity]'
    python tests/golden/make.py

It holds every 8th position and every 5th token of the vocabulary, which each depend on all weights before them.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
FILE = HERE / 'gemma_logits.npz'
POSITIONS, VOCABULARY = slice(7, None, 8), slice(None, None, 5)


def main() -> None:
    sys.path.insert(0, str(HERE.parent / 'gemma'))
    import huggingface_reference
    import parity
    import transformers

    golden = {case: huggingface_reference.expected(case)[:, POSITIONS, VOCABULARY] for case in parity.CASES}
    np.savez_compressed(FILE, transformers=transformers.__version__, **golden)
    print(f'{FILE}: {len(golden)} cases, {FILE.stat().st_size:,} bytes')


if __name__ == '__main__':
    main()
