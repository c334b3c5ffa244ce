"""Rows and pages through random runs: nothing is shared that must not be, nothing is lost, nobody waits for ever."""

import random

import numpy as np
import pytest

from cosample_jax.gemma.pages import MOST_PAGES_PER_BLOCK, PAGES_PER_BLOCK
from cosample_jax.sampling import schedule
from cosample_jax.sampling.schedule import Question, Request, Schedule

PREFIX, LOOP = 5, 3


def questions(rng, layout, samples):
    made = []
    for number in range(25):
        own = rng.randint(0, layout.question_pages * layout.page_size)
        prompt = [2] * (PREFIX + own + 1)
        requests = [Request(f'p{number}', k, prompt) for k in range(rng.choice(samples))]
        made.append(Question(list(range(own)), requests, layout.page_size))
    return made


def check(plan, pages, layout, written):
    """Every page has one owner, and a row's pages cover its question and what it will write, in order."""
    owned: set[tuple] = set()
    for copies in plan._copies:
        for copy in copies:
            assert any(row is not None for row in copy.rows)
            owned |= (new := {(copy.shard, page) for page in copy.pages})
            assert len(new) == len(copy.pages) and max(copy.pages, default=-1) < pages.used
    count = len(owned)
    for row, request in enumerate(plan.requests):
        shard, at = divmod(row, layout.rows)
        table = pages.table[shard, at]
        table = table[table < layout.pages * layout.readers]
        if request is None:
            assert len(table) == 0
            continue
        numbers, readers = table // layout.readers, table % layout.readers
        assert (pages.readers[shard, numbers, readers] == at).all()
        positions = [pages.starts[shard, page] + np.arange(pages.counts[shard, page]) for page in numbers]
        own = pages.first_own[shard, at]
        question = np.concatenate([*positions[:own], []])
        assert question.tolist() == list(range(PREFIX, len(request.prompt) - 1))
        mine = np.concatenate(positions[own:])
        assert mine.tolist() == list(range(len(request.prompt) - 1, len(request.prompt) - 1 + len(mine)))
        assert len(mine) >= min(written[row] + LOOP, layout.own_pages * layout.page_size)
        owned |= (new := {(shard, page) for page in numbers[own:]})
        count += len(new)
        assert numbers.max() < pages.used
    assert len(owned) == count
    assert ((pages.readers < layout.rows).any(-1).sum()) == count  # and nobody reads any other


@pytest.mark.parametrize(('shards', 'slots'), [(1, 1), (1, 6), (2, 8), (4, 32)])
@pytest.mark.parametrize('samples', [(1,), (1, 2, 7)], ids=['one', 'several'])
def test_random_runs(shards, slots, samples):
    rng = random.Random(slots)
    layout = schedule.layout(slots, shards, question=70, max_new_tokens=40, shared=samples != (1,))
    asked = questions(rng, layout, samples)
    every = [request for question in asked for request in question.waiting]
    plan = Schedule(layout, PREFIX, asked)
    written, ends, begun, visits = np.zeros(slots, int), np.zeros(slots, int), [], 0
    while True:
        started, made = plan.fill()
        for row in started:
            written[row], ends[row] = 0, rng.randint(1, 40)
            begun.append(plan.requests[row])
        if all(request is None for request in plan.requests):
            break
        assert not plan.is_waiting() or sum(r is not None for r in plan.requests) >= -(-slots // 4)
        pages = plan.pages(written, LOOP)
        check(plan, pages, layout, written)
        written += LOOP
        for row, request in enumerate(plan.requests):
            if request is not None and written[row] >= ends[row]:
                plan.release(row)
        visits += 1
    assert begun == sorted(begun, key=every.index) and len(begun) == len(every)
    assert visits * slots * LOOP < 3 * 25 * 40 * max(samples) + 60 * slots


def test_a_question_is_copied_once_for_its_readers():
    layout = schedule.layout(8, 1, question=20, max_new_tokens=40, shared=True)
    request = [Request('p', k, [2] * 20) for k in range(8)]
    plan = Schedule(layout, PREFIX, [Question([1] * 14, request, layout.page_size)])
    started, made = plan.fill()
    assert len(started) == 8 and len(made) == 2
    plan.release(0)
    assert plan.fill() == ([], [])


def test_pages_in_use_lie_together():
    """Rows that come and go for a long time do not drive the used pages up to the end of the pool."""
    rng = random.Random(0)
    layout = schedule.layout(32, 1, question=10, max_new_tokens=256, shared=True)
    asked = [Question([1] * 4, [Request(f'p{n}', k, [2] * 10) for k in range(4)], layout.page_size) for n in range(90)]
    plan, written, used = Schedule(layout, PREFIX, asked), np.zeros(32, int), []
    ends = np.zeros(32, int)
    while plan.is_waiting():
        for row in plan.fill()[0]:
            written[row], ends[row] = 0, rng.randint(16, 256)
        pages = plan.pages(written, 8)
        used.append(int(pages.used))
        written += 8
        for row in np.flatnonzero(written >= ends):
            if plan.requests[row] is not None:
                plan.release(row)
    in_use = (pages.readers < 32).any(-1).sum()
    assert np.mean(used[10:]) < 1.35 * in_use < 0.85 * layout.pages


@pytest.mark.parametrize('slots', [1, 7, 64, 128, 1000])
def test_pools_are_whole_blocks_of_what_the_device_reads_at_once(slots):
    pages = schedule.layout(slots, 1, question=300, max_new_tokens=512, shared=True).pages
    assert pages % PAGES_PER_BLOCK == 0
    assert pages < 512 or pages % MOST_PAGES_PER_BLOCK == 0
    assert schedule.layout(slots, 1, question=300, max_new_tokens=512, shared=False).pages > pages or slots == 1


def test_rows_of_a_small_model_share_only_questions_longer_than_samples():
    def readers(question, **of):
        return schedule.layout(8, 1, question, max_new_tokens=100, **{'shared': True, 'unrolled': True} | of).readers

    assert readers(128) == 1 < readers(129)
    assert readers(128, unrolled=False) == readers(129)
    assert readers(129, shared=False) == 1
