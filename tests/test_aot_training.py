"""The training step of real models through the real TPU compiler: it fits, writes its state in place, makes no logits
of all tokens, keeps for the backward pass what it should, and sends nothing that nobody can explain.
"""

import json

import jax
import numpy as np
import pytest

from cosample_jax import aot, devices, memory
from cosample_jax.gemma.config import variant
from cosample_jax.gemma.weights import abstract_params
from cosample_jax.training.loss import CHUNK


def explained(config, sizes, shape, op, found):
    """Why devices may send one another an array of as many elements as `found`; '' when nobody knows.

    Every reason is that 'fsdp' splits something: the weights of a layer, which are brought together and whose gradients
    are taken apart, at once or a part at a time around a ring; or the vocabulary, whose parts need all rows.
    """
    ways, elements, embed = sizes.fsdp, int(np.prod(found)), config.embed_dim
    heads, kv_heads = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    matrices = {'q or out': heads, 'k or v': kv_heads, 'k and v': 2 * kv_heads, 'a matrix of ffw': config.ffw_dim}
    reasons = []
    for what, width in matrices.items():
        whole, part = width * embed, width * embed // ways
        if op == 'all-gather' and elements == whole:
            reasons.append(f"one layer's weights: {what}")
        if op == 'collective-permute' and elements == part:
            reasons.append(f"one layer's weights or their gradients, part by part: {what}")
        if op in ('all-reduce', 'reduce-scatter') and elements in (whole, part):
            reasons.append(f"one layer's gradients: {what}")
    tokens = {shape.rows * shape.row_length, sizes.data * sizes.fsdp * CHUNK}
    if op in ('all-gather', 'all-reduce') and elements in {count * embed for count in tokens}:
        reasons.append('rows brought to the parts of the vocabulary, or the sum of what these have for them')
    if op in ('collective-permute', 'reduce-scatter') and elements in {count * embed // ways for count in tokens}:
        reasons.append('rows on their way around the parts of the vocabulary, or what these have for them')
    # The sum of table rows for all tokens is padded to go around a ring; the parts of the result are then shifted.
    padding = elements - shape.rows * shape.row_length * embed
    if op == 'all-reduce' and 0 < padding < elements / 100:
        reasons.append('the sum of what the parts of the vocabulary have for all rows, padded')
    if op == 'collective-permute' and elements < shape.rows * shape.row_length * embed / 400:
        reasons.append('what padding shifts between neighbours')
    if op in ('all-gather', 'all-reduce') and elements in {1, *tokens}:
        reasons.append('of each token its id, weight, largest logit, sum and loss; of all tokens, sums')
    if op == 'all-reduce' and elements == 128:
        reasons.append("whether anything is to be learned in each of the loss's chunks, in a row of a tile")
    if op == 'all-reduce' and elements in (embed, config.num_layers * embed):
        reasons.append('gradients of the scales of norms, which are whole everywhere')
    return ', or '.join(reasons)


def kept(config, sizes, loops):
    """Of what the loops over layers carry: [(dtype, shape), ...] a loop, of arrays with a part for every layer that are
    neither weights or gradients nor a number a layer.
    """
    params = abstract_params(config, mesh=memory.abstract_mesh(sizes))['layers']
    known = {(config.num_layers,), *(leaf.sharding.shard_shape(leaf.shape) for leaf in jax.tree.leaves(params))}
    by_layer = [[each for each in loop if each[1][:1] == (config.num_layers,)] for loop in loops]
    return [[each for each in loop if each[1] not in known] for loop in by_layer if loop]


NINE, SHAPE, SIXTEEN = variant('gemma2_9b'), memory.Training(32, 512), memory.Sizes(fsdp=16)


@pytest.mark.parametrize(
    ('op', 'found', 'reason'),
    [
        ('all-gather', (1, 1, 14_336, 3584), 'weights'),
        ('collective-permute', (14_336, 224), 'part by part'),
        ('reduce-scatter', (16, 256, 224), 'gradients'),
        ('all-gather', (16, 192, 3584), 'vocabulary'),
        ('all-reduce', (16, 192), 'of each token'),
        ('all-reduce', (57_408, 8, 128), 'padded'),
        ('all-reduce', (60_000, 8, 128), ''),
        ('all-gather', (42, 14_336, 3584), ''),  # a weight of all layers
        ('all-gather', (256_000, 3584), ''),  # the table
        ('all-to-all', (2, 512, 14_336), ''),
        ('all-gather', (2, 16, 512, 512), ''),
        ('all-reduce', (16, 192, 16_000), ''),  # logits
        ('all-gather', (3584,), ''),
    ],
)
def test_what_is_sent_is_known_by_its_size_and_way(op, found, reason):
    told = explained(NINE, SIXTEEN, SHAPE, op, found)
    assert reason in told if reason else told == ''


def loop(*arrays):
    return f'  %while.1 = ({", ".join(arrays)}, /*index=5*/s32[]{{:T(128)}}) while(%tuple.1), condition=%c, body=%b'


def test_what_a_loop_keeps_is_found():
    weight, inputs = 'bf16[42,14336,224]{2,1,0:T(8,128)(2,1)}', 'bf16[42,2,512,3584]{3,2,1,0:T(8,128)(2,1)}'
    chunks = 'bf16[4,2,128,3584]{3,2,1,0}'
    told = kept(NINE, SIXTEEN, aot.carried('\n'.join([loop(weight, inputs, 's32[42]{0}'), loop(chunks)])))
    assert told == [[('bf16', (42, 2, 512, 3584))]]
    gate, scores = 'bf16[42,2,512,14336]{3,2,1,0}', 'f32[42,2,8,1024,512]{4,3,2,1,0}'
    assert kept(NINE, SIXTEEN, aot.carried(loop(weight, gate, scores))) == [
        [('bf16', (42, 2, 512, 14_336)), ('f32', (42, 2, 8, 1024, 512))]
    ]


@pytest.mark.parametrize('made', ['f32[32,512,16000]', 'bf16[16384,16000]', 'f32[2,512,256000]', 'pred[32,512,256000]'])
def test_logits_of_all_tokens_are_found_whatever_makes_them(made):
    mesh = memory.abstract_mesh(SIXTEEN)
    (fault,) = aot.faults(f'  %x = {made}{{1,0}} fusion(%a, %b), kind=kOutput', NINE, mesh, SHAPE)
    assert 'is as large as the logits of all tokens' in fault
    assert not aot.faults('  %x = f32[16,192,16000]{1,0} fusion(%a, %b), kind=kOutput', NINE, mesh, SHAPE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'topology', 'sizes', 'shape'),
    [(name, topology, sizes, shape) for name, topology, sizes, shape in aot.TRAINED if sizes.tensor == 1],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_a_training_step_on_tpu(on_the_tpu_compiler, tmp_path, name, topology, sizes, shape):
    printed = on_the_tpu_compiler(f"""
        import json
        import pathlib
        config, sizes, shape = variant('{name}'), memory.{sizes}, memory.{shape}
        mesh = aot.slice_mesh(devices.parse_slice('{topology}'), sizes)
        step, text = aot.compile_with_text(aot.lower_train_step(config, mesh, shape))
        pathlib.Path('{tmp_path}/step.hlo').write_text(text)
        told = step.memory_analysis()
        print(json.dumps({{
            'theirs': [told.argument_size_in_bytes, told.temp_size_in_bytes],
            'not_donated': aot.not_donated(step, aot.abstract_train_state(config, mesh)),
        }}))
    """)
    told, hlo = json.loads(printed), (tmp_path / 'step.hlo').read_text()
    print(
        f'{name} on {topology}: arguments and temporaries', [f'{size / devices.GIB:.2f} GiB' for size in told['theirs']]
    )
    config = variant(name)
    assert told['not_donated'] == 0
    assert sum(told['theirs']) <= 0.95 * devices.parse_slice(topology).usable
    ours = memory.fine_tuning(config, sizes, shape)
    assert ours.weights + ours.optimizer == pytest.approx(told['theirs'][0], rel=0.01)
    assert told['theirs'][1] <= ours.temporaries <= 1.5 * told['theirs'][1]

    assert not (faults := aot.faults(hlo, config, memory.abstract_mesh(sizes), shape)), faults
    # Forward and backward alike: what goes into each layer. The rest is computed again.
    inputs = ('bf16', (config.num_layers, shape.rows // sizes.fsdp, shape.row_length, config.embed_dim))
    assert kept(config, sizes, aot.carried(hlo)) == [[inputs], [inputs]]

    unknown = []
    for op, dtype, found, size, count in aot.collectives(hlo):
        reason = explained(config, sizes, shape, op, found)
        print(f'{name}: {op} {dtype}{list(found)}, {size / 2**20:.3f} MiB, {count} times: {reason}')
        if not reason:
            unknown.append((op, found))
    assert not unknown
