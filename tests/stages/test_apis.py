"""A run whose sources and judge are behind APIs: every stage, the ledger, the limit, and what is refused beforehand."""

import json
import os

import pytest
from api_parts import random_faults
from api_server import ApiServer

from cosample_jax import config as config_lib
from cosample_jax import config_schema, endpoints, ledger, models, stages
from cosample_jax.commands import status
from cosample_jax.errors import UserError
from cosample_jax.sampling import remote as remote_lib
from cosample_jax.tasks import arithmetic
from cosample_jax.workdir import Workdir


@pytest.fixture(scope='module')
def solutions():
    """question -> the reference solution, of the smallest arithmetic run."""
    splits = arithmetic.build(config_lib.finalize(config_lib.load('configs/arithmetic.py:size=smoke')))
    return {problem.question: problem.solution for problems in splits.values() for problem in problems}


@pytest.fixture
def answer(solutions):
    """Two of three samples are right; the judge finds everything right."""

    def write(prompt, seed, index):
        question = prompt.rpartition('Q: ')[2].removesuffix('\nA:')
        if question not in solutions:
            return 'Each step follows.\nVerdict: correct'
        return f' {solutions[question]}' if (seed >> 32) % 3 else ' I guess. The answer is 1.'

    return write


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(remote_lib, 'PATIENCE', remote_lib.Patience(0.01, 0.05, 0.01))


def remote(url, **fields):
    config = config_lib.load(f'configs/arithmetic_remote.py:size=smoke,url={url}')
    config.judge.by = ('steps', 'judge')
    config.judge.model.init = f'openai:j@{url}'
    for source in ('weak', 'strong'):
        price = {'input': 1.0, 'output': 10.0, 'as_of': '2026-01-01', 'source': 'made up'}
        config.models[source].price.update(price)
        config.models[source].api.samples = 1
    config.update_from_flattened_dict(fields)
    return config_lib.finalize(config)


def run(config, root, until, max_spend=None):
    workdir = Workdir(root, max_spend=max_spend)
    workdir.open(config)
    for stage in stages.STAGES[: stages.STAGES.index(until) + 1]:
        stages.execute(stage, config, workdir)
    return workdir


def test_pools_and_judgments_come_from_apis(tmp_path, answer, capsys):
    with ApiServer(answer=answer, fault=random_faults(0.2, 1, ['server_error', 'cut', 'rate_limit'])) as server:
        config = remote(server.openai_url)
        workdir = run(config, tmp_path, 'judge')
    pools = {source: workdir.pool('train', source).read() for source in ('weak', 'strong')}
    assert {source: len(pool) for source, pool in pools.items()} == {'weak': 48, 'strong': 16}
    for pool in pools.values():
        assert all(s.finish == 'stop' and not s.tokens and s.num_tokens and s.prompt_tokens for s in pool)
    graded = [g.correct for source in pools for g in workdir.grades('train', source).read()]
    assert 0 < sum(graded) < len(graded)
    judged = [j.verdict for source in pools for j in workdir.judgments('train', source, 'judge').read()]
    assert judged == ['valid'] * sum(graded)
    accounts = workdir.ledger.accounts()
    assert accounts['weak'].requests == 48 and accounts['judge'].requests == sum(graded) and accounts['judge'].usd == 0
    assert workdir.done_info('sample')['weak']['usd'] == accounts['weak'].usd > 0
    # The prompt that the pool was asked with says so, and a base model's page has no <bos> of its own there.
    told = json.loads((tmp_path / 'pools' / 'train' / 'weak' / 'prompt.json').read_text())
    assert told['style'] == 'apipage' and told['text'].endswith('Q: {question}\nA:') and told['stop_ids'] == []
    capsys.readouterr()
    status.print_table(workdir)
    assert 'weak' in capsys.readouterr().out.partition('API')[2]
    rows = ledger.paid(tmp_path / 'ledger.jsonl', [{'model': 'weak', 'usd': 0.25}, {'model': 'weak', 'usd': 0.5}])
    assert {row['model']: row['planned'] for row in rows} == {'judge': '', 'strong': '', 'weak': 0.75}


def test_a_limit_stops_the_stage_and_the_same_command_goes_on(tmp_path, answer):
    with ApiServer(answer=answer) as server:
        config = remote(server.openai_url)
        with pytest.raises(UserError, match='--max-spend'):
            run(config, tmp_path, 'sample', max_spend=0.006)
        spent = sum(1e-6 * b.input + 1e-5 * b.output for b in server.billed)
        assert 0.004 < spent <= 0.006
        count = len(server.billed)
        workdir = run(config, tmp_path, 'sample')
        assert len(server.billed) == 64 and count < 64
    assert len(workdir.pool('train', 'weak')) == 48


def test_what_cannot_be_asked_is_refused_before_anything_is_made(tmp_path, answer):
    with ApiServer(answer=answer, key='right', models=['weak', 'strong', 'j']) as server:
        with pytest.raises(UserError, match='config.models.strong: .* answers 401'):
            run(remote(server.openai_url), tmp_path / 'key', 'prepare')
        os.environ['A_KEY_OF_MINE'] = 'right'
        try:
            mine = {f'models.{name}.api.key': 'A_KEY_OF_MINE' for name in ('weak', 'strong')}
            mine['judge.model.api.key'] = 'A_KEY_OF_MINE'
            run(remote(server.openai_url, **mine), tmp_path / 'good', 'prepare')
            other = {'models.weak.init': f'openai:week@{server.openai_url}'}
            with pytest.raises(UserError, match='config.models.weak: .* answers 404'):
                run(remote(server.openai_url, **mine, **other), tmp_path / 'name', 'prepare')
        finally:
            del os.environ['A_KEY_OF_MINE']
    assert not (tmp_path / 'key' / 'data').exists() and not (tmp_path / 'name' / 'data').exists()
    assert 'right' not in (tmp_path / 'good' / 'config.json').read_text().replace('"right', '')


def api(config, name, init, **fields):
    config_schema.use_api(config, name, init)
    config.models[name].update(fields)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda c: api(c, 'weak', 'gemini:flash'), 'config.models.weak.init'),  # it is to be trained, too
        (lambda c: api(c, 'student', 'openai:x@http://h/v1'), 'config.roles.trained without this model'),
        (lambda c: api(c, 'weak', 'gemini:a b'), 'config.models.weak.init: '),
        (lambda c: api(c, 'weak', 'gemini:flash', variant='tiny_weak'), 'config.models.weak.variant'),
        (lambda c: api(c, 'weak', 'gemini:flash', chat=False), 'config.models.weak.chat'),
        (lambda c: api(c, 'weak', 'openai:gpt'), 'config.sampling.top_k is 3'),
        (lambda c: api(c, 'weak', 'openai:gpt', temperature=1.0, top_k=4), 'config.models.weak.top_k is 4'),
        (lambda c: c.models.weak.api.update({'at_once': 0}), 'config.models.weak.api.at_once'),
        (lambda c: c.models.weak.api.update({'per_minute': -1}), 'config.models.weak.api.per_minute'),
    ],
)
def test_what_cannot_work_is_named(change, said):
    config = config_lib.load('configs/arithmetic.py:size=smoke')
    change(config)
    with pytest.raises(UserError) as caught:
        config_lib.finalize(config)
    assert said in str(caught.value) and '\n' not in str(caught.value)


def test_a_size_that_nobody_knows_cannot_match_a_budget():
    config = config_lib.load('configs/math_gemini.py')
    assert config_lib.finalize(config).budget.ratio == 4.0
    config.budget.lens = 'params'
    with pytest.raises(UserError, match='config.models.weak.params_nominal is 0.0: .* the size is unknown'):
        config_lib.finalize(config)


def test_the_pairs_of_the_paper_and_of_today():
    paper = config_lib.finalize(config_lib.load('configs/math_gemini.py:pair=paper'))
    assert paper.budget.ratio == 35.0 and paper.budget.weak.low == 35.0
    assert 0.15 * paper.budget.ratio == pytest.approx(5.25)  # five, in the paper
    lite = config_lib.finalize(config_lib.load('configs/math_gemini.py:pair=flash_lite,batch=true'))
    assert lite.budget.ratio == 25.0 and config_lib.price(lite, 'weak').batch_discount == 0.5
    # A discount counts where jobs are asked for, and there alone.
    assert config_lib.price(config_lib.finalize(config_lib.load('configs/math_gemini.py')), 'weak').batch_discount == 0
    assert str(endpoints.parse(lite.models.strong.init)) == 'gemini:gemini-2.5-pro'


def test_what_has_no_weights_here_is_not_loaded(tmp_path):
    config = remote('http://127.0.0.1:9/v1')
    with pytest.raises(UserError, match='--model=weak: openai:weak@.* is behind an API and has no weights here'):
        models.load('weak', config, Workdir(tmp_path))
