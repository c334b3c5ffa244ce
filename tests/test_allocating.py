"""Allocations on the shipped models: drawn in rounds, graded, gone on with after a kill."""

import shutil

import pytest

from cosample_jax import allocating, cells, cli
from cosample_jax.records import read_json
from cosample_jax.sampling import decode
from cosample_jax.stages import sample
from cosample_jax.workdir import Workdir
from cosample_jax.writers import Writer

AMOUNTS = {'strong': 1.0, 'weak': 1.0}


@pytest.fixture(scope='module')
def prepared(tmp_path_factory, repository):
    """A directory with problems and models, and its configuration."""
    root = tmp_path_factory.mktemp('run') / 'wd'
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        flags = ['--config=configs/arithmetic.py:size=smoke', f'--workdir={root}']
        assert cli.main(['prepare', *flags]) == 0 and cli.main(['pretrain', *flags]) == 0
        yield root, cli.parse_flags('sample', flags).config


@pytest.fixture
def workdir(prepared, tmp_path):
    return Workdir(shutil.copytree(prepared[0], tmp_path / 'wd'))


@pytest.fixture(scope='module')
def allocated(prepared):
    """(workdir, document, programs that decode after each call for samples) of an adaptive allocation."""
    root, config = prepared
    workdir = Workdir(shutil.copytree(root, root.parent / 'allocated'))
    compiled, fill = [], Writer.fill

    def counting(writer, *args):
        fill(writer, *args)
        compiled.append((writer.name, decode.decode._cache_size()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Writer, 'fill', counting)
        document = allocating.allocate(config, workdir, 'mine', 'adaptive', AMOUNTS)
    return workdir, document, compiled


def samples(workdir, source):
    return {(s.problem_id, s.sample_index): (s.text, s.logprob) for s in workdir.pool('train', source).read()}


def test_the_budget_is_spent_in_rounds(allocated):
    _, document, _ = allocated
    spent = [each['spent'] for each in document['rounds']]
    assert len(spent) > 5 and spent == sorted(spent)
    assert document['budget'] == 16 and spent[-1] == document['spent'] == pytest.approx(16, abs=1 / 3)
    drawn = {source: sum(document['counts'][source].values()) for source in AMOUNTS}
    assert drawn['weak'] / 3 + drawn['strong'] == pytest.approx(document['spent'])
    for source, count in drawn.items():
        assert sum(each['samples'][source] for each in document['rounds']) == count > 0


def test_it_is_written_and_the_pools_hold_the_first_samples_of_each_problem(allocated):
    workdir, document, _ = allocated
    assert read_json(workdir.path('allocations', 'mine.json')) == document
    for source, counts in document['counts'].items():
        assert list(counts) == [p.id for p in workdir.problems('train')]
        assert set(samples(workdir, source)) == {(id, index) for id, n in counts.items() for index in range(n)}


def test_solved_problems_and_flops_are_those_of_the_pools(allocated, prepared):
    workdir, document, _ = allocated
    grades = [grade for source in AMOUNTS for grade in workdir.grades('train', source).read()]
    assert document['solved'] == len({g.problem_id for g in grades if g.correct}) > 1
    tokens = {source: sum(s.num_tokens for s in workdir.pool('train', source).read()) for source in AMOUNTS}
    per_token = prepared[1].budget.flops_per_token
    assert document['flops'] == tokens['weak'] * per_token.weak + tokens['strong'] * per_token.strong


def test_no_round_but_the_first_of_a_source_compiles_the_loop(allocated):
    *_, compiled = allocated
    seen, before = set(), None
    for name, count in compiled:
        assert name not in seen or count == before, compiled
        seen.add(name)
        before = count
    assert len(compiled) > 5 and seen == set(AMOUNTS)


def test_the_samples_are_those_that_the_sample_stage_draws(allocated, prepared, workdir):
    sample.run(prepared[1], workdir)
    for source in AMOUNTS:
        ours, theirs = samples(allocated[0], source), samples(workdir, source)
        shared = ours.keys() & theirs.keys()
        assert len(shared) > 4 and all(ours[key] == theirs[key] for key in shared)


@pytest.mark.parametrize('dies_at', [0, 3])
def test_a_killed_allocation_goes_on_to_the_same(allocated, prepared, workdir, monkeypatch, dies_at):
    """In the middle of a round: some of its samples are there, and not graded."""
    whole, document, _ = allocated
    fill, fills = Writer.fill, []

    def dying(writer, requests, bar):
        fills.append(writer.name)
        if len(fills) <= dies_at:
            return fill(writer, requests, bar)
        fill(writer, requests[: len(requests) // 2], bar)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Writer, 'fill', dying)
        allocating.allocate(prepared[1], workdir, 'mine', 'adaptive', AMOUNTS)
    assert not workdir.path('allocations', 'mine.json').exists()
    assert allocating.allocate(prepared[1], workdir, 'mine', 'adaptive', AMOUNTS) == document
    for source in AMOUNTS:
        assert samples(workdir, source) == samples(whole, source)


def test_a_pool_that_is_deep_enough_answers_without_a_model(allocated, prepared, monkeypatch):
    workdir, document, _ = allocated
    monkeypatch.setattr(Writer, 'engine', property(lambda self: pytest.fail('a model was loaded')))
    assert allocating.allocate(prepared[1], workdir, 'again', 'adaptive', AMOUNTS) == document


def test_one_model_at_a_time_is_in_memory(prepared, workdir, monkeypatch):
    writers, fill = [], Writer.fill

    def watching(writer, *args):
        writers.append(writer)
        fill(writer, *args)
        assert sum(each.is_loaded for each in set(writers)) == 1

    monkeypatch.setattr(Writer, 'fill', watching)
    allocating.allocate(prepared[1], workdir, 'mine', 'cascade', AMOUNTS)
    assert len({writer.name for writer in writers}) == 2


def test_uniform_is_what_the_budgets_of_the_paper_are(prepared, workdir):
    _, config = prepared
    document = allocating.allocate(config, workdir, 'mine', 'uniform', {'weak': 2.0})
    counts = {p.id: cells.sample_count(config, 'weak', 'high', p.id) for p in workdir.problems('train')}
    assert config.budget.strong.high == 2 and document['counts'] == {'weak': counts}
