"""The logits of Hugging Face transformers' Gemma, Gemma 2 and Gemma 3 (text), live, on the same random weights."""

import dataclasses

import jax
import numpy as np
import parity
import pytest
from parity import CASES, TOLERANCE, WINDOW, difference, forward, parameters

INSTALL = "compares with torch and transformers: pip install -e '.[parity]'"
pytest.importorskip('torch', reason=INSTALL)
pytest.importorskip('transformers', reason=INSTALL)
import huggingface_reference  # noqa: E402

pytestmark = pytest.mark.slow
cases = pytest.mark.parametrize('case', CASES)
ONE_OF_EACH = pytest.mark.parametrize('case', ['gemma1-mqa', 'gemma2-gqa', 'gemma3-linear'])


@pytest.fixture(scope='module')
def table():
    """What was measured, printed at the end (pytest -s)."""
    rows = {}
    yield rows
    ways = list(dict.fromkeys(way for _, way in rows))
    print(f'\n{"largest difference / range of the logits":42}' + ''.join(f'{way:>12}' for way in ways))
    for case in dict.fromkeys(case for case, _ in rows):
        shown = (f'{rows[case, way]:12.1e}' if (case, way) in rows else ' ' * 12 for way in ways)
        print(f'{case:42}' + ''.join(shown))


@cases
@pytest.mark.parametrize('way', ['forward', 'decode', 'packed'])
def test_the_logits_of_transformers(case, way, table):
    got = getattr(parity, way)(CASES[case], parameters(case))
    table[case, way] = difference(got, huggingface_reference.expected(case))
    assert table[case, way] <= TOLERANCE


@cases
def test_padded_batches(case, table):
    """Theirs are padded on the left, ours on the right; each token's logits are the same."""
    lengths = (parity.T, 100)
    ours = parity.padded(CASES[case], parameters(case), lengths)
    theirs = huggingface_reference.left_padded(case, lengths)
    found = [difference(ours[row, :length], theirs[row]) for row, length in enumerate(lengths)]
    table[case, 'padded'] = max(found)
    assert max(found) <= TOLERANCE


@ONE_OF_EACH
@pytest.mark.parametrize('start', [4000, 8000])
def test_far_positions(case, start, table):
    """Both sides round angles of thousands of radians to float32, so less is asked for."""
    got = forward(CASES[case], parameters(case), start)
    table[case, f'from {start}'] = difference(got, huggingface_reference.expected(case, start))
    assert table[case, f'from {start}'] <= 10 * TOLERANCE


@cases
def test_transformers_opens_what_we_export(case):
    """Our config.json describes the same model as their defaults: not a bit differs."""
    opened = huggingface_reference.from_pretrained(case)
    got = huggingface_reference.logits(opened, parity.tokens())
    np.testing.assert_array_equal(
        got, huggingface_reference.logits(huggingface_reference.reference(case), parity.tokens())
    )


@pytest.mark.parametrize('name', ['gemma_2b', 'gemma_7b', 'gemma2_2b', 'gemma2_9b', 'gemma2_27b', 'gemma3_27b'])
def test_the_real_models_are_theirs(name):
    """Built by transformers from our config.json, on no memory: the same tensors, and as many parameters."""
    import torch
    import transformers

    from cosample_jax.gemma import huggingface
    from cosample_jax.gemma.config import variant

    values = huggingface.hf_config(variant(name), 'bfloat16')
    hf_config = transformers.AutoConfig.for_model(**values)
    with torch.device('meta'):
        hf = transformers.AutoModelForCausalLM.from_config(hf_config)
    assert sum(p.numel() for p in hf.parameters()) == variant(name).num_params()
    theirs = {name: tuple(p.shape) for name, p in hf.named_parameters()}
    assert theirs == {f'model.{name}': shape for name, shape in huggingface.wanted(variant(name)).items()}


WRONG = {
    'gemma2-gqa': [
        {'windows': (WINDOW + 1, 0) * 2},
        {'windows': (WINDOW - 1, 0) * 2},
        {'windows': (0, WINDOW) * 2},
        {'query_scale': 12**-0.5},
        {'attn_softcap': None},
        {'final_softcap': None},
        {'post_norms': False},
        {'rope_base': (20_000.0,) * 4},
    ],
    'gemma2-large': [{'query_scale': 16**-0.5}],
    'gemma3-linear': [
        {'windows': (WINDOW + 1,) * 5 + (0, WINDOW + 1)},
        {'windows': (0,) + (WINDOW,) * 6},
        {'qk_norm': False},
        {'post_norms': False},
        {'final_softcap': 30.0},
        {'rope_scale': (1.0,) * 7},
        {'rope_scale': (8.0,) * 7},
        {'rope_base': (10_000.0,) * 7},
        {'rope_base': (1_000_000.0,) * 7},
    ],
}
WRONG = [(case, change) for case, changes in WRONG.items() for change in changes]


@pytest.mark.parametrize(('case', 'change'), WRONG, ids=[f'{c}-{w}' for c, w in WRONG])
def test_a_wrong_model_would_be_seen(case, change):
    wrong = dataclasses.replace(CASES[case], **change)
    got = forward(wrong, parameters(case))
    assert difference(got, huggingface_reference.expected(case)) > 100 * TOLERANCE


@ONE_OF_EACH
def test_every_parameter_is_compared(case):
    leaves, tree = jax.tree.flatten(parameters(case))
    for index in range(len(leaves)):
        changed = [0 * leaf if i == index else leaf for i, leaf in enumerate(leaves)]
        got = forward(CASES[case], tree.unflatten(changed))
        assert difference(got, huggingface_reference.expected(case)) > 100 * TOLERANCE
