"""Loss, gradients and AdamW of Hugging Face transformers and torch, live: theirs a row an example, ours packed."""

import copy
import dataclasses

import numpy as np
import parity
import pytest
from parity import CASES, WINDOW, by_tensor, gradient_difference, loss_and_gradient, parameters

from cosample_jax.training.loop import FINETUNE
from cosample_jax.training.step import init_state, train_step

INSTALL = "compares with torch and transformers: pip install -e '.[parity]'"
torch = pytest.importorskip('torch', reason=INSTALL)
pytest.importorskip('transformers', reason=INSTALL)
import huggingface_reference  # noqa: E402

pytestmark = pytest.mark.slow
ONE_OF_EACH = pytest.mark.parametrize('case', ['gemma1-mqa', 'gemma2-gqa', 'gemma3-linear'])
LOSS_TOLERANCE = 1e-6  # of the loss; measured: 2e-7 at most
GRADIENT_TOLERANCE = 3e-5  # of the largest element of each tensor's gradient; measured: 1.2e-5 at most
RATE, STEPS = 1e-3, 3
UPDATE_TOLERANCE = 5e-4  # learning rates a step; measured: 2.2e-4 at most
ABOVE_ROUNDING = 1e-3  # of the largest element of a tensor's gradient: Adam makes a full step of a smaller one too


@pytest.mark.parametrize('case', CASES)
def test_the_loss_and_every_gradient(case):
    total, gradient = loss_and_gradient(CASES[case], parameters(case), parity.batch(parity.examples()))
    their_total, theirs = huggingface_reference.loss_and_gradient(case)
    difference = gradient_difference(gradient, theirs)
    print(f'{case}: loss {abs(total - their_total) / their_total:.1e}, gradients {difference:.1e}')
    assert abs(total - their_total) <= LOSS_TOLERANCE * their_total
    assert difference <= GRADIENT_TOLERANCE


WRONG = {
    'the prompts are learned': lambda config, batch: (config, batch._replace(weights=1.0 * (batch.segment_ids > 0))),
    'neighbours are seen': lambda config, batch: (config, batch._replace(segment_ids=np.minimum(batch.segment_ids, 1))),
    'a wider window': lambda config, batch: (dataclasses.replace(config, windows=(WINDOW + 1, 0) * 2), batch),
    'no softcap': lambda config, batch: (dataclasses.replace(config, final_softcap=None), batch),
}


@pytest.mark.parametrize('what', WRONG)
def test_a_wrong_gradient_would_be_seen(what):
    case = 'gemma2-gqa'
    config, batch = WRONG[what](CASES[case], parity.batch(parity.examples()))
    _, gradient = loss_and_gradient(config, parameters(case), batch)
    _, theirs = huggingface_reference.loss_and_gradient(case)
    assert gradient_difference(gradient, theirs) > 100 * GRADIENT_TOLERANCE


def three_steps(case, recipe):
    """How far the weights are apart where it can be told, in learning rates a step, and the share where it can.

    Also the last step's metrics, ours and theirs.
    """
    hf = copy.deepcopy(huggingface_reference.reference(case))
    adamw = torch.optim.AdamW(hf.parameters(), lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    state = init_state(parameters(case), recipe)
    told = {name: np.ones_like(each, bool) for name, each in by_tensor(parameters(case)).items()}
    clipped = []
    for step in range(STEPS):
        examples = parity.examples()[step::STEPS]
        adamw.zero_grad()
        loss = huggingface_reference.loss(hf, examples, divisor=sum(sum(example.learn) for example in examples))
        loss.backward()
        gradients = huggingface_reference.as_ours({name: p.grad for name, p in hf.named_parameters()}, case)
        for name, each in by_tensor(gradients).items():
            told[name] &= np.abs(each) > ABOVE_ROUNDING * np.abs(each).max(axis=1, keepdims=True)
        clipped.append(float(torch.nn.utils.clip_grad_norm_(hf.parameters(), 1.0)))
        adamw.step()
        batch = parity.batch(examples)
        state, metrics = train_step(state, batch, np.float32(RATE), config=CASES[case], recipe=recipe)
    # A first step of Adam is the same whatever the gradient is multiplied by: only several, clipped differently, tell.
    assert min(clipped) > 1 and max(clipped) > 1.1 * min(clipped)
    ours = by_tensor(state.params)
    theirs = by_tensor(huggingface_reference.as_ours(dict(hf.named_parameters()), case))
    apart = max(float(np.abs(ours[name] - theirs[name])[where].max()) for name, where in told.items())
    share = np.concatenate([where.ravel() for where in told.values()]).mean()
    return apart / (RATE * STEPS), share, metrics, {'loss': loss.item(), 'grad_norm': clipped[-1]}


@ONE_OF_EACH
def test_steps_of_adamw(case):
    apart, share, ours, theirs = three_steps(case, FINETUNE)
    print(f'{case}: {apart:.1e} learning rates a step, in {share:.1%} of the weights')
    assert apart <= UPDATE_TOLERANCE
    assert share > 0.8
    for name, each in theirs.items():
        np.testing.assert_allclose(ours[name], each, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize('change', [{'b2': 0.99}, {'max_grad_norm': 1e9}, {'weight_decay': 0.1}], ids=str)
def test_another_recipe_would_be_seen(change):
    assert three_steps('gemma1-mqa', FINETUNE._replace(**change))[0] > 2 * UPDATE_TOLERANCE
