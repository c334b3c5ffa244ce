"""Whatever asks a model asks it in its own template: text for base models, turns for instruction-tuned ones."""

from types import SimpleNamespace

import pytest

from cosample_jax import checkpoint, embedded, memory, tasks, writers
from cosample_jax import config as config_lib
from cosample_jax.commands import generate
from cosample_jax.records import Problem, write_json
from cosample_jax.sampling.rows import Finished
from cosample_jax.stages import evaluate, sample
from cosample_jax.tasks import prompts

SHOTS = [Problem('shots/0', 'Ann has 5 pens.', '5', 'It is 5.')]
PROBLEMS = [Problem('test/0', 'Bob has 6 pens.', '6', 'It is 6.')]
WRITTEN = 'So:\n\nIt is 6.'


@pytest.fixture
def run(monkeypatch, tmp_path):
    """(config, workdir, asked): a run whose strong model is instruction-tuned; engines write the same for everybody.

    `asked` has the requests and the settings of each engine.
    """
    asked = []
    tokenizer = embedded.tokenizer()

    class Engine:
        usage = SimpleNamespace(shares=dict, drawn=0)

        def __init__(self, params, config, settings, requests, mesh=None):
            asked.append((requests, settings))

        def sample(self, requests):
            for request in requests:
                tokens = tokenizer.encode(WRITTEN)
                yield Finished(request.problem_id, request.sample_index, tokens, 'stop', 0.0, 0.0, 1, len(tokens))

    for module in (writers, evaluate, generate):
        monkeypatch.setattr(module, 'Engine', Engine)
    for module in (writers, evaluate):
        monkeypatch.setattr(module, 'fill_pool', lambda store, *_, text, **__: store.append(text))
    monkeypatch.setattr(checkpoint, 'load_weights', lambda *_: None)
    monkeypatch.setattr(memory, 'with_slots', lambda settings, *_: settings)
    config = config_lib.base()
    config.name, config.models.strong.chat = 'test', True
    stores = {}

    class Pool(list):
        def __init__(self, purpose, model):
            self.directory = tmp_path / 'pools' / purpose / model

        def keys(self):
            return set()

        def table(self):
            return SimpleNamespace(column=lambda name: SimpleNamespace(to_pylist=list))

    workdir = SimpleNamespace(
        tokenizer_path=embedded.FILES / 'tokenizer.model',
        splits=lambda: ['shots', 'test'],
        problems=lambda split: SHOTS if split == 'shots' else PROBLEMS,
        model_dir=lambda name: name,
        cell_dir=lambda name: tmp_path / name,
        pool=lambda purpose, model: stores.setdefault(model, Pool(purpose, model)),
        stores=stores,
    )
    return config_lib.finalize(config), workdir, asked


def check(asked, text, chat, shots=SHOTS):
    """That an engine was asked in the template, that it stops as that does, and what is read of a sample."""
    template = prompts.template(embedded.tokenizer(), chat)
    requests, settings = asked
    assert requests[0].prompt == template.prompt(PROBLEMS[0].question, shots)
    assert settings.stop_ids == template.stop_ids and (settings.stop_strings is None) == chat
    assert text == (WRITTEN if chat else 'So:')


def test_sources_are_sampled_in_their_templates(run):
    config, workdir, asked = run
    sample.run(config, workdir)
    for source, each in zip(('weak', 'strong'), asked, strict=True):
        (text,) = workdir.stores[source]
        check(each, text(embedded.tokenizer().encode(WRITTEN)), chat=source == 'strong')


@pytest.mark.parametrize('name', config_lib.MODELS)
def test_models_are_evaluated_in_their_templates(run, name):
    config, workdir, asked = run
    subject = evaluate.Subject({'cell': f'{name}-base', 'model': name}, config.models[name].variant, base=True)
    evaluation = evaluate._Evaluation(subject, config, workdir, embedded.tokenizer(), tasks.get('arithmetic'))
    evaluation._sample('test-greedy', PROBLEMS, 1, greedy=True)
    (text,) = workdir.stores[f'{name}-base']
    check(asked[0], text(embedded.tokenizer().encode(WRITTEN)), chat=name == 'strong')


@pytest.mark.parametrize('name', ['weak', 'strong', 'weak-strong-low-s0', 'strong-weak-low-s0'])
def test_generate_asks_and_shows_in_the_models_template(run, name, capsys, monkeypatch):
    config, workdir, asked = run
    trained = '-' in name
    if trained:
        write_json(workdir.cell_dir(name) / 'cell.json', {'trained': True, 'weights': 'lr'})
        best = SimpleNamespace(load_best=lambda *_: None, close=lambda: None)
        monkeypatch.setattr(checkpoint, 'RunCheckpoints', lambda path: best)
    generate.main(SimpleNamespace(config=config, workdir=workdir, model=name, problem='test/0', prompt='', n=1))
    shown, _, text = capsys.readouterr().out.partition('So:')
    chat = name.startswith('strong')
    check(asked[0], ('So:' + text.partition('  [')[0]), chat, shots=() if trained else SHOTS)
    assert shown == ('user\nBob has 6 pens.\nmodel\n\n' if chat else 'Q: Bob has 6 pens.\nA:\n')
