"""The logits that Hugging Face transformers gave on the same weights, kept in a file: no torch is needed to compare.

`tests/golden/make.py` makes the file; `test_hf_parity.py` compares with the library itself.
"""

import dataclasses

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
