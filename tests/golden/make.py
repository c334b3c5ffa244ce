"""Makes the golden files: what Hugging Face transformers computes, to compare with where torch is not installed.

    pip install -e '.[parity]'
    python tests/golden/make.py

Of the logits every 8th position and every 5th token of the vocabulary, which each depend on all weights before them.
Of training, for a model of each family, the summed loss and the norm of each tensor's gradient.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
LOGITS, GRADIENTS = HERE / 'gemma_logits.npz', HERE / 'gemma_gradients.json'
POSITIONS, VOCABULARY = slice(7, None, 8), slice(None, None, 5)
TRAINED = ('gemma1-mqa', 'gemma2-gqa', 'gemma3-linear')


def main() -> None:
    sys.path.insert(0, str(HERE.parent / 'gemma'))
    import huggingface_reference
    import parity
    import transformers

    golden = {case: huggingface_reference.expected(case)[:, POSITIONS, VOCABULARY] for case in parity.CASES}
    np.savez_compressed(LOGITS, transformers=transformers.__version__, **golden)
    trained = {'transformers': transformers.__version__}
    for case in TRAINED:
        loss, gradient = huggingface_reference.loss_and_gradient(case)
        norms = {name: [float(f'{norm:.8g}') for norm in each] for name, each in parity.norms(gradient).items()}
        trained[case] = {'loss': loss, 'norms': norms}
    GRADIENTS.write_text(json.dumps(trained, indent=1) + '\n')
    for file in (LOGITS, GRADIENTS):
        print(f'{file}: {file.stat().st_size:,} bytes')


if __name__ == '__main__':
    main()
