import itertools

import pytest

from cosample_jax.errors import UserError
from cosample_jax.records import Sample, Store
from cosample_jax.sampling.pool import fill_pool
from cosample_jax.sampling.rows import Finished
from cosample_jax.sampling.schedule import Request

REQUESTS = [Request(f'p{i}', k, [1, 2, 3]) for i in range(4) for k in range(3)]


def text(ids):
    return '-'.join(map(str, ids))


class Engine:
    """Draws what the request alone decides, last request first; dies after `dies_after` samples."""

    def __init__(self, dies_after=None, error=KeyboardInterrupt):
        self.drawn = []
        self.dies_after, self.error = dies_after, error

    def sample(self, requests, should_stop):
        for request in reversed(list(requests)):
            if len(self.drawn) == self.dies_after:
                raise self.error
            self.drawn.append(request)
            number = int(request.problem_id[1:]) * 10 + request.sample_index
            yield Finished(request.problem_id, request.sample_index, [number, 7], 'stop', -1.5, -0.5, 3, 3)


class Bar:
    def __init__(self):
        self.count, self.tokens = 0, 0

    def advance(self, count, tokens):
        self.count, self.tokens = self.count + count, self.tokens + tokens


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / 'pool', Sample)


def parts(store):
    return sorted(part.name for part in store.directory.iterdir())


def fill(store, engine, **kwargs):
    fill_pool(store, engine, REQUESTS, text=text, model='weak', **kwargs)


def test_everything_about_a_sample_is_kept(store):
    bar = Bar()
    fill(store, Engine(), bar=bar)
    assert len(store) == len(REQUESTS)
    assert store.read()[5] == Sample('p1', 'weak', 2, '12-7', [12, 7], 'stop', -1.5, -0.5, 3, 3)
    assert (bar.count, bar.tokens) == (12, 36)


def test_parts_are_committed_by_count(store):
    fill(store, Engine(), commit_every=5)
    assert len(parts(store)) == 3


def test_parts_are_committed_by_time(store):
    fill(store, Engine(), commit_seconds=40.0, clock=itertools.count(0, 10).__next__)
    assert len(parts(store)) > 2
    assert len(store) == len(REQUESTS)


@pytest.mark.parametrize('dies_after', [0, 1, 7])
def test_a_run_interrupted_and_resumed_is_a_run(store, tmp_path, dies_after):
    fill(Store(tmp_path / 'whole', Sample), Engine())
    first, second = Engine(dies_after), Engine()
    with pytest.raises(KeyboardInterrupt):
        fill(store, first, commit_every=5)
    assert len(store) == dies_after
    bar = Bar()
    fill(store, second, bar=bar)
    assert len(first.drawn) + len(second.drawn) == len(REQUESTS)
    assert bar.count == len(second.drawn)
    assert store.read() == Store(tmp_path / 'whole', Sample).read()


def test_a_kill_loses_what_was_not_committed_and_nothing_else(store, tmp_path):
    class Killed(BaseException):
        pass

    original, store.append = store.append, lambda batch: (_ for _ in ()).throw(Killed)
    with pytest.raises(Killed):
        fill(store, Engine(), commit_every=5)
    store.append = original
    assert len(store) == 0
    fill(store, Engine())
    fill(Store(tmp_path / 'whole', Sample), Engine())
    assert store.read() == Store(tmp_path / 'whole', Sample).read()


def test_a_full_pool_draws_nothing(store):
    fill(store, Engine())
    before, engine = parts(store), Engine()
    fill(store, engine)
    assert engine.drawn == []
    assert parts(store) == before


def test_another_model_in_the_same_store_is_not_ours(store):
    fill(store, Engine())
    fill_pool(store, Engine(), REQUESTS[:2], text=text, model='strong')
    assert len(store) == len(REQUESTS) + 2


def test_a_damaged_part_is_named_and_drawn_again_only_when_it_is_deleted(store):
    fill(store, Engine(), commit_every=5)
    whole, damaged = store.read(), store.directory / parts(store)[1]
    damaged.write_bytes(damaged.read_bytes()[:-40])
    engine = Engine()
    with pytest.raises(UserError, match=f'{damaged.name} is corrupt or truncated .*: delete it, then run the same'):
        fill(store, engine)
    assert engine.drawn == []
    damaged.unlink()
    others = {part: (store.directory / part).read_bytes() for part in parts(store)}
    fill(store, engine)
    assert len(engine.drawn) == 5 and store.read() == whole
    assert all((store.directory / part).read_bytes() == before for part, before in others.items())
