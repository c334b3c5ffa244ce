"""What Hugging Face transformers gave on the same weights, kept in files: no torch is needed to compare.

`tests/golden/make.py` makes the files; the two `test_hf_parity.py` compare with the library itself.
"""

import dataclasses
import json

import numpy as np
import parity
import pytest
from parity import CASES, TOLERANCE, difference, parameters


@pytest.fixture(scope='module')
def golden(repository):
    with np.load(repository / 'tests' / 'golden' / 'gemma_logits.npz') as file:
        return dict(file)


def compared(logits):
    """The part of [2, T, V] that the file keeps."""
    return logits[:, 7::8, ::5]


QUICK = ('gemma1-mha', 'gemma1-mqa', 'gemma2-large', 'gemma2-low_caps', 'gemma3-gqa', 'gemma3-linear')
slow = pytest.mark.slow


@pytest.mark.parametrize('case', [pytest.param(c, marks=[] if c in QUICK else slow) for c in CASES])
def test_forward(golden, case):
    assert difference(compared(parity.forward(CASES[case], parameters(case))), golden[case]) <= TOLERANCE


@pytest.mark.parametrize('case', [pytest.param('gemma1-mqa', marks=slow), 'gemma2-gqa', 'gemma3-linear'])
@pytest.mark.parametrize('way', ['decode', 'packed'])
def test_cached_decode_and_packed_rows(golden, case, way):
    assert difference(compared(getattr(parity, way)(CASES[case], parameters(case))), golden[case]) <= TOLERANCE


def test_a_wrong_model_would_be_seen(golden):
    wrong = dataclasses.replace(CASES['gemma2-gqa'], windows=(parity.WINDOW + 1, 0) * 2)
    assert difference(compared(parity.forward(wrong, parameters('gemma2-gqa'))), golden['gemma2-gqa']) > 100 * TOLERANCE


def test_the_file_is_of_these_cases(golden):
    assert set(golden) == {*CASES, 'transformers'}


@pytest.mark.parametrize('case', ['gemma1-mqa', 'gemma2-gqa', 'gemma3-linear'])
def test_the_loss_and_the_norm_of_every_gradient(repository, case):
    golden = json.loads((repository / 'tests' / 'golden' / 'gemma_gradients.json').read_text())[case]
    loss, gradient = parity.loss_and_gradient(CASES[case], parameters(case), parity.batch(parity.examples()))
    np.testing.assert_allclose(loss, golden['loss'], rtol=1e-6)
    norms = parity.norms(gradient)
    assert norms.keys() == golden['norms'].keys()
    for name, each in norms.items():
        np.testing.assert_allclose(each, golden['norms'][name], rtol=1e-5, err_msg=name)
