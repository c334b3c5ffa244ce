"""Judging as a stage: programs over pools, and the shipped tiny models as judges through the real sampler."""

import fake_run
import pytest

from cosample_jax import checkpoint, embedded, judges
from cosample_jax.gemma import config as gemma_config
from cosample_jax.grading.pool import pools
from cosample_jax.records import commit
from cosample_jax.stages import analyze
from cosample_jax.stages import judge as judge_stage

SETTINGS = {'judge__samples': 6, 'judge__max_new_tokens': 24, 'sampling__slots': 4}


@pytest.fixture
def run(tmp_path):
    config, workdir = fake_run.make_run(
        tmp_path, fake_run.make_config(6, judge__by=('calculator', 'strong'), **SETTINGS), evaluated=False
    )
    commit(workdir.tokenizer_path, embedded.tokenizer_bytes())
    params = embedded.load_weights('tiny_strong', gemma_config.variant('tiny_strong'))
    checkpoint.save_weights(workdir.model_dir('strong'), params, {})
    return config, workdir


def test_a_model_judges_through_the_sampler_and_goes_on_where_it_stopped(run, monkeypatch, capsys):
    config, workdir = run
    fill_pool, calls = judges.fill_pool, []

    def stops(store, engine, requests, **options):
        calls.append(len(requests))
        fill_pool(store, engine, requests[:4] if len(calls) == 1 else requests, **options)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(judges, 'fill_pool', stops)
    with pytest.raises(KeyboardInterrupt):
        judge_stage.run(config, workdir)
    assert len(workdir.pool('judge', 'strong')) == 4 and not workdir.judgments('train', 'strong', 'strong').keys()
    first = {s.problem_id: s.text for s in workdir.pool('judge', 'strong').read()}
    assert list(first)[0].startswith('train/')
    capsys.readouterr()
    counts = judge_stage.run(config, workdir)
    out = capsys.readouterr().out
    assert list(counts) == ['calculator', 'strong']
    # The tiny model knows nothing of judging: no verdict in 24 tokens is counted apart, not guessed.
    assert sum(counts['strong'].values()) == 12 and counts['strong']['unparsable'] == 12
    assert counts['calculator']['valid'] > 12
    texts = {s.problem_id: s.text for s in workdir.pool('judge', 'strong').read()}
    assert len(texts) == 12 and first.items() <= texts.items()
    # The sizes stand before the first verdict.
    assert out.index('strong judges train/weak: 6 of') < out.index('strong on train/weak')
    assert 'would be known to ±' in out and '80% power' in out
    assert judge_stage.run(config, workdir) == counts and len(calls) == 3
    assert all(purpose != 'judge' for purpose, _ in pools(workdir))
    analyze.run(config, workdir)
    document = analyze.records.read_json(workdir.path('analysis', 'train.json'))
    rows = {(r['model'], r['judge']): r for r in document['judges']}
    assert rows['weak', 'strong']['unparsable'] == 6 and rows['weak', 'strong']['fpr'] == ''
    assert document['judge'] == 'calculator' and document['kept'][0]['judged'] == document['kept'][0]['kept']


def test_what_does_not_fit_a_models_context_is_unchecked(run):
    config, workdir = run
    judge = judges.ModelJudge(config, workdir, 'strong')
    problem = fake_run.make_problems('train', 1)[0]
    said = judge.judge({('train', problem.id, 'weak', 0): (problem, '1 + 1 = 2. ' * 300)})
    ((verdict, reason),) = said.values()
    assert verdict == 'unchecked' and reason.endswith('1000 fit') and not len(workdir.pool('judge', 'strong'))


def test_evaluation_pools_are_left_to_evaluate(run):
    config, workdir = run
    problems = workdir.problems('train')
    fake_run.write_pool(workdir, 'test-greedy', 'cell', problems, 1, 0.5, 0.2, 6, judge=False)
    config = fake_run.make_config(6, judge__by=('calculator',))
    judge_stage.run(config, workdir)
    assert workdir.judges('test-greedy', 'cell') == []
    assert workdir.judges('train', 'weak') == ['calculator', 'steps']
